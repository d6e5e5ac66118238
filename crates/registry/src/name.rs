//! Names that come with a request: repositories, and what stands behind `/manifests/`.
//!
//! Invariant: a [`Repository`] holds nothing but a path by the specification's grammar, so that it cannot
//! leave any folder, key or header that it is put into. Source: OCI distribution-spec, "Pulling manifests".

use base::{
    Digest,
    reference::{valid_path, valid_tag},
};
use std::fmt;

/// A repository's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// The name, when it is one.
    pub fn parse(text: &str) -> Option<Self> {
        valid_path(text).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag, when it is one.
    pub fn parse(text: &str) -> Option<Self> {
        valid_tag(text).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which manifest is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The one that a tag points to.
    Tag(Tag),
    /// The one with this digest.
    Digest(Digest),
}

impl Reference {
    /// A digest when there is a colon, else a tag.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(':') {
            return text.parse().ok().map(Self::Digest);
        }
        Tag::parse(text).map(Self::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        for good in ["a", "library/busybox", "a/b/c", "a--b/c__d/e.f"] {
            assert!(Repository::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/", "a/", "../a", "a/../b", "A", "a//b", "a%2fb", "a\0", "a b", ".a", &long]
        {
            assert!(Repository::parse(bad).is_none(), "{bad:?}");
        }
        assert!(matches!(Reference::parse("latest"), Some(Reference::Tag(_))));
        assert!(matches!(
            Reference::parse(Digest::sha256(b"").as_str()),
            Some(Reference::Digest(_))
        ));
        for bad in ["", ".x", "-x", "sha256:12", "x y", "a/b", &"x".repeat(129)] {
            assert_eq!(Reference::parse(bad), None, "{bad:?}");
        }
    }
}
