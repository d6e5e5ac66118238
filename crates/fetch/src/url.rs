//! Small questions to URLs: what may be shown of one, where a redirect leads, what has the same origin.

use crate::{Error, Failure};
use http::Uri;

/// `text` fit to be shown: without password, and without a query, which may hold a signature.
pub fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// Reads an absolute `http` or `https` URL.
///
/// # Errors
/// `Invalid` for anything else.
pub fn parse(text: &str) -> Result<Uri, Error> {
    let bad = |why: &str| {
        Error::new(Failure::Invalid, format!("parse \"{}\"", shown(text))).because(why.to_owned())
    };
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = escape(text).parse().map_err(|e: http::uri::InvalidUri| bad(&e.to_string()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(uri),
        (Some("http" | "https"), _) => Err(bad("there is no host in the URL")),
        _ => Err(bad("unsupported protocol scheme")),
    }
}

/// Percent-encodes what a URL cannot hold as it is; escapes that are there stay.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !br#""<>\^`{|}"#.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Where `location`, absolute or relative, leads from `from`.
///
/// # Errors
/// `Invalid` when it leads nowhere.
pub fn join(from: &Uri, location: &str) -> Result<Uri, Error> {
    let location = location.trim();
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map_or("", |a| a.as_str());
    if location.contains("://") && !location.starts_with(['/', '?']) {
        return parse(location);
    }
    if let Some(rest) = location.strip_prefix("//") {
        return parse(&format!("{scheme}://{rest}"));
    }
    let path = from.path();
    if location.starts_with('/') {
        parse(&format!("{scheme}://{authority}{location}"))
    } else if location.starts_with('?') || location.is_empty() {
        parse(&format!("{scheme}://{authority}{path}{location}"))
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        parse(&format!("{scheme}://{authority}{folder}/{location}"))
    }
}

/// The port that a URL means.
pub fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 })
}

/// The host of a URL, without the brackets of IPv6.
pub fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// Whether scheme, host and port are the same: only then credentials stay.
pub fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme_str() == b.scheme_str() && host(a).eq_ignore_ascii_case(host(b)) && port(a) == port(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("https://u:p@h/x?sig=1"), "https://xxxxx@h/x");
        assert_eq!(shown("https://h/x@y"), "https://h/x@y");
    }

    #[test]
    fn locations_are_joined() {
        let from = parse("http://h:5000/v2/a/blobs/uploads/1?x=2").unwrap();
        for (location, want) in [
            ("/v2/b", "http://h:5000/v2/b"),
            ("2?y=1", "http://h:5000/v2/a/blobs/uploads/2?y=1"),
            ("?y=1", "http://h:5000/v2/a/blobs/uploads/1?y=1"),
            ("//other/x", "http://other/x"),
            ("https://other:1/x y", "https://other:1/x%20y"),
        ] {
            assert_eq!(join(&from, location).unwrap().to_string(), want);
        }
        for bad in ["file:///etc/passwd", "gopher://x/", "http://", "http:///x"] {
            assert!(join(&from, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&parse(a).unwrap(), &parse(b).unwrap());
        assert!(same("https://H/x", "https://h:443/y"));
        assert!(!same("http://h/", "https://h/") && !same("http://h/", "http://h:81/"));
    }
}
