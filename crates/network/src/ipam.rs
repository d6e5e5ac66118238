//! Choice of addresses: leases of one subnet, and the choice of a subnet.
//!
//! Invariants: the network's own, the broadcast and the gateway's address are never given; an address is
//! given once until it is released; the lowest free one is given first, as Docker does on a bridge.
//! Not here: keeping leases; they are read back from the endpoints of living containers.

use crate::Subnet;
use base::{Error, Kind, Result};
use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
};

/// A range that networks get their subnets from: the base is cut into pieces of a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    base: Subnet,
    prefix: u8,
}

/// Pieces looked at in one range: as many /24 as a /8 has.
const PIECES: u128 = 1 << 16;

impl Supply {
    /// A range, and the prefix length of its pieces.
    ///
    /// # Errors
    /// `Invalid` when a piece is larger than the range or has no room for a network.
    pub fn new(base: Subnet, prefix: u8) -> Result<Self> {
        let longest = if base.is_ipv6() { 126 } else { 30 };
        if prefix < base.prefix() || prefix > longest {
            return Err(Error::invalid(format!(
                "invalid address pool {}: its size {prefix} is not between {} and {longest}",
                base.network(),
                base.prefix()
            )));
        }
        Ok(Self { base: base.network(), prefix })
    }

    fn pieces(self) -> impl Iterator<Item = Subnet> {
        let host_bits = u32::from(self.base.host_bits() - (self.prefix - self.base.prefix()));
        let count = 1_u128.checked_shl(u32::from(self.prefix - self.base.prefix()));
        let count = count.unwrap_or(PIECES).min(PIECES);
        (0..count)
            .filter_map(move |n| Subnet::new(self.base.nth(n << host_bits)?, self.prefix).ok())
    }
}

/// Docker's default address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on.
pub fn default_pools() -> Vec<Supply> {
    let wide = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16, 16));
    let narrow = [(Ipv4Addr::new(192, 168, 0, 0), 16, 20)];
    wide.chain(narrow)
        .map(|(address, base, prefix)| Supply {
            base: Subnet::new(address, base).expect("prefixes below 33"),
            prefix,
        })
        .collect()
}

/// The pool of unique local IPv6 addresses (RFC 4193) that belongs to this seed: a /48 of /64.
pub fn unique_local(seed: &str) -> Supply {
    // FNV-1a: the same seed gives the same 40 bits, which is all that is asked for.
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let bits = (0xfd_u128 << 120) | (u128::from(hash & 0xff_ffff_ffff) << 80);
    let base = Subnet::new(std::net::Ipv6Addr::from_bits(bits), 48).expect("a prefix below 129");
    Supply { base, prefix: 64 }
}

/// The first subnet of a family from `pools` that meets none of `taken`.
///
/// # Errors
/// `Exhausted`, with Docker's words, when all are taken.
pub fn choose(pools: &[Supply], ipv6: bool, taken: &[Subnet]) -> Result<Subnet> {
    pools
        .iter()
        .filter(|supply| supply.base.is_ipv6() == ipv6)
        .flat_map(|supply| supply.pieces())
        .find(|piece| !taken.iter().any(|t| t.overlaps(*piece)))
        .ok_or_else(|| {
            Error::new(
                Kind::Exhausted,
                "all predefined address pools have been fully subnetted: remove networks that are not used (docker network prune), or add pools (default-address-pools)",
            )
        })
}

/// Leases of one subnet.
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: Subnet,
    range: Subnet,
    /// Given or reserved, as offsets in the range.
    taken: HashSet<u128>,
    /// How many offsets there are, less one.
    last: u128,
    /// No address below this offset is free.
    hint: u128,
}

impl Pool {
    /// An empty pool over `range`, a part of `subnet`, never giving the addresses in `reserved`.
    ///
    /// # Errors
    /// `Invalid` when the range lies outside the subnet or an IPv4 one is larger than a /8.
    pub fn new(subnet: Subnet, range: Option<Subnet>, reserved: &[IpAddr]) -> Result<Self> {
        let range = range.unwrap_or(subnet).network();
        if !subnet.contains(range.first()) || !subnet.contains(range.last()) {
            return Err(Error::invalid(format!(
                "fixed CIDR {range} is not part of the subnet {}",
                subnet.network()
            )));
        }
        if !range.is_ipv6() && range.prefix() < 8 {
            return Err(Error::invalid(format!("subnet {range} is too large")));
        }
        let last = range.offset(range.last()).unwrap_or(0);
        let mut pool = Self { subnet, range, taken: HashSet::new(), last, hint: 0 };
        // A /31 and a /32 have neither a network's nor a broadcast address (RFC 3021); IPv6 has no broadcast,
        // and its first address means any router (RFC 4291).
        if subnet.host_bits() > 1 {
            pool.reserve(subnet.first());
            if !subnet.is_ipv6() {
                pool.reserve(subnet.last());
            }
        }
        for address in reserved {
            pool.reserve(*address);
        }
        Ok(pool)
    }

    /// The subnet.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// How many addresses are free.
    pub fn free(&self) -> u128 {
        // All of IPv6 is one more than the number holds; the sum is right again once something is taken.
        self.last.wrapping_add(1).wrapping_sub(self.taken.len() as u128)
    }

