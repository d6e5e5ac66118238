//! Platforms, `os/arch[/variant]` (OCI image-spec, image-index.md).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Operating systems that one word may name.
const SYSTEMS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "macos",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// Architectures that one word may name, with the usual synonyms.
const ARCHITECTURES: &[&str] = &[
    "386", "aarch64", "amd64", "arm", "arm64", "arm64be", "armbe", "armel", "armhf", "i386",
    "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv",
    "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm", "x86-64", "x86_64",
];

/// An operating system and a processor architecture, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Platform {
    /// For example `linux`.
    #[serde(default)]
    pub os: String,
    /// For example `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// For example `v8`; mostly empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The platform of this build of Gantry.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            other => (other, ""),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// As containerd and BuildKit write it: without the one variant that arm64 has.
    #[must_use]
    pub fn short(mut self) -> Self {
        if (self.architecture.as_str(), self.variant.as_str()) == ("arm64", "v8") {
            self.variant.clear();
        }
        self
    }

    /// Whether an image of `self` runs where `wanted` is asked for (an absent variant matches any).
    pub fn satisfies(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (wanted.variant.is_empty()
                || self.variant.is_empty()
                || self.variant == wanted.variant)
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// Parses `linux/amd64`, `linux/arm64/v8`, `amd64`, `linux`; the usual synonyms are mapped
    /// (`x86_64`, `aarch64`, `armhf`, `i386`).
    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "\"{text}\" is an invalid component of \"{text}\": platform specifier component must match \"^[A-Za-z0-9_-]+$\""
            ))
        };
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        let fine = |p: &String| {
            !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        if !parts.first().is_some_and(fine) {
            return Err(Error::invalid(format!(
                "\"{}\" is an invalid OS component of \"{text}\": OSAndVersion specifier component must match \"^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$\"",
                parts.first().map_or("", String::as_str)
            )));
        }
        if parts.len() > 3 || !parts.iter().all(fine) {
            return Err(bad());
        }
        let host = Self::host();
        let (os, arch, variant) = match parts.as_slice() {
            [one] if SYSTEMS.contains(&one.as_str()) => {
                (one.clone(), host.architecture, host.variant)
            }
            [one] if !ARCHITECTURES.contains(&one.as_str()) => {
                return Err(Error::invalid(format!(
                    "\"{text}\": unknown operating system or architecture: invalid argument"
                )));
            }
            [one] => (host.os, one.clone(), String::new()),
            [os, arch] => (os.clone(), arch.clone(), String::new()),
            [os, arch, variant] => (os.clone(), arch.clone(), variant.clone()),
            _ => return Err(bad()),
        };
        let (architecture, variant) = match (arch.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64", v) => ("amd64".to_owned(), v.to_owned()),
            ("amd64", "v1") => ("amd64".to_owned(), String::new()),
            ("aarch64", v) => {
                ("arm64".to_owned(), if v.is_empty() { "v8".into() } else { v.to_owned() })
            }
            ("arm64", "" | "8") => ("arm64".to_owned(), "v8".to_owned()),
            ("armhf", _) => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("i386", _) => ("386".to_owned(), String::new()),
            (a, v) => (a.to_owned(), v.to_owned()),
        };
        Ok(Self { os, architecture, variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}
