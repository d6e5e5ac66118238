//! API versions: parsing the prefix, refusing what is too old or too new.

use crate::reply::{self, Reply};
use base::Error;
use http::StatusCode;
use std::fmt;

/// An API version, `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

/// Newest served.
pub(crate) const NEWEST: Version = Version(1, 51);
/// [`NEWEST`] as headers show it.
pub(crate) const NEWEST_TEXT: &str = "1.51";
/// Oldest served.
pub(crate) const OLDEST: Version = Version(1, 24);

/// What the library of skopeo, podman and buildah wrote into requests for archives until its version 5.25 (Debian 12 has an
/// older one), whatever an engine says of itself.
const OF_ARCHIVES: Version = Version(1, 22);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Splits `/v1.41/containers/json` into version and rest; a path without version means the newest.
pub(crate) fn split(path: &str) -> (Option<Version>, &str) {
    let none = (None, path);
    let Some(rest) = path.strip_prefix("/v") else { return none };
    let Some(slash) = rest.find('/') else { return none };
    let (text, rest) = rest.split_at(slash);
    let mut parts = text.split('.');
    let number =
        |part: Option<&str>| part.filter(|p| p.len() <= 6).and_then(|p| p.parse::<u32>().ok());
    match (number(parts.next()), parts.next(), parts.next()) {
        (Some(major), minor, None) => match minor {
            None => (Some(Version(major, 0)), rest),
            Some(text) => match number(Some(text)) {
                Some(minor) => (Some(Version(major, minor)), rest),
                None => none,
            },
        },
        _ => none,
    }
}

/// Reads the oldest version that is to be served.
///
/// # Errors
/// `Invalid` for what is none, and beyond what can be served.
pub(crate) fn parse_oldest(text: &str) -> base::Result<Version> {
    let parsed = text
        .split_once('.')
        .and_then(|(major, minor)| Some(Version(major.parse().ok()?, minor.parse().ok()?)));
    match parsed {
        Some(version) if (OLDEST..=NEWEST).contains(&version) => Ok(version),
        Some(version) => Err(Error::invalid(format!(
            "minimum supported API version is {OLDEST}, maximum {NEWEST}: {version} cannot be the oldest that is served"
        ))),
        None => Err(Error::invalid(format!("invalid minimum API version: {text:?}"))),
    }
}

/// Why `version` is not served by the route of `pattern`, in docker's words. Archives are the same in all versions, so those
/// of [`OF_ARCHIVES`] are served unless somebody raised the oldest.
pub(crate) fn refusal(version: Version, oldest: Version, pattern: &str) -> Option<String> {
    let archives = ["/images/get", "/images/{}/get", "/images/load"];
    if version == OF_ARCHIVES && oldest == OLDEST && archives.contains(&pattern) {
        return None;
    }
    if version < oldest {
        Some(format!(
            "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your client to a newer version"
        ))
    } else if version > NEWEST {
        Some(format!(
            "client version {version} is too new. Maximum supported API version is {NEWEST}"
        ))
    } else {
        None
    }
}

/// The answer to a version that is not served. Clients older than 1.24 expect plain text.
pub(crate) fn refuse(version: Version, why: String) -> Reply {
    if version < OLDEST {
        let mut reply = reply::text(StatusCode::BAD_REQUEST, "");
        *reply.body_mut() = reply::full(format!("{why}\n"));
        return reply;
    }
    reply::failure(&Error::invalid(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_version_may_be_raised() {
        let oldest = parse_oldest("1.44").unwrap();
        assert!(refusal(Version(1, 43), oldest, "/info").unwrap().contains("is 1.44"));
        assert_eq!(refusal(Version(1, 44), oldest, "/info"), None);
        assert!(refusal(OF_ARCHIVES, oldest, "/images/load").unwrap().contains("is 1.44"));
        for bad in ["1.23", "1.99", "x", "1"] {
            assert!(parse_oldest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_header_says_the_newest_version() {
        assert_eq!(NEWEST.to_string(), NEWEST_TEXT);
    }

    #[test]
    fn prefixes_are_split_off() {
        assert_eq!(split("/v1.41/_ping"), (Some(Version(1, 41)), "/_ping"));
        assert_eq!(split("/_ping"), (None, "/_ping"));
        assert_eq!(split("/volumes/x"), (None, "/volumes/x"));
        assert_eq!(split("/v1.x/a"), (None, "/v1.x/a"));
        assert_eq!(split("/v99999999999.1/a"), (None, "/v99999999999.1/a"));
        assert!(refusal(Version(1, 12), OLDEST, "/_ping").unwrap().contains("too old"));
        assert!(refusal(Version(1, 99), OLDEST, "/_ping").unwrap().contains("too new"));
        assert_eq!(refusal(Version(1, 41), OLDEST, "/_ping"), None);
    }

    #[test]
    fn archives_are_served_in_the_version_of_older_tools() {
        let served = |version, pattern: &str| refusal(version, OLDEST, pattern).is_none();
        for route in crate::routes::ROUTES.iter().filter(|r| r.pattern.starts_with("/images/")) {
            let archive = route.pattern.ends_with("/get") || route.pattern.ends_with("/load");
            assert_eq!(served(OF_ARCHIVES, route.pattern), archive, "{}", route.pattern);
            assert!(!served(Version(1, 23), route.pattern), "{}", route.pattern);
        }
    }
}
