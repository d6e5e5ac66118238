//! Who the user is to registries: `auths` of `config.json`, and the helpers that it names.
//!
//! Invariants: the file is written whole and readable by its owner alone; keys that are unknown here stay; a
//! secret reaches a helper by its standard input only.
//! Source: docker/cli `cli/config/configfile`, docker/docker-credential-helpers (protocol).

use crate::{
    config::Config,
    error::{Fail, Result},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use serde_json::{Map, Value, json};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    process::{Command, Stdio},
};

/// The key of Docker Hub in files and helpers.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// One registry's credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub username: String,
    pub password: String,
    /// A refresh token instead of the password.
    pub identity_token: String,
}

impl Credentials {
    fn json(&self, server: &str) -> Value {
        let mut json = json!({ "serveraddress": server });
        for (key, value) in [
            ("username", &self.username),
            ("password", &self.password),
            ("identitytoken", &self.identity_token),
        ] {
            if !value.is_empty() {
                json[key] = value.as_str().into();
            }
        }
        json
    }

    /// The body of `POST /auth`.
    pub(crate) fn login(&self, server: &str) -> Value {
        self.json(server)
    }
}

/// The key of the registry of a reference.
pub(crate) fn key_of(domain: &str) -> &str {
    if domain == "docker.io" { HUB } else { domain }
}

/// The key that a server typed by somebody means: without scheme and path, but for Docker Hub's.
pub(crate) fn key_of_server(server: &str) -> String {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

fn helper_of(config: &Config, key: &str) -> Option<String> {
    let own = config.cred_helpers.get(key).or_else(|| config.cred_helpers.get(&key_of_server(key)));
    own.cloned().or_else(|| Some(config.creds_store.clone()).filter(|s| !s.is_empty()))
}

/// Asks a helper; its answer, or its complaint.
fn ask(helper: &str, verb: &str, input: &str) -> std::result::Result<Vec<u8>, String> {
    // A helper is found by its name alone, never by a path from the file.
    if helper.contains('/') || helper.contains('\0') || input.contains('\0') {
        return Err(format!("invalid credential helper {helper:?}"));
    }
    let program = format!("docker-credential-{helper}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| format!("exec: {program:?}: {}", crate::error::text(&e)))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read is told by its exit.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The stored credentials of a registry, if there are any.
///
/// # Errors
/// When a helper cannot be run.
pub(crate) fn stored(config: &Config, key: &str) -> Result<Option<Credentials>> {
    if key.contains(['\n', '\r']) {
        return Err(Fail::new("invalid registry name"));
    }
    if let Some(helper) = helper_of(config, key) {
        return match ask(&helper, "get", key) {
            Ok(answer) => {
                let json: Value = serde_json::from_slice(&answer)
                    .map_err(|e| Fail::new(format!("error getting credentials: {e}")))?;
                let text = |k: &str| json[k].as_str().unwrap_or_default().to_owned();
                let (username, secret) = (text("Username"), text("Secret"));
                Ok(Some(if username == "<token>" {
                    Credentials { identity_token: secret, ..Credentials::default() }
                } else {
                    Credentials { username, password: secret, identity_token: String::new() }
                }))
            }
            Err(why) if why.contains("credentials not found") => Ok(None),
            Err(why) => Err(Fail::new(format!("error getting credentials - err: {why}"))),
        };
    }
    let entry = config.auths.iter().find(|(k, _)| key_of_server(k) == key_of_server(key));
    Ok(entry.map(|(_, entry)| from_file(entry)))
}

fn from_file(entry: &Value) -> Credentials {
    let text = |k: &str| entry[k].as_str().unwrap_or_default().to_owned();
    let mut found = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
    };
    let pair = STANDARD.decode(text("auth")).ok().and_then(|b| String::from_utf8(b).ok());
    if let Some((user, password)) = pair.as_deref().and_then(|p| p.split_once(':')) {
        found.username = user.to_owned();
        found.password = password.trim_end_matches('\0').to_owned();
    }
    found
}

/// Stores credentials; tells whether they went into the file, where anybody who reads it has them.
///
/// # Errors
/// When the helper or the file does not take them.
pub(crate) fn store(config: &Config, key: &str, credentials: &Credentials) -> Result<bool> {
    if let Some(helper) = helper_of(config, key) {
        let (username, secret) = if credentials.identity_token.is_empty() {
            (credentials.username.as_str(), &credentials.password)
        } else {
            ("<token>", &credentials.identity_token)
        };
        let input = json!({"ServerURL": key, "Username": username, "Secret": secret}).to_string();
        ask(&helper, "store", &input)
            .map_err(|why| Fail::new(format!("error storing credentials - err: {why}")))?;
        return Ok(false);
    }
    change(config, |auths| {
        let mut entry = json!({});
        if credentials.identity_token.is_empty() {
            let pair = format!("{}:{}", credentials.username, credentials.password);
            entry["auth"] = STANDARD.encode(pair).into();
        } else {
            entry["auth"] = STANDARD.encode(format!("{}:", credentials.username)).into();
            entry["identitytoken"] = credentials.identity_token.as_str().into();
        }
        auths.insert(key.to_owned(), entry);
    })?;
    Ok(true)
}

/// Forgets credentials; whether there were any.
///
/// # Errors
/// When the helper or the file cannot be changed.
pub(crate) fn erase(config: &Config, key: &str) -> Result<bool> {
    if let Some(helper) = helper_of(config, key) {
        return Ok(ask(&helper, "erase", key).is_ok());
    }
    if !config.auths.contains_key(key) {
        return Ok(false);
    }
    change(config, |auths| _ = auths.remove(key))?;
    Ok(true)
}

fn change(config: &Config, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
    let file = config.file();
    let mut whole: Value = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|e| {
            Fail::new(format!("error loading config file: {}: {e}", file.display()))
        })?,
        Err(_) => json!({}),
    };
    if !whole["auths"].is_object() {
        whole["auths"] = json!({});
    }
    if let Some(auths) = whole["auths"].as_object_mut() {
        change(auths);
    }
    let fail = |e: std::io::Error| {
        Fail::new(format!("cannot write {}: {}", file.display(), crate::error::text(&e)))
    };
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let new = file.with_extension(format!("json.{}", std::process::id()));
    let text = serde_json::to_string_pretty(&whole).map_err(|e| Fail::new(e.to_string()))?;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, &file))
        .map_err(fail)
}

