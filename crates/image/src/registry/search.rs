//! `docker search`: the old search endpoint, which Docker Hub and registries with an index still serve.

use super::{ANSWER_BYTES, Credentials, Failed, Registries, Settings, repository::exchange};
use base::{Error, Result};
use fetch::Request;
use http::Method;
use serde::Deserialize;

/// One repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Stars.
    pub star_count: i64,
    /// Whether it is one of the curated.
    pub is_official: bool,
    /// Whether it is built from a repository; long gone at Docker Hub.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    results: Option<Vec<Found>>,
}

/// Splits `host:5000/term` into registry and term; a term without a host is Docker Hub's.
pub fn hosts_and_term(text: &str) -> (String, String) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains('.') || first.contains(':') || first == "localhost" =>
        {
            (super::credentials::host_of(first), rest.to_owned())
        }
        _ => ("docker.io".to_owned(), text.strip_prefix("library/").unwrap_or(text).to_owned()),
    }
}

impl Registries {
    /// Looks for repositories.
    ///
    /// # Errors
    /// `Invalid` for a term that makes no sense; when the registry refuses or has no search.
    pub async fn search(
        &self,
        text: &str,
        limit: u32,
        credentials: &Credentials,
    ) -> Result<Vec<Found>> {
        if text.contains("://") {
            return Err(Error::invalid(format!(
                "invalid repository name: repository name ({text}) should not have a scheme"
            )));
        }
        let (domain, term) = hosts_and_term(text);
        self.settings().permit(&domain, "")?;
        let host = if domain == "docker.io" { "index.docker.io" } else { Settings::host(&domain) };
        let scopes = ["registry:catalog:search".to_owned()];
        let mut failed: Option<Error> = None;
        for endpoint in self.direct(host, "")? {
            let url = format!("{}/v1/search?q={}&n={limit}", endpoint.base, escape(&term));
            let make = |_: &_| Ok(Request::new(Method::GET, fetch::url::parse(&url)?));
            match exchange(self, &endpoint, credentials, &scopes, &make).await {
                Ok(response) => {
                    let body = response.bytes(ANSWER_BYTES).await.map_err(Error::from)?;
                    let page: Page = serde_json::from_slice(&body).map_err(|e| {
                        Error::internal("error decoding registry search results").caused_by(e)
                    })?;
                    return Ok(page.results.unwrap_or_default());
                }
                Err(Failed::Way(err)) if err.is_unreached() => {
                    failed.get_or_insert_with(|| err.into());
                }
                Err(Failed::Refused(refusal)) if refusal.status != 401 => {
                    return Err(Error::internal(format!(
                        "Unexpected status code {}",
                        refusal.status
                    ))
                    .caused_by(format!("{host} has no search for {term:?}")));
                }
                Err(err) => return Err(err.into()),
            }
        }
        Err(failed.unwrap_or_else(|| Error::unavailable(format!("{host} does not answer"))))
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::hosts_and_term;

    #[test]
    fn a_host_in_front_is_the_registry() {
        let of = |text: &str| hosts_and_term(text);
        assert_eq!(of("nginx"), ("docker.io".into(), "nginx".into()));
        assert_eq!(of("a/b"), ("docker.io".into(), "a/b".into()));
        assert_eq!(of("localhost:5000/a/b"), ("localhost:5000".into(), "a/b".into()));
        assert_eq!(of("index.docker.io/a"), ("docker.io".into(), "a".into()));
    }
}
