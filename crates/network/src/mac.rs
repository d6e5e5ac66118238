//! Link addresses.

use base::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, net::IpAddr, str::FromStr};

/// A 48-bit link address, written `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that belongs to an IP address: `02:42` and its last four bytes. So an address that moves
    /// to another container needs no new neighbour entry anywhere.
    pub fn of(ip: IpAddr) -> Self {
        let bytes = crate::subnet::octets(ip);
        let mut mac = [0x02, 0x42, 0, 0, 0, 0];
        mac[2..].copy_from_slice(&bytes[bytes.len() - 4..]);
        Self(mac)
    }

    /// One that nobody has: for links without an IP address.
    pub fn from_id(id: &str) -> Self {
        let byte = |at: usize| {
            id.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0)
        };
        Self([0x02, byte(0), byte(2), byte(4), byte(6), byte(8)])
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad =
            || Error::invalid(format!("invalid MAC address: address {text}: invalid MAC address"));
        let mut bytes = [0_u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(bad());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_address_and_reads_back() {
        let mac = Mac::of("172.17.0.2".parse().unwrap());
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!("02:42:AC:11:00:02".parse::<Mac>().unwrap(), mac);
        assert_eq!("02-42-ac-11-00-02".parse::<Mac>().unwrap(), mac);
    }

    #[test]
    fn others_are_made_of_the_last_bytes_or_of_an_id() {
        assert_eq!(Mac::of("fd00::1:2".parse().unwrap()).to_string(), "02:42:00:01:00:02");
        assert_eq!(Mac::from_id("0123456789abcdef").to_string(), "02:01:23:45:67:89");
        assert_eq!(Mac::from_id("").0[0], 2);
    }

    #[test]
    fn refuses_what_is_no_unicast_address() {
        for bad in [
            "",
            "02:42",
            "02:42:ac:11:00:02:03",
            "0g:42:ac:11:00:02",
            "+2:42:ac:11:00:02",
            "01:00:5e:00:00:01",
            "é2:42:ac:11:00:02",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
