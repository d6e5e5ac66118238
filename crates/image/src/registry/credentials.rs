//! Who somebody is to a registry: the forms of `X-Registry-Auth` and `X-Registry-Config`.

use base::{Error, Result};
use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};

/// Bytes of a header that is decoded at all.
const MOST: usize = 1 << 20;

/// A user with a password, or a token. Never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Config {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    #[serde(alias = "serverAddress")]
    serveraddress: Option<String>,
    #[serde(alias = "identityToken")]
    identitytoken: Option<String>,
    #[serde(alias = "registryToken")]
    registrytoken: Option<String>,
}

/// What somebody shows a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Name; empty for nobody.
    pub username: String,
    /// Password.
    pub password: String,
    /// A refresh token of an earlier login.
    pub identity_token: String,
    /// A token for the registry itself, used as it is.
    pub registry_token: String,
    /// Which registry they are for, as the client wrote it.
    pub server: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl From<Config> for Credentials {
    fn from(config: Config) -> Self {
        let mut made = Self {
            username: config.username.unwrap_or_default(),
            password: config.password.unwrap_or_default(),
            identity_token: config.identitytoken.unwrap_or_default(),
            registry_token: config.registrytoken.unwrap_or_default(),
            server: config.serveraddress.unwrap_or_default(),
        };
        if made.username.is_empty()
            && let Some(auth) = config.auth
            && let Some(decoded) = decode(&auth).and_then(|b| String::from_utf8(b).ok())
            && let Some((user, password)) = decoded.split_once(':')
        {
            made.username = user.to_owned();
            made.password = password.trim_end_matches('\0').to_owned();
        }
        // Docker's marker for "the password is a token".
        if made.username == "<token>" {
            made.identity_token = std::mem::take(&mut made.password);
            made.username.clear();
        }
        made
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.len() > MOST {
        return None;
    }
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let url_safe = text.contains(['-', '_']);
    GeneralPurpose::new(if url_safe { &URL_SAFE } else { &STANDARD }, lenient).decode(text).ok()
}

impl Credentials {
    /// Reads the header `X-Registry-Auth`: base64 of JSON, URL-safe or not, padded or not. What cannot be
    /// read is nobody, as Docker takes it.
    pub fn from_header(header: Option<&str>) -> Self {
        let decoded = header.and_then(decode).filter(|bytes| !bytes.is_empty());
        let config = decoded.and_then(|b| serde_json::from_slice::<Option<Config>>(&b).ok());
        config.flatten().map(Into::into).unwrap_or_default()
    }

    /// Reads the body of `POST /auth`.
    ///
    /// # Errors
    /// `Invalid` when it is no JSON.
    pub fn from_json(body: &[u8]) -> Result<Self> {
        let config: Option<Config> = serde_json::from_slice(body)
            .map_err(|e| Error::invalid("invalid JSON").caused_by(e))?;
        Ok(config.map(Into::into).unwrap_or_default())
    }

    /// Whether they are nobody's.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The value of a basic `Authorization`, when there is a user.
    pub(crate) fn basic(&self) -> Option<String> {
        (!self.username.is_empty()).then(|| {
            let pair = format!("{}:{}", self.username, self.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        })
    }
}

/// Credentials for several registries: `X-Registry-Config`.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<String, Credentials>);

impl Known {
    /// Reads the header; what cannot be read is nobody's.
    pub fn from_header(header: Option<&str>) -> Self {
        let decoded = header.and_then(decode).filter(|bytes| !bytes.is_empty());
        let map = decoded
            .and_then(|b| serde_json::from_slice::<Option<BTreeMap<String, Config>>>(&b).ok());
        let map = map.flatten().unwrap_or_default();
        Self(map.into_iter().map(|(k, v)| (host_of(&k), v.into())).collect())
    }

    /// Adds those for one registry.
    pub fn set(&mut self, domain: &str, credentials: Credentials) {
        self.0.insert(host_of(domain), credentials);
    }

    /// Whether the registry of this domain is known, be it as one for nobody.
    pub fn has(&self, domain: &str) -> bool {
        self.0.contains_key(&host_of(domain))
    }

    /// The credentials for the registry of a reference's domain.
    pub fn of(&self, domain: &str) -> Credentials {
        self.0.get(&host_of(domain)).cloned().unwrap_or_default()
    }
}

/// The registry that a key of credentials or a server address means: without scheme and path, Docker Hub's
/// many names made one.
pub(crate) fn host_of(server: &str) -> String {
    let server = server.trim();
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "" | "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alphabet_is_read() {
        let json = r#"{"username":"u>?","password":"p~~~","serveraddress":"h:5000"}"#;
        for engine in [
            base64::engine::general_purpose::URL_SAFE,
            base64::engine::general_purpose::STANDARD,
            base64::engine::general_purpose::URL_SAFE_NO_PAD,
            base64::engine::general_purpose::STANDARD_NO_PAD,
        ] {
            let got = Credentials::from_header(Some(&engine.encode(json)));
            assert_eq!((got.username.as_str(), got.password.as_str()), ("u>?", "p~~~"));
        }
        for nobody in [None, Some(""), Some("!!"), Some("bnVsbA=="), Some("e30=")] {
            assert!(Credentials::from_header(nobody).is_anonymous(), "{nobody:?}");
        }
    }

    #[test]
    fn the_forms_of_credentials_mean_the_same() {
        let of = |json: &str| Credentials::from_json(json.as_bytes()).unwrap();
        assert_eq!(of(r#"{"auth":"dTpwOnE="}"#).password, "p:q");
        assert_eq!(of(r#"{"username":"<token>","password":"t"}"#).identity_token, "t");
        assert_eq!(of(r#"{"identitytoken":"i"}"#).identity_token, "i");
        assert_eq!(of(r#"{"registrytoken":"r"}"#).registry_token, "r");
        assert_eq!(
            format!("{:?}", of(r#"{"username":"u","password":"secret"}"#)),
            "Credentials { username: \"u\", .. }"
        );
    }

    #[test]
    fn a_map_of_credentials_is_asked_by_registry() {
        let json =
            r#"{"https://index.docker.io/v1/":{"username":"hub"},"H:5000":{"username":"own"}}"#;
        let known =
            Known::from_header(Some(&base64::engine::general_purpose::URL_SAFE.encode(json)));
        assert_eq!(known.of("docker.io").username, "hub");
        assert_eq!(known.of("h:5000").username, "own");
        assert!(known.of("other").is_anonymous());
    }
}
