//! Identifiers of objects. Containers, execs and networks have 64 random hexadecimal digits (as
//! Docker's); an image's id is the digest of its config.

use crate::{
    Digest,
    digest::hex,
    error::{Error, Result},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};

/// An image's id: the digest of its config.
pub type ImageId = Digest;

/// 32 random bytes as 64 hexadecimal digits.
pub fn random_hex() -> String {
    let mut bytes = [0_u8; 32];
    // The kernel's generator cannot fail once it is seeded, which it is before any daemon starts.
    getrandom::fill(&mut bytes).expect("getrandom(2) works after boot");
    hex(&bytes)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                loop {
                    let text = random_hex();
                    // An all-digit short id would be taken for a number by some tools (as in Docker).
                    if !text.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
                        return Self(text.into());
                    }
                }
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::invalid(format!("invalid id {text:?}: want 64 hexadecimal digits")))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}

ids! {
    /// A container's id.
    ContainerId,
    /// An exec's id.
    ExecId,
    /// A network's id.
    NetworkId,
    /// Id of one container's place on one network.
    EndpointId,
}
