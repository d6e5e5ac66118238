//! Where a driver sends output to, as `--log-opt NAME-address=` says it.

use base::{Error, Result};
use std::path::PathBuf;

/// A receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Datagrams to `host:port`.
    Udp(String),
    /// A stream to `host:port`.
    Tcp(String),
    /// The same under TLS.
    Tls(String),
    /// A stream socket in the file system.
    Unix(PathBuf),
    /// A datagram socket in the file system.
    UnixDatagram(PathBuf),
}

/// Splits `scheme://rest`.
pub(crate) fn scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once("://").map(|(scheme, rest)| (scheme, rest.trim_end_matches('/')))
}

/// `host:port`, the port filled in when there is a default.
///
/// # Errors
/// `Invalid` for what is no host and port.
pub(crate) fn host_port(text: &str, default: Option<u16>) -> Result<String> {
    let bad = || Error::invalid(format!("address {text}: want host:port"));
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address without port are inside brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(Error::invalid(format!("address {text}: too many colons in address")));
    }
    let port = match port {
        Some(port) => port.parse::<u16>().map_err(|_| bad())?,
        None => default
            .ok_or_else(|| Error::invalid(format!("address {text}: missing port in address")))?,
    };
    Ok(format!("{}:{port}", if host.is_empty() { "localhost" } else { host }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        let ok = |text: &str| host_port(text, Some(514)).unwrap();
        assert_eq!(ok("a:1"), "a:1");
        assert_eq!(ok("a"), "a:514");
        assert_eq!(ok("[::1]"), "[::1]:514");
        assert_eq!(ok("[::1]:9"), "[::1]:9");
        assert_eq!(ok(":9"), "localhost:9");
        for bad in ["::1", "a:b", "a:99999", "a:b:1"] {
            assert!(host_port(bad, Some(1)).is_err(), "{bad}");
        }
        assert!(host_port("a", None).is_err());
    }
}
