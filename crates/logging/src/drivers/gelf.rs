//! `gelf`: Graylog's messages over UDP or TCP.
//!
//! Source: Moby `daemon/logger/gelf` (options, error texts). Sending: crate `relay`.

use crate::{Address, Driver, Options, address, options::ATTRIBUTES};
use base::{Error, Result};
use std::time::Duration;

pub(super) struct Gelf;

/// How messages over UDP are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// gzip, the default.
    Gzip,
    /// zlib.
    Zlib,
    /// Not at all.
    None,
}

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `Udp` or `Tcp`.
    pub address: Address,
    /// Over UDP only.
    pub compression: Compression,
    /// 0 to 9.
    pub level: u32,
    /// Tries to connect again over TCP before a message is given up.
    pub reconnects: u32,
    /// Time between them.
    pub delay: Duration,
}

impl Settings {
    /// Reads the options.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    pub fn parse(options: &Options) -> Result<Self> {
        let address = parse_address(options.text("gelf-address").unwrap_or_default())?;
        let tcp = matches!(address, Address::Tcp(_));
        for (name, wants_tcp) in [
            ("gelf-compression-type", false),
            ("gelf-compression-level", false),
            ("gelf-tcp-max-reconnect", true),
            ("gelf-tcp-reconnect-delay", true),
        ] {
            if options.text(name).is_some() && tcp != wants_tcp {
                let only = if wants_tcp { "TCP" } else { "UDP" };
                return Err(Error::invalid(format!("{name} is only supported on {only}")));
            }
        }
        let unknown = |name: &str| {
            let value = options.text(name).unwrap_or_default();
            Error::invalid(format!(
                "unknown value {value:?} for log opt {name:?} for gelf log driver"
            ))
        };
        let compression = match options.text("gelf-compression-type") {
            None | Some("gzip") => Compression::Gzip,
            Some("zlib") => Compression::Zlib,
            Some("none") => Compression::None,
            Some(_) => return Err(unknown("gelf-compression-type")),
        };
        let level = match options.text("gelf-compression-level").map(str::parse::<i32>) {
            None => 1,
            // zlib's default.
            Some(Ok(-1)) => 6,
            Some(Ok(level @ 0..=9)) => level.unsigned_abs(),
            Some(_) => return Err(unknown("gelf-compression-level")),
        };
        let natural = |name: &str, default: u32| match options.text(name).map(str::parse::<u32>) {
            None => Ok(default),
            Some(Ok(number)) => Ok(number),
            Some(Err(_)) => Err(Error::invalid(format!("{name} must be a positive integer"))),
        };
        Ok(Self {
            address,
            compression,
            level,
            reconnects: natural("gelf-tcp-max-reconnect", 3)?,
            delay: Duration::from_secs(u64::from(natural("gelf-tcp-reconnect-delay", 1)?)),
        })
    }
}

fn parse_address(text: &str) -> Result<Address> {
    if text.is_empty() {
        return Err(Error::invalid("gelf-address is a required parameter"));
    }
    let (scheme, rest) = address::scheme(text).ok_or_else(|| {
        Error::invalid(format!("gelf-address should be in form proto://address, got {text}"))
    })?;
    if !matches!(scheme, "udp" | "tcp") {
        return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    let host = address::host_port(rest, None)
        .map_err(|_| Error::invalid("gelf: please provide gelf-address as proto://host:port"))?;
    Ok(if scheme == "udp" { Address::Udp(host) } else { Address::Tcp(host) })
}

impl Driver for Gelf {
    fn name(&self) -> &'static str {
        "gelf"
    }

    fn check(&self, options: &Options) -> Result<()> {
        let known = [
            "gelf-address",
            "gelf-compression-type",
            "gelf-compression-level",
            "gelf-tcp-max-reconnect",
            "gelf-tcp-reconnect-delay",
        ];
        options.only(self.name(), &known, ATTRIBUTES)?;
        Settings::parse(options).map(drop)
    }

    fn is_remote(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused_in_dockers_words() {
        let parse = |given: &[(&str, &str)]| {
            let options = Options::of(given);
            Gelf.check(&options).and_then(|()| Settings::parse(&options))
        };
        let got =
            parse(&[("gelf-address", "udp://h:1"), ("gelf-compression-type", "zlib")]).unwrap();
        assert_eq!((got.address, got.compression), (Address::Udp("h:1".into()), Compression::Zlib));
        for (given, want) in [
            (&[][..], "gelf-address is a required parameter"),
            (&[("gelf-address", "h:1")], "gelf-address should be in form proto://address, got h:1"),
            (&[("gelf-address", "unix://x")], "gelf: endpoint needs to be TCP or UDP"),
            (
                &[("gelf-address", "udp://h")],
                "gelf: please provide gelf-address as proto://host:port",
            ),
            (
                &[("gelf-address", "tcp://h:1"), ("gelf-compression-type", "gzip")],
                "gelf-compression-type is only supported on UDP",
            ),
            (
                &[("gelf-address", "udp://h:1"), ("gelf-compression-level", "10")],
                "unknown value \"10\" for log opt \"gelf-compression-level\" for gelf log driver",
            ),
            (
                &[("gelf-address", "tcp://h:1"), ("gelf-tcp-max-reconnect", "-1")],
                "gelf-tcp-max-reconnect must be a positive integer",
            ),
        ] {
            assert_eq!(parse(given).unwrap_err().to_string(), want);
        }
    }
}
