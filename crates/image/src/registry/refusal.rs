//! A registry's "no": status, code and message, and what they mean to whoever asked.

use base::{Error, Kind, Reference};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// Bytes of an error's body that are looked at.
const BODY_BYTES: usize = 64 << 10;
/// Characters of a foreign text that are shown.
const SHOWN: usize = 500;
/// The longest wait that a registry may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// An answer that is no.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Code of the distribution specification, `MANIFEST_UNKNOWN`; empty when the body had none.
    pub code: String,
    /// Its message.
    pub message: String,
    /// `Get "https://host/v2/..."`.
    pub asked: String,
    /// How long the registry asks to wait.
    pub retry_after: Option<Duration>,
}

/// Why a request to a registry came to nothing.
#[derive(Debug)]
pub enum Failed {
    /// The registry said no.
    Refused(Refusal),
    /// The way to it broke.
    Way(fetch::Error),
    /// Its answer is not what the protocol allows.
    Wrong(Error),
}

impl From<fetch::Error> for Failed {
    fn from(err: fetch::Error) -> Self {
        Self::Way(err)
    }
}

impl From<Error> for Failed {
    fn from(err: Error) -> Self {
        Self::Wrong(err)
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<One>,
    #[serde(default)]
    details: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads an answer whose status is an error.
    pub(super) async fn read(asked: String, response: fetch::Response) -> Self {
        let status = response.status().as_u16();
        let wait = response.header(http::header::RETRY_AFTER).and_then(|v| v.trim().parse().ok());
        let body = response.beginning(BODY_BYTES).await;
        let mut refusal = Self {
            status,
            code: String::new(),
            message: String::new(),
            asked,
            retry_after: wait.map(Duration::from_secs),
        };
        match serde_json::from_slice::<Body>(&body) {
            Ok(body) => {
                if let Some(first) = body.errors.into_iter().next() {
                    refusal.code = first.code.as_str().unwrap_or_default().to_owned();
                    refusal.message = first.message;
                } else {
                    refusal.message = [body.details, body.message]
                        .into_iter()
                        .find(|t| !t.is_empty())
                        .unwrap_or_default();
                }
            }
            Err(_) => {
                let text = String::from_utf8_lossy(&body);
                // A page of HTML explains nothing here.
                if !text.trim_start().starts_with('<') {
                    refusal.message = text.trim().to_owned();
                }
            }
        }
        refusal.code = cut(&refusal.code);
        refusal.message = cut(&refusal.message);
        refusal
    }

    /// Whether the same request may be granted later.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
    }

    /// How long to wait before asking again, when the registry says a bearable time.
    pub fn wait(&self) -> Option<Duration> {
        self.retry_after.filter(|wait| *wait <= LONGEST_WAIT)
    }

    /// Whether it is the refusal of this code; those without a code are told by status.
    fn is(&self, code: &str, status: u16) -> bool {
        if self.code.is_empty() { self.status == status } else { self.code == code }
    }

    /// The error that Docker makes of it on the way to an image.
    pub fn of_pull(self, reference: &Reference) -> Error {
        let name = reference.familiar_name();
        if self.is("DENIED", 403) {
            let text = format!(
                "pull access denied for {name}, repository does not exist or may require 'docker login'"
            );
            return Error::not_found(text).caused_by(self.words());
        }
        if self.is("MANIFEST_UNKNOWN", 404) {
            return Error::not_found(format!("manifest for {} not found", reference.familiar()))
                .caused_by(self.words());
        }
        if self.code == "NAME_UNKNOWN" {
            return Error::not_found(format!("repository {name} not found"))
                .caused_by(self.words());
        }
        self.into()
    }

    /// `manifest unknown: manifest unknown`: code and message as Docker prints them.
    fn words(&self) -> String {
        let code = self.code.to_ascii_lowercase().replace('_', " ");
        match (code.as_str(), self.message.as_str()) {
            ("", "") => self.status_words(),
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        }
    }

    fn status_words(&self) -> String {
        let status = http::StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|s| s.canonical_reason()).unwrap_or_default();
        format!("received unexpected HTTP status: {} {reason}", self.status)
    }
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(SHOWN).collect()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal.status {
            401 => Kind::Unauthorized,
            403 => Kind::Forbidden,
            404 => Kind::NotFound,
            400..=499 if refusal.status != 429 => Kind::Invalid,
            _ => Kind::Internal,
        };
        if refusal.code.is_empty() {
            Self::new(kind, refusal.asked.clone()).caused_by(refusal.words())
        } else {
            Self::new(kind, refusal.words())
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(refusal) => refusal.into(),
            Failed::Way(err) => err.into(),
            Failed::Wrong(err) => err,
        }
    }
}

impl Failed {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_transient(),
            Self::Way(err) => err.is_transient(),
            Self::Wrong(_) => false,
        }
    }

    /// How long to wait before the next try, when the registry says so.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.wait(),
            _ => None,
        }
    }

    /// The status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// The error that Docker makes of it on the way to an image.
    pub fn of_pull(self, reference: &Reference) -> Error {
        match self {
            Self::Refused(refusal) => refusal.of_pull(reference),
            other => other.into(),
        }
    }
}
