//! Where the daemon listens: the forms of `-H`.

use base::{Error, Result};
use std::path::PathBuf;

/// Docker's port for the API without TLS.
const PLAIN_PORT: u16 = 2375;
/// And with TLS.
const TLS_PORT: u16 = 2376;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
    /// Sockets passed by systemd: all of them, or one by number or name.
    Passed(String),
}

impl Host {
    /// Parses `unix://path`, `tcp://host:port`, `fd://[which]`.
    ///
    /// # Errors
    /// `Invalid` with docker's wording.
    pub(crate) fn parse(text: &str, tls: bool) -> Result<Self> {
        let bad = || Error::invalid(format!("invalid bind address format: {text}"));
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" if rest.is_empty() => Ok(Self::Unix("/var/run/docker.sock".into())),
            "fd" => Ok(Self::Passed(rest.to_owned())),
            "tcp" => {
                let rest = rest.trim_end_matches('/');
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !port.ends_with(']') => (host, port),
                    _ => (rest, ""),
                };
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                let standard = if tls { TLS_PORT } else { PLAIN_PORT };
                let port = if port.is_empty() { Some(standard) } else { port.parse().ok() };
                let spaced = host.contains(|c: char| c.is_whitespace() || c == '/');
                match port {
                    Some(port) if !spaced => Ok(Self::Tcp(format!("{host}:{port}"))),
                    _ => Err(bad()),
                }
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_forms_are_understood() {
        for (text, want) in [
            ("unix:///run/x.sock", Host::Unix("/run/x.sock".into())),
            ("unix://", Host::Unix("/var/run/docker.sock".into())),
            ("tcp://", Host::Tcp("127.0.0.1:2375".into())),
            ("tcp://:2380", Host::Tcp("127.0.0.1:2380".into())),
            ("tcp://0.0.0.0:1/", Host::Tcp("0.0.0.0:1".into())),
            ("tcp://[::1]:7", Host::Tcp("[::1]:7".into())),
            ("tcp://[::1]", Host::Tcp("[::1]:2375".into())),
            ("localhost:9", Host::Tcp("localhost:9".into())),
            ("fd://", Host::Passed(String::new())),
            ("fd://3", Host::Passed("3".into())),
        ] {
            assert_eq!(Host::parse(text, false).unwrap(), want, "{text}");
        }
        assert_eq!(Host::parse("tcp://h", true).unwrap(), Host::Tcp("h:2376".into()));
        for bad in ["npipe://x", "unix://relative", "tcp://a:b", "tcp://a/b:1", "http://x"] {
            assert_eq!(
                Host::parse(bad, true).unwrap_err().to_string(),
                format!("invalid bind address format: {bad}")
            );
        }
    }
}
