//! Published ports: what is asked for and what was bound.
//!
//! The words are the API's: a key such as `80/tcp` and bindings with `HostIp` and `HostPort`, where the
//! latter is empty (any free port), a number, or a range to choose from.

use base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number.
    pub fn numbered(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|p| p.number() == number)
    }

    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::invalid(format!("invalid proto: {text}")))
    }
}

/// A port of a container that is to be reached from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host; `None` for the daemon's default (usually all).
    pub host_ip: Option<IpAddr>,
    /// Host ports to choose from; `None` for any free one.
    pub host_ports: Option<RangeInclusive<u16>>,
}

/// A published port that was bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Published {
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host, `0.0.0.0` or `::` for all of a family.
    pub host_ip: IpAddr,
    /// The port of the host; 0 when nothing is translated and the container's own port is open instead.
    pub host_port: u16,
}

impl Publish {
    /// Reads one binding of the API: `key` is `80/tcp` or `80`; `host_ip` and `host_port` as in `PortBinding`.
    ///
    /// # Errors
    /// `Invalid`, with Docker's words.
    pub fn parse(key: &str, host_ip: &str, host_port: &str) -> Result<Self> {
        let (container_port, protocol) = parse_port(key)?;
        let host_ip = match host_ip {
            "" => None,
            text => {
                let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
                Some(
                    bare.parse()
                        .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?,
                )
            }
        };
        let host_ports = match host_port {
            "" | "0" => None,
            text => Some(parse_range(text)?),
        };
        Ok(Self { container_port, protocol, host_ip, host_ports })
    }
}

/// Reads `80/tcp`; without protocol it is TCP.
///
/// # Errors
/// `Invalid`, with Docker's words.
pub fn parse_port(key: &str) -> Result<(u16, Protocol)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let number = number(port).filter(|n| *n != 0);
    let number =
        number.ok_or_else(|| Error::invalid(format!("invalid port specification: {key:?}")))?;
    Ok((number, protocol.parse()?))
}

fn parse_range(text: &str) -> Result<RangeInclusive<u16>> {
    let bad = || Error::invalid(format!("invalid port specification: {text:?}"));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
    if first == 0 || first > last {
        return Err(bad());
    }
    Ok(first..=last)
}

fn number(text: &str) -> Option<u16> {
    // `u16::from_str` would take a sign.
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bindings_of_the_api() {
        let wish = Publish::parse("80/tcp", "", "8080").unwrap();
        assert_eq!((wish.container_port, wish.protocol), (80, Protocol::Tcp));
        assert_eq!((wish.host_ip, wish.host_ports), (None, Some(8080..=8080)));
        let wish = Publish::parse("53/UDP", "127.0.0.1", "5300-5399").unwrap();
        assert_eq!((wish.protocol, wish.host_ports), (Protocol::Udp, Some(5300..=5399)));
        let wish = Publish::parse("80", "[::1]", "0").unwrap();
        assert_eq!((wish.host_ip, wish.host_ports), (Some("::1".parse().unwrap()), None));
    }

    #[test]
    fn what_is_no_binding_is_refused() {
        for (key, ip, port) in [
            ("", "", ""),
            ("0/tcp", "", ""),
            ("80/icmp", "", ""),
            ("80/tcp/udp", "", ""),
            ("+80/tcp", "", ""),
            ("65536", "", ""),
            ("80", "localhost", ""),
            ("80", "", "x"),
            ("80", "", "90-80"),
            ("80", "", "0-80"),
            ("80", "", "80-"),
            ("80", "", "80-90-100"),
        ] {
            let error = Publish::parse(key, ip, port).unwrap_err();
            assert_eq!(error.kind(), base::Kind::Invalid, "{key} {ip} {port}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(key in "\\PC{0,12}", ip in "\\PC{0,12}", port in "\\PC{0,12}") {
            if let Ok(wish) = Publish::parse(&key, &ip, &port) {
                prop_assert!(wish.container_port > 0);
                prop_assert!(wish.host_ports.is_none_or(|r| !r.is_empty()));
            }
        }
    }
}
