//! The user's `config.json` and contexts, as docker keeps them in `~/.docker`.
//!
//! Source: docker/cli `cli/config/configfile` (keys), `cli/context/store` (places).

use crate::error::{Fail, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::PathBuf};

/// The keys that commands here look at; others are left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Config {
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    pub ps_format: String,
    pub images_format: String,
    pub detach_keys: String,
    pub current_context: String,
    pub proxies: BTreeMap<String, Proxy>,
    /// Credentials by registry.
    pub auths: BTreeMap<String, serde_json::Value>,
    /// The helper that keeps them instead.
    pub creds_store: String,
    /// Helpers of single registries.
    pub cred_helpers: BTreeMap<String, String>,
    #[serde(skip)]
    folder: PathBuf,
}

/// Proxy settings handed to containers and builds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Proxy {
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub ftp_proxy: String,
    pub all_proxy: String,
}

impl Config {
    /// Reads `config.json` in `folder`, `$DOCKER_CONFIG` or `~/.docker`.
    pub(crate) fn load(folder: Option<&str>) -> Result<Self> {
        let named = |n: &str| std::env::var_os(n).filter(|v| !v.is_empty()).map(PathBuf::from);
        let folder = folder
            .map(PathBuf::from)
            .or_else(|| named("DOCKER_CONFIG"))
            .or_else(|| named("HOME").map(|home| home.join(".docker")))
            .unwrap_or_default();
        let file = folder.join("config.json");
        let mut config = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|e| {
                Fail::new(format!("error loading config file: {}: {e}", file.display()))
            })?,
            Err(_) => Self::default(),
        };
        config.folder = folder;
        Ok(config)
    }

    /// Where it is.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// The engine address of a context.
    pub(crate) fn context_host(&self, name: &str) -> Result<String> {
        let id: String = Sha256::digest(name).iter().map(|b| format!("{b:02x}")).collect();
        let file = self.folder.join("contexts/meta").join(id).join("meta.json");
        let missing = || {
            Fail::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: context {name:?}: context not \
                 found: open {}: no such file or directory",
                file.display()
            ))
        };
        let text = fs::read(&file).map_err(|_| missing())?;
        let meta: serde_json::Value = serde_json::from_slice(&text).map_err(|_| missing())?;
        let host = meta.pointer("/Endpoints/docker/Host").and_then(|h| h.as_str());
        host.map(str::to_owned).ok_or_else(missing)
    }

    /// Environment that containers and builds get for the engine at `host`, lower and upper case.
    pub(crate) fn proxy_environment(&self, host: &str) -> Vec<(String, String)> {
        let Some(proxy) = self.proxies.get(host).or_else(|| self.proxies.get("default")) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, value) in [
            ("HTTP_PROXY", &proxy.http_proxy),
            ("HTTPS_PROXY", &proxy.https_proxy),
            ("NO_PROXY", &proxy.no_proxy),
            ("FTP_PROXY", &proxy.ftp_proxy),
            ("ALL_PROXY", &proxy.all_proxy),
        ] {
            if !value.is_empty() {
                out.push((name.to_owned(), value.clone()));
                out.push((name.to_lowercase(), value.clone()));
            }
        }
        out
    }
}
