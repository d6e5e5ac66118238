//! `fluentd`: the forward protocol over TCP, TLS or a unix socket.
//!
//! Source: Moby `daemon/logger/fluentd` (options, error texts). Sending: crate `relay`.

use crate::{Address, Driver, Options, address, options::ATTRIBUTES};
use base::{Error, Result, units};
use std::time::Duration;

pub(super) struct Fluentd;

/// Where it listens when nothing is said.
const PORT: u16 = 24224;
/// The bounds of `fluentd-async-reconnect-interval`.
const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);

/// What the options say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `Tcp`, `Tls` or `Unix`.
    pub address: Address,
    /// The container may start while nobody listens.
    pub asynchronous: bool,
    /// With `asynchronous`: bytes that wait, at most.
    pub buffer_bytes: u64,
    /// The first pause after a failure; it grows by half each time.
    pub retry_wait: Duration,
    /// Tries before a record is given up.
    pub retries: u64,
    /// Each record is acknowledged.
    pub acknowledged: bool,
    /// Times have nanoseconds.
    pub precise: bool,
    /// Longest wait for the receiver to take bytes.
    pub write_timeout: Option<Duration>,
    /// Longest wait for an acknowledgement.
    pub read_timeout: Option<Duration>,
    /// With `asynchronous`: make the connection anew after this time.
    pub reconnect: Option<Duration>,
}

impl Settings {
    /// Reads the options.
    ///
    /// # Errors
    /// `Invalid` with docker's text.
    pub fn parse(options: &Options) -> Result<Self> {
        let given = |name: &str| options.text(name).filter(|t| !t.is_empty());
        let flag = |name: &str| match given(name) {
            None => Ok(false),
            Some(_) => options.flag(name).map(Option::unwrap_or_default),
        };
        let duration = |name: &str| given(name).map(units::parse_go_duration).transpose();
        let bytes = given("fluentd-buffer-limit").map(units::parse_bytes).transpose()?;
        let retries = given("fluentd-max-retries").map(|text| {
            text.parse::<u64>().map_err(|_| {
                Error::invalid(format!("invalid value for fluentd-max-retries: {text:?}"))
            })
        });
        if given("fluentd-async").is_some() && given("fluentd-async-connect").is_some() {
            return Err(Error::invalid(
                "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'",
            ));
        }
        let reconnect = duration("fluentd-async-reconnect-interval")?.filter(|d| !d.is_zero());
        if reconnect.is_some_and(|d| !RECONNECT.contains(&d)) {
            return Err(Error::invalid(
                "invalid value for fluentd-async-reconnect-interval: value must be between 100ms and 10s",
            ));
        }
        Ok(Self {
            address: parse_address(options.text("fluentd-address").unwrap_or_default())?,
            asynchronous: flag("fluentd-async")? || flag("fluentd-async-connect")?,
            buffer_bytes: bytes.map_or(1 << 20, i64::unsigned_abs),
            retry_wait: duration("fluentd-retry-wait")?.unwrap_or(Duration::from_secs(1)),
            retries: retries.transpose()?.unwrap_or(u64::from(u32::MAX >> 1)),
            acknowledged: flag("fluentd-request-ack")?,
            precise: flag("fluentd-sub-second-precision")?,
            write_timeout: duration("fluentd-write-timeout")?.filter(|d| !d.is_zero()),
            read_timeout: duration("fluentd-read-timeout")?.filter(|d| !d.is_zero()),
            reconnect,
        })
    }
}

fn parse_address(text: &str) -> Result<Address> {
    let bad = |err: Error| {
        Error::invalid(format!("invalid fluentd-address {text}")).caused_by(err.to_string())
    };
    if text.is_empty() {
        return Ok(Address::Tcp(format!("127.0.0.1:{PORT}")));
    }
    let host = |rest: &str| address::host_port(rest, Some(PORT)).map_err(bad);
    match address::scheme(text) {
        None => Ok(Address::Tcp(host(text)?)),
        Some(("tcp", rest)) => Ok(Address::Tcp(host(rest)?)),
        Some(("tls", rest)) => Ok(Address::Tls(host(rest)?)),
        Some(("unix", rest)) if !rest.is_empty() => Ok(Address::Unix(rest.into())),
        Some(("unix", _)) => Err(bad(Error::invalid("path is empty"))),
        Some((other, _)) => Err(bad(Error::invalid(format!("unsupported scheme: '{other}'")))),
    }
}

impl Driver for Fluentd {
    fn name(&self) -> &'static str {
        "fluentd"
    }

    fn check(&self, options: &Options) -> Result<()> {
        let known = [
            "fluentd-address",
            "fluentd-async",
            "fluentd-async-connect",
            "fluentd-async-reconnect-interval",
            "fluentd-buffer-limit",
            "fluentd-max-retries",
            "fluentd-read-timeout",
            "fluentd-request-ack",
            "fluentd-retry-wait",
            "fluentd-sub-second-precision",
            "fluentd-write-timeout",
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
            Fluentd.check(&options).and_then(|()| Settings::parse(&options))
        };
        let plain = parse(&[]).unwrap();
        assert_eq!(plain.address, Address::Tcp("127.0.0.1:24224".into()));
        assert_eq!((plain.asynchronous, plain.retry_wait), (false, Duration::from_secs(1)));
        let address = |text: &str| parse(&[("fluentd-address", text)]).unwrap().address;
        assert_eq!(address("h"), Address::Tcp("h:24224".into()));
        assert_eq!(address("tls://h:1"), Address::Tls("h:1".into()));
        assert_eq!(address("unix:///run/f"), Address::Unix("/run/f".into()));
        for (option, value, want) in [
            ("fluentd-address", "udp://h", "invalid fluentd-address udp://h"),
            ("fluentd-address", "h:x", "invalid fluentd-address h:x"),
            ("fluentd-retry-wait", "x", "time: invalid duration \"x\""),
            (
                "fluentd-async-reconnect-interval",
                "1h",
                "invalid value for fluentd-async-reconnect-interval: value must be between 100ms and 10s",
            ),
            ("x", "1", "unknown log opt 'x' for fluentd log driver"),
        ] {
            assert_eq!(parse(&[(option, value)]).unwrap_err().to_string(), want);
        }
    }
}
