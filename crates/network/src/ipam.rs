//! Choice of addresses: a bitmap over one subnet, and the choice of a subnet.
//!
//! Invariants: the network's own, the broadcast and the gateway's address are never given; an address is
//! given once until it is released; the lowest free one is given first, as Docker does on a bridge.
//! Not here: keeping leases; they are read back from the endpoints of living containers.

use crate::Subnet;
use base::{Error, Result};
use std::net::Ipv4Addr;

/// Docker's default address pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and on.
pub fn default_pools() -> Vec<Subnet> {
    let wide = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let narrow = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    wide.chain(narrow)
        .map(|(address, prefix)| Subnet::new(address, prefix).expect("prefixes below 33"))
        .collect()
}

/// The first of `pools` that meets none of `taken`.
///
/// # Errors
/// `Exhausted`, with Docker's words, when all are taken.
pub fn choose(pools: &[Subnet], taken: &[Subnet]) -> Result<Subnet> {
    pools.iter().copied().find(|pool| !taken.iter().any(|t| t.overlaps(*pool))).ok_or_else(|| {
        Error::new(base::Kind::Exhausted, "all predefined address pools have been fully subnetted")
    })
}

/// Leases of one subnet.
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: Subnet,
    first: u32,
    /// One bit per address from `first`; set when given or reserved.
    taken: Vec<u64>,
    size: u32,
    free: u32,
    /// No address below this offset is free.
    hint: u32,
}

impl Pool {
    /// An empty pool over `range`, a part of `subnet`, never giving the addresses in `reserved`.
    ///
    /// # Errors
    /// `Invalid` when `range` lies outside the subnet or is larger than a /8.
    pub fn new(subnet: Subnet, range: Option<Subnet>, reserved: &[Ipv4Addr]) -> Result<Self> {
        let range = range.unwrap_or(subnet).network();
        if !subnet.contains(range.first()) || !subnet.contains(range.last()) {
            return Err(Error::invalid(format!(
                "fixed CIDR {range} is not part of the subnet {}",
                subnet.network()
            )));
        }
        if range.prefix() < 8 {
            return Err(Error::invalid(format!("subnet {range} is too large")));
        }
        let first = range.first().to_bits();
        let size = range.last().to_bits() - first + 1;
        let mut pool = Self {
            subnet,
            first,
            taken: vec![0; size.div_ceil(64) as usize],
            size,
            free: size,
            hint: 0,
        };
        // A /31 and a /32 have neither a network's nor a broadcast address (RFC 3021).
        if subnet.prefix() < 31 {
            pool.reserve(subnet.first());
            pool.reserve(subnet.last());
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
    pub fn free(&self) -> u32 {
        self.free
    }

    /// The lowest free address.
    ///
    /// # Errors
    /// `Exhausted`, with Docker's words.
    pub fn allocate(&mut self) -> Result<Ipv4Addr> {
        let mut word = (self.hint / 64) as usize;
        while let Some(bits) = self.taken.get(word) {
            let offset = word as u32 * 64 + bits.trailing_ones();
            if bits.trailing_ones() < 64 && offset < self.size {
                self.set(offset);
                self.hint = offset + 1;
                return Ok(Ipv4Addr::from_bits(self.first + offset));
            }
            word += 1;
        }
        self.hint = self.size;
        Err(Error::new(
            base::Kind::Exhausted,
            "no available IPv4 addresses on this network's address pools",
        ))
    }

    /// Takes a given address; `false` when it is taken already. An address of the subnet outside the
    /// range is anyone's.
    pub fn reserve(&mut self, address: Ipv4Addr) -> bool {
        let Some(offset) = self.offset(address) else { return true };
        if self.is_set(offset) {
            return false;
        }
        self.set(offset);
        true
    }

    /// Gives an address back; giving back a free one changes nothing.
    pub fn release(&mut self, address: Ipv4Addr) {
        let Some(offset) = self.offset(address).filter(|o| self.is_set(*o)) else { return };
        self.taken[(offset / 64) as usize] &= !(1 << (offset % 64));
        self.free += 1;
        self.hint = self.hint.min(offset);
    }

    fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        address.to_bits().checked_sub(self.first).filter(|offset| *offset < self.size)
    }

    fn is_set(&self, offset: u32) -> bool {
        self.taken[(offset / 64) as usize] >> (offset % 64) & 1 == 1
    }

    fn set(&mut self, offset: u32) {
        self.taken[(offset / 64) as usize] |= 1 << (offset % 64);
        self.free -= 1;
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

    #[test]
    fn gives_the_lowest_free_address_but_no_edge_and_no_gateway() {
        let mut pool = Pool::new(net("10.0.0.0/29"), None, &[Ipv4Addr::new(10, 0, 0, 1)]).unwrap();
        let all: Vec<_> =
            std::iter::from_fn(|| pool.allocate().ok()).map(|a| a.octets()[3]).collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(pool.free(), 0);
        pool.release(Ipv4Addr::new(10, 0, 0, 4));
        pool.release(Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(pool.free(), 1);
        assert_eq!(pool.allocate().unwrap().octets()[3], 4);
        assert!(pool.allocate().is_err());
    }

    #[test]
    fn a_fixed_range_binds_choice_but_not_wishes() {
        let mut pool =
            Pool::new(net("10.0.0.0/16"), Some(net("10.0.5.0/30")), &[Ipv4Addr::new(10, 0, 0, 1)])
                .unwrap();
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|a| net("10.0.5.0/30").contains(*a)));
        assert!(pool.reserve(Ipv4Addr::new(10, 0, 9, 9)));
        assert!(Pool::new(net("10.0.0.0/16"), Some(net("10.1.0.0/30")), &[]).is_err());
        assert!(Pool::new(net("0.0.0.0/0"), None, &[]).is_err());
    }

    #[test]
    fn a_pool_that_meets_a_route_is_passed_over() {
        let pools = default_pools();
        assert_eq!(choose(&pools, &[]).unwrap(), net("172.17.0.0/16"));
        assert_eq!(
            choose(&pools, &[net("172.17.5.0/24"), net("172.18.0.0/15")]).unwrap(),
            net("172.20.0.0/16")
        );
        assert!(choose(&pools, &[net("0.0.0.0/0")]).is_err());
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
                        Err(_) => prop_assert_eq!(held.len() as u32, whole),
                    },
                }
                prop_assert_eq!(pool.free(), whole - held.len() as u32);
            }
        }
    }
}
