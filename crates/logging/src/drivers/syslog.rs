//! `syslog`: lines to the syslog daemon of this machine or another one.
//!
//! Source: Moby `daemon/logger/syslog` (options, error texts). Sending: crate `relay`.

use crate::{Address, Driver, Options, address, options::ATTRIBUTES};
use base::{Error, Result};
use std::path::PathBuf;

pub(super) struct Syslog;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Without a host, as the C library writes to the local daemon.
    Unix,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, seconds.
    Rfc5424,
    /// RFC 5424, microseconds.
    Rfc5424Micro,
}

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `None`: this machine's daemon, wherever it listens.
    pub address: Option<Address>,
    /// 0 to 23.
    pub facility: u8,
    /// How a line is written.
    pub form: Form,
    /// Authorities for TLS, PEM.
    pub authorities: Option<PathBuf>,
    /// Own certificate and key for TLS, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Believe every certificate.
    pub skip_verify: bool,
}

impl Settings {
    /// Reads the options.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    pub fn parse(options: &Options) -> Result<Self> {
        let path = |name: &str| options.text(name).filter(|t| !t.is_empty()).map(PathBuf::from);
        let identity = match (path("syslog-tls-cert"), path("syslog-tls-key")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => {
                return Err(Error::invalid(
                    "syslog-tls-cert and syslog-tls-key must be given together",
                ));
            }
        };
        Ok(Self {
            address: parse_address(options.text("syslog-address").unwrap_or_default())?,
            facility: facility(options.text("syslog-facility").unwrap_or_default())?,
            form: match options.text("syslog-format").unwrap_or_default() {
                "" => Form::Unix,
                "rfc3164" => Form::Rfc3164,
                "rfc5424" => Form::Rfc5424,
                "rfc5424micro" => Form::Rfc5424Micro,
                _ => return Err(Error::invalid("Invalid syslog format")),
            },
            authorities: path("syslog-tls-ca-cert"),
            identity,
            // Given at all is enough for Docker; only `false` says no here.
            skip_verify: options.text("syslog-tls-skip-verify").is_some_and(|t| t != "false"),
        })
    }
}

fn parse_address(text: &str) -> Result<Option<Address>> {
    if text.is_empty() {
        return Ok(None);
    }
    let malformed =
        || Error::invalid(format!("syslog-address should be in form proto://address, got {text}"));
    let (scheme, rest) = address::scheme(text).ok_or_else(malformed)?;
    let host = || address::host_port(rest, Some(514));
    Ok(Some(match scheme {
        "udp" => Address::Udp(host()?),
        "tcp" => Address::Tcp(host()?),
        "tcp+tls" => Address::Tls(host()?),
        "unix" => Address::Unix(rest.into()),
        "unixgram" => Address::UnixDatagram(rest.into()),
        _ => return Err(malformed()),
    }))
}

fn facility(text: &str) -> Result<u8> {
    if text.is_empty() {
        return Ok(3);
    }
    let named = FACILITIES.iter().position(|name| *name == text);
    let number = named.or_else(|| text.parse().ok()).filter(|n| *n < FACILITIES.len());
    number
        .and_then(|n| u8::try_from(n).ok())
        .ok_or_else(|| Error::invalid("invalid syslog facility"))
}

impl Driver for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn check(&self, options: &Options) -> Result<()> {
        let known = [
            "syslog-address",
            "syslog-facility",
            "syslog-format",
            "syslog-tls-ca-cert",
            "syslog-tls-cert",
            "syslog-tls-key",
            "syslog-tls-skip-verify",
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
            Syslog.check(&options).and_then(|()| Settings::parse(&options))
        };
        let got =
            parse(&[("syslog-address", "tcp+tls://h"), ("syslog-facility", "local3")]).unwrap();
        assert_eq!(got.address, Some(Address::Tls("h:514".into())));
        assert_eq!((got.facility, got.form), (19, Form::Unix));
        assert_eq!(parse(&[("syslog-facility", "7")]).unwrap().facility, 7);
        for (option, value, want) in [
            ("syslog-facility", "24", "invalid syslog facility"),
            ("syslog-facility", "loud", "invalid syslog facility"),
            ("syslog-format", "x", "Invalid syslog format"),
            (
                "syslog-address",
                "h:514",
                "syslog-address should be in form proto://address, got h:514",
            ),
            ("x", "1", "unknown log opt 'x' for syslog log driver"),
        ] {
            assert_eq!(parse(&[(option, value)]).unwrap_err().to_string(), want);
        }
    }
}
