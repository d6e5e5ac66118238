//! IP networks, and an address within one.

use base::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address and the length of its network's prefix, written `172.17.0.1/16` or `fd00::1/64`. It stands for
/// the network or for one address in it, as the user says.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// A network by an address and the bits of its prefix.
    ///
    /// # Errors
    /// `Invalid` when `prefix` is longer than the address.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Result<Self, Error> {
        let address = address.into();
        if prefix > bits(address) {
            return Err(Error::invalid(format!("invalid CIDR address: {address}/{prefix}")));
        }
        Ok(Self { address, prefix })
    }

    /// The address as given.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits of the prefix.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether it is of IPv6.
    pub fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }

    /// Bits that tell hosts apart.
    pub fn host_bits(self) -> u8 {
        bits(self.address) - self.prefix
    }

    /// The netmask, as an address.
    pub fn mask(self) -> IpAddr {
        self.number(!self.hosts())
    }

    /// Ones where hosts differ.
    fn hosts(self) -> u128 {
        u128::MAX.checked_shr(u32::from(128 - self.host_bits())).unwrap_or(0)
    }

    /// The address of the same family with this number.
    fn number(self, number: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// The same network with all host bits clear.
    #[must_use]
    pub fn network(self) -> Self {
        Self { address: self.number(to_number(self.address) & !self.hosts()), ..self }
    }

    /// Another address of the same network.
    #[must_use]
    pub fn at(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// The address this far from the first; `None` outside the network.
    pub fn nth(self, offset: u128) -> Option<IpAddr> {
        let first = to_number(self.first());
        (offset <= self.hosts()).then(|| self.number(first + offset))
    }

    /// How far an address lies from the first; `None` outside the network.
    pub fn offset(self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| to_number(address) & self.hosts())
    }

    /// First address of the network.
    pub fn first(self) -> IpAddr {
        self.network().address
    }

    /// Last address of the network.
    pub fn last(self) -> IpAddr {
        self.number(to_number(self.address) | self.hosts())
    }

    /// Whether `address` lies in this network.
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6()
            && to_number(address) & !self.hosts() == to_number(self.address) & !self.hosts()
    }

    /// Whether two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        if self.prefix <= other.prefix {
            self.contains(other.address)
        } else {
            other.contains(self.address)
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The bytes of an address, as they are in a packet.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::invalid(format!("invalid CIDR address: {text}"));
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        Self::new(address, prefix.parse().map_err(|_| bad())?).map_err(|_| bad())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn knows_its_edges() {
        let n = net("172.17.3.4/16");
        assert_eq!(n.network().to_string(), "172.17.0.0/16");
        assert_eq!(n.last().to_string(), "172.17.255.255");
        assert_eq!(n.mask().to_string(), "255.255.0.0");
        assert_eq!(net("10.0.0.1/0").last().to_string(), "255.255.255.255");
        assert_eq!(net("10.0.0.1/32").first(), net("10.0.0.1/32").last());
        let n = net("fd00:1::5/64");
        assert_eq!(n.network().to_string(), "fd00:1::/64");
        assert_eq!(n.last().to_string(), "fd00:1::ffff:ffff:ffff:ffff");
        assert_eq!(n.mask().to_string(), "ffff:ffff:ffff:ffff::");
        assert_eq!(net("::1/0").mask().to_string(), "::");
        assert_eq!(net("::1/128").first(), net("::1/128").last());
        assert_eq!(n.nth(3).unwrap().to_string(), "fd00:1::3");
        assert_eq!(n.offset("fd00:1::9".parse().unwrap()), Some(9));
        assert_eq!(net("10.0.0.0/30").nth(4), None);
    }

    #[test]
    fn overlap_is_mutual() {
        for (a, b, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "1.2.3.4/32", true),
            ("::/0", "1.2.3.4/32", false),
            ("fd00::/8", "fd00:1::/64", true),
        ] {
            assert_eq!(net(a).overlaps(net(b)), expected);
            assert_eq!(net(b).overlaps(net(a)), expected);
        }
    }

    #[test]
    fn refuses_what_is_no_subnet() {
        for bad in [
            "",
            "1.2.3.4",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/+8",
            "1.2.3/8",
            "::1/129",
            "::1/1000",
            "1.2.3.4/999",
        ] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