/// The header `X-Registry-Auth` for the registry of `reference`.
///
/// # Errors
/// When a helper cannot be run.
pub(crate) fn header(config: &Config, domain: &str) -> Result<Vec<(String, String)>> {
    let key = key_of(domain);
    let json = stored(config, key)?.unwrap_or_default().json(key);
    Ok(vec![("X-Registry-Auth".into(), URL_SAFE.encode(json.to_string()))])
}

/// The header `X-Registry-Config`: all that is stored, for builds, which may pull from anywhere.
pub(crate) fn all(config: &Config) -> Vec<(String, String)> {
    let mut map = Map::new();
    let keys = config.auths.keys().chain(config.cred_helpers.keys());
    for key in keys {
        if let Ok(Some(found)) = stored(config, key) {
            map.insert(key.clone(), found.json(key));
        }
    }
    if map.is_empty() {
        return Vec::new();
    }
    vec![("X-Registry-Config".into(), URL_SAFE.encode(Value::Object(map).to_string()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_found_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_str().unwrap();
        fs::write(dir.path().join("config.json"), r#"{"psFormat":"x","other":{"kept":1}}"#)
            .unwrap();
        let config = Config::load(Some(folder)).unwrap();
        let alice = Credentials {
            username: "alice".into(),
            password: "a:b".into(),
            ..Credentials::default()
        };
        assert!(store(&config, "h:5000", &alice).unwrap());
        let config = Config::load(Some(folder)).unwrap();
        assert!(stored(&config, "h:5000").unwrap() == Some(alice));
        assert!(stored(&config, "other").unwrap().is_none());
        let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(text.contains("\"kept\": 1") && text.contains("psFormat"));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(config.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(erase(&config, "h:5000").unwrap());
        let config = Config::load(Some(folder)).unwrap();
        assert!(!erase(&config, "h:5000").unwrap());
    }

    #[test]
    fn servers_have_one_key() {
        for hub in ["", "docker.io", "https://index.docker.io/v1/", "index.docker.io"] {
            assert_eq!(key_of_server(hub), HUB);
        }
        assert_eq!(key_of_server("https://h:5000/v2/"), "h:5000");
    }
}