    /// The lowest free address.
    ///
    /// # Errors
    /// `Exhausted`, with Docker's words.
    pub fn allocate(&mut self) -> Result<IpAddr> {
        while self.hint <= self.last && self.taken.contains(&self.hint) {
            self.hint += 1;
        }
        let found = if self.hint <= self.last { self.range.nth(self.hint) } else { None };
        let Some(address) = found else {
            let family = if self.subnet.is_ipv6() { "IPv6" } else { "IPv4" };
            return Err(Error::new(
                Kind::Exhausted,
                format!("no available {family} addresses on this network's address pools"),
            ));
        };
        self.taken.insert(self.hint);
        self.hint += 1;
        Ok(address)
    }

    /// Takes a given address; `false` when it is taken already. An address of the subnet outside the
    /// range is anyone's.
    pub fn reserve(&mut self, address: IpAddr) -> bool {
        self.range.offset(address).is_none_or(|offset| self.taken.insert(offset))
    }

    /// Gives an address back; giving back a free one changes nothing.
    pub fn release(&mut self, address: IpAddr) {
        if let Some(offset) = self.range.offset(address)
            && self.taken.remove(&offset)
        {
            self.hint = self.hint.min(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn gives_the_lowest_free_address_but_no_edge_and_no_gateway() {
        let mut pool = Pool::new(net("10.0.0.0/29"), None, &[ip("10.0.0.1")]).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(all, [2, 3, 4, 5, 6].map(|n| ip(&format!("10.0.0.{n}"))));
        assert_eq!(pool.free(), 0);
        pool.release(ip("10.0.0.4"));
        pool.release(ip("10.0.0.4"));
        assert_eq!(pool.free(), 1);
        assert_eq!(pool.allocate().unwrap(), ip("10.0.0.4"));
        assert!(pool.allocate().is_err());
    }

    #[test]
    fn ipv6_subnets_are_as_large_as_they_like() {
        let mut pool = Pool::new(net("fd00::/64"), None, &[ip("fd00::1")]).unwrap();
        assert_eq!(pool.allocate().unwrap(), ip("fd00::2"));
        assert!(pool.reserve(ip("fd00::ffff:ffff:ffff:ffff")));
        assert!(!pool.reserve(ip("fd00::2")));
        let mut pool = Pool::new(net("::/0"), None, &[]).unwrap();
        assert_eq!(pool.allocate().unwrap(), ip("::1"));
        assert!(pool.reserve(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
        assert_eq!(pool.free(), u128::MAX - 2);
    }

    #[test]
    fn a_fixed_range_binds_choice_but_not_wishes() {
        let range = Some(net("10.0.5.0/30"));
        let mut pool = Pool::new(net("10.0.0.0/16"), range, &[ip("10.0.0.1")]).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|a| net("10.0.5.0/30").contains(*a)));
        assert!(pool.reserve(ip("10.0.9.9")));
        assert!(Pool::new(net("10.0.0.0/16"), Some(net("10.1.0.0/30")), &[]).is_err());
        assert!(Pool::new(net("0.0.0.0/0"), None, &[]).is_err());
    }

    #[test]
    fn a_pool_that_meets_a_route_is_passed_over() {
        let pools = default_pools();
        let next = |taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|t| net(t)).collect();
            choose(&pools, false, &taken).map(|n| n.to_string())
        };
        assert_eq!(next(&[]).unwrap(), "172.17.0.0/16");
        assert_eq!(next(&["172.17.5.0/24", "172.18.0.0/15"]).unwrap(), "172.20.0.0/16");
        assert_eq!(next(&["172.16.0.0/12", "192.168.0.0/20"]).unwrap(), "192.168.16.0/20");
        assert!(next(&["0.0.0.0/0"]).is_err());
        assert!(choose(&pools, true, &[]).is_err());
    }

    #[test]
    fn pools_are_cut_into_pieces_and_a_seed_has_its_own_ipv6_pool() {
        let supply = Supply::new(net("10.9.0.0/16"), 24).unwrap();
        assert_eq!(supply.pieces().count(), 256);
        assert_eq!(supply.pieces().nth(255), Some(net("10.9.255.0/24")));
        assert!(Supply::new(net("10.9.0.0/16"), 8).is_err());
        assert!(Supply::new(net("10.9.0.0/16"), 32).is_err());
        let (one, two) = (unique_local("one"), unique_local("two"));
        assert_ne!(one, two);
        assert_eq!(one, unique_local("one"));
        let first = choose(&[one], true, &[]).unwrap();
        assert!(net("fd00::/8").contains(first.address()) && first.prefix() == 64);
        let second = choose(&[one], true, &[first]).unwrap();
        assert!(!second.overlaps(first));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_none_is_lost(
            prefix in 22_u8..=32,
            ops in proptest::collection::vec(any::<Option<prop::sample::Index>>(), 0..300),
        ) {
            let subnet = Subnet::new(Ipv4Addr::new(10, 1, 0, 0), prefix).unwrap();
            let mut pool = Pool::new(subnet, None, &[]).unwrap();
            let whole = pool.free();
            let mut held = BTreeSet::new();
            for op in ops {
                match op {
                    Some(which) if !held.is_empty() => {
                        let address = *which.get(&held.iter().copied().collect::<Vec<_>>());
                        held.remove(&address);
                        pool.release(address);
                    }
                    _ => match pool.allocate() {
                        Ok(address) => {
                            prop_assert!(subnet.contains(address));
                            prop_assert!(held.insert(address));
                        }
                        Err(_) => prop_assert_eq!(held.len() as u128, whole),
                    },
                }
                prop_assert_eq!(pool.free(), whole - held.len() as u128);
            }
        }
    }
}
