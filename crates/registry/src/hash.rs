//! Hashing of what streams by, in the algorithm that the digest to come will have.
//!
//! Source: OCI image-spec, descriptor.md, "Registered algorithms": sha256 and sha512.

use base::{Digest, hex};
use sha2::{Digest as _, Sha256, Sha512};
use std::{fmt, io};

/// A digest algorithm that the registry stores by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// What all clients use.
    #[default]
    Sha256,
    /// Also registered.
    Sha512,
}

impl Algorithm {
    /// By its registered name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// That of `digest`.
    pub fn of(digest: &Digest) -> Self {
        if digest.algorithm() == "sha512" { Self::Sha512 } else { Self::Sha256 }
    }

    /// Digest of `bytes`.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// A hash under way.
#[derive(Clone)]
pub enum Hasher {
    /// sha256
    Sha256(Sha256),
    /// sha512
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    /// Which algorithm this is.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(state) => state.update(bytes),
            Self::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(state) => Digest::from_sha256(state.finalize().into()),
            Self::Sha512(state) => format!("sha512:{}", hex(&state.finalize()))
                .parse()
                .expect("128 lower-case hexadecimal digits are a sha512 digest"),
        }
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({:?})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_give_the_registered_digests() {
        assert_eq!(Algorithm::Sha256.digest(b""), Digest::sha256(b""));
        let long = Algorithm::Sha512.digest(b"abc");
        assert!(long.as_str().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert_eq!(Algorithm::of(&long), Algorithm::Sha512);
        assert_eq!(Algorithm::parse("md5"), None);
    }
}
