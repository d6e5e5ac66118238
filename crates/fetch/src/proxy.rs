//! Which proxy a URL goes through, by the rules of Go's `httpproxy`, because that is what people configure for.

use crate::{Error, Failure, url};
use base64::Engine as _;
use http::Uri;
use std::net::IpAddr;

/// Proxies as flags, daemon.json or the environment give them; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: String,
    /// For `https` URLs.
    pub https: String,
    /// Hosts, domains, addresses and networks to be reached without, separated by commas; `*` for all.
    pub no_proxy: String,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// `http://host:port` or `https://host:port`.
    pub(crate) uri: Uri,
    /// Value of `Proxy-Authorization`, from the user in the proxy's URL.
    pub(crate) authorization: Option<String>,
}

impl Proxies {
    /// The proxy for `uri`; nothing when it is reached directly. The machine itself always is.
    ///
    /// # Errors
    /// `Invalid` for a proxy that cannot be one.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Result<Option<Proxy>, Error> {
        let text = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        if text.is_empty() || self.is_direct(url::host(uri), url::port(uri)) {
            return Ok(None);
        }
        Proxy::parse(text).map(Some)
    }

    /// Checks what was configured.
    ///
    /// # Errors
    /// `Invalid` for a proxy that cannot be one.
    pub fn check(&self) -> Result<(), Error> {
        for text in [&self.http, &self.https] {
            if !text.is_empty() {
                Proxy::parse(text)?;
            }
        }
        Ok(())
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        self.no_proxy.split(',').map(|e| e.trim().to_ascii_lowercase()).any(|entry| {
            let entry = entry.as_str();
            match entry {
                "" => false,
                "*" => true,
                _ if entry.contains('/') => address.is_some_and(|a| in_network(a, entry)),
                _ => {
                    let (name, wanted) = split_port(entry);
                    wanted.is_none_or(|w| w == port) && named(&host, address, name)
                }
            }
        })
    }
}

fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    match entry.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => (name, port.parse().ok()),
        _ => (entry, None),
    }
}

fn named(host: &str, address: Option<IpAddr>, name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(wanted) = bare.parse::<IpAddr>() {
        return address == Some(wanted);
    }
    // `.x.y` and `*.x.y` are what is below only; `x.y` is that and itself.
    let below = name.strip_prefix('*').unwrap_or(name);
    match below.strip_prefix('.') {
        Some(_) => host.ends_with(below),
        None => host == below || host.strip_suffix(below).is_some_and(|h| h.ends_with('.')),
    }
}

/// Whether `address` lies in `network`, `10.0.0.0/8`.
pub fn in_network(address: IpAddr, network: &str) -> bool {
    let Some((base, prefix)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<IpAddr>(), prefix.parse::<u32>()) else {
        return false;
    };
    match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) if prefix <= 32 => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if prefix <= 128 => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, Error> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let shown = url::shown(&whole);
        let bad = |why: &str| {
            Error::new(Failure::Invalid, format!("invalid proxy \"{shown}\""))
                .because(why.to_owned())
        };
        let uri = url::parse(&whole)
            .map_err(|_| bad("only http://host:port and https://host:port are taken"))?;
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let authorization = authority.rsplit_once('@').map(|(user, _)| {
            let user = percent_decoded(user);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))
        });
        Ok(Self { uri, authorization })
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes
            .get(at + 1..at + 3)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], escaped) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goes_through(no_proxy: &str, target: &str) -> bool {
        let proxies = Proxies {
            http: "proxy:3128".into(),
            https: "http://u%40x:p@proxy:3129".into(),
            no_proxy: no_proxy.into(),
        };
        proxies.proxy_for(&url::parse(target).unwrap()).unwrap().is_some()
    }

    #[test]
    fn what_needs_no_proxy_goes_without() {
        for (no_proxy, target, through) in [
            ("", "http://example.com/", true),
            ("", "http://localhost:5000/", false),
            ("", "http://127.0.0.9/", false),
            ("", "https://[::1]/", false),
            ("*", "http://example.com/", false),
            ("example.com", "http://a.example.com/", false),
            ("example.com", "http://example.com/", false),
            ("example.com", "http://badexample.com/", true),
            (".example.com", "http://example.com/", true),
            (".example.com", "http://a.example.com/", false),
            ("a.com, b.com:81", "http://b.com:81/", false),
            ("b.com:81", "http://b.com/", true),
            ("10.0.0.0/8", "https://10.1.2.3/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.3/", false),
        ] {
            assert_eq!(goes_through(no_proxy, target), through, "{no_proxy:?} {target}");
        }
    }

    #[test]
    fn the_user_of_a_proxy_becomes_a_header() {
        let proxy = Proxy::parse("http://u%40x:p@proxy:3129").unwrap();
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dUB4OnA="));
        for bad in ["socks5://x", "http://", "ftp://x"] {
            assert!(Proxy::parse(bad).is_err(), "{bad}");
        }
    }
}
