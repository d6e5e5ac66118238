//! Finding a plugin by name: a socket, a line in a `.spec` file, or a `.json` file.

use crate::managed::Managed;
use base::{Error, Result};
use fetch::Trust;
use serde::Deserialize;
use std::{
    fmt, fs,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

/// A description of a plugin is some hundred bytes.
const LONGEST: u64 = 64 << 10;

/// Where a plugin listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`, under TLS when there is something to trust.
    Tcp {
        /// `host:port`.
        host: String,
        /// For TLS.
        trust: Option<Trust>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, .. } => write!(f, "tcp://{host}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Description {
    #[serde(default)]
    addr: String,
    #[serde(rename = "TLSConfig", default)]
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tls {
    #[serde(default)]
    insecure_skip_verify: bool,
    #[serde(rename = "CAFile", default)]
    authority: String,
    #[serde(default)]
    cert_file: String,
    #[serde(default)]
    key_file: String,
}

impl From<Tls> for Trust {
    fn from(tls: Tls) -> Self {
        let path = |text: String| (!text.is_empty()).then(|| PathBuf::from(text));
        Self {
            authorities: path(tls.authority).into_iter().collect(),
            identity: path(tls.cert_file).zip(path(tls.key_file)),
            anyone: tls.insecure_skip_verify,
        }
    }
}

/// Looks for a managed plugin that is enabled, then for `NAME.sock`, `NAME/NAME.sock`, `NAME.spec`, `NAME.json` and those
/// in a folder `NAME`.
///
/// # Errors
/// `NotFound`; `Invalid` for a name that is a path, and for a file that says nothing usable.
pub fn find(name: &str, folders: &[PathBuf]) -> Result<Address> {
    if let Some(managed) = Managed::find(name, folders) {
        return parse(&managed.addr, None)
            .ok_or_else(|| Error::internal(format!("plugin {name} listens nowhere")));
    }
    // A managed one that is not enabled.
    if name.contains('/') && name.parse::<base::Reference>().is_ok() {
        return Err(missing(name));
    }
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    if !plain {
        return Err(Error::invalid(format!("invalid plugin name: {name:?}")));
    }
    for folder in folders {
        for place in [folder.clone(), folder.join(name)] {
            let socket = place.join(format!("{name}.sock"));
            if fs::metadata(&socket).is_ok_and(|m| m.file_type().is_socket()) {
                return Ok(Address::Unix(socket));
            }
            let spec = place.join(format!("{name}.spec"));
            if let Some(text) = read(&spec)? {
                return parse(text.trim(), None).ok_or_else(|| malformed(&spec));
            }
            let json = place.join(format!("{name}.json"));
            if let Some(text) = read(&json)? {
                let described: Description =
                    serde_json::from_str(&text).map_err(|e| malformed(&json).caused_by(e))?;
                return parse(&described.addr, described.tls).ok_or_else(|| malformed(&json));
            }
        }
    }
    Err(missing(name))
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("plugin {name:?} not found"))
}

fn malformed(path: &Path) -> Error {
    Error::invalid(format!(
        "{} does not say where the plugin listens: want unix:///path or tcp://host:port",
        path.display()
    ))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() <= LONGEST => fs::read_to_string(path)
            .map(Some)
            .map_err(|e| Error::io(format!("cannot read {}", path.display()), e)),
        Ok(_) => Err(malformed(path)),
        Err(_) => Ok(None),
    }
}

fn parse(text: &str, tls: Option<Tls>) -> Option<Address> {
    let (scheme, rest) = text.split_once("://")?;
    let rest = rest.trim_end_matches('/');
    match scheme {
        "unix" if rest.starts_with('/') => Some(Address::Unix(rest.into())),
        "tcp" | "http" | "https" => {
            let host = match (rest.contains(':'), scheme) {
                (true, _) => rest.to_owned(),
                (false, "http") => format!("{rest}:80"),
                (false, "https") => format!("{rest}:443"),
                (false, _) => return None,
            };
            let trust = match (tls, scheme) {
                (Some(tls), _) => Some(tls.into()),
                (None, "https") => Some(Trust::default()),
                (None, _) => None,
            };
            Some(Address::Tcp { host, trust })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_come_before_files_and_folders_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().join("run"), dir.path().join("etc")];
        folders.iter().for_each(|f| fs::create_dir(f).unwrap());
        let at = |name: &str| find(name, &folders);
        assert_eq!(at("a").unwrap_err().to_string(), "plugin \"a\" not found");
        fs::write(folders[1].join("a.spec"), "tcp://h:1\n").unwrap();
        assert_eq!(at("a").unwrap(), Address::Tcp { host: "h:1".into(), trust: None });
        let _socket = UnixListener::bind(folders[0].join("a.sock")).unwrap();
        assert_eq!(at("a").unwrap(), Address::Unix(folders[0].join("a.sock")));
        fs::create_dir(folders[0].join("b")).unwrap();
        let _inner = UnixListener::bind(folders[0].join("b/b.sock")).unwrap();
        assert_eq!(at("b").unwrap(), Address::Unix(folders[0].join("b/b.sock")));
        let text = r#"{"Name": "c", "Addr": "https://h", "TLSConfig": {"CAFile": "/ca", "CertFile": "/c", "KeyFile": "/k"}}"#;
        fs::write(folders[1].join("c.json"), text).unwrap();
        let Address::Tcp { host, trust: Some(trust) } = at("c").unwrap() else { panic!("TLS") };
        assert_eq!((host.as_str(), trust.authorities), ("h:443", vec!["/ca".into()]));
        assert_eq!(trust.identity, Some(("/c".into(), "/k".into())));
        for (name, text) in [("d", "nowhere"), ("e", "tcp://h"), ("f", "unix://relative")] {
            fs::write(folders[1].join(format!("{name}.spec")), text).unwrap();
            assert_eq!(at(name).unwrap_err().kind(), base::Kind::Invalid, "{text}");
        }
        assert_eq!(at("a/b").unwrap_err().to_string(), "plugin \"a/b\" not found");
        for bad in ["", "../x", "a//b", ".x"] {
            assert_eq!(at(bad).unwrap_err().kind(), base::Kind::Invalid, "{bad}");
        }
    }
}
