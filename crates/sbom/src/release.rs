//! Which distribution a tree is of: `os-release`.

use super::{SMALL, read};
use std::path::Path;
use sys::root::Root;

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) id: String,
    pub(super) version: String,
}

impl Release {
    /// Reads it; nothing is known of a tree without one.
    pub(super) fn read(root: &Root) -> Self {
        let places = ["/etc/os-release", "/usr/lib/os-release"];
        let text = places.iter().find_map(|p| read(root, Path::new(p), SMALL));
        Self::parse(&String::from_utf8_lossy(&text.unwrap_or_default()))
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        Self { id: value("ID"), version: value("VERSION_ID") }
    }

    /// `debian-13`.
    pub(super) fn distro(&self) -> String {
        match self.version.as_str() {
            "" => self.id.clone(),
            version => format!("{}-{version}", self.id),
        }
    }

    /// The distribution, or `default` when nothing is known.
    pub(super) fn or(&self, default: &str) -> String {
        if self.id.is_empty() { default.to_owned() } else { self.id.clone() }
    }
}
