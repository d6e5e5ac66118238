//! Addresses of one network that are given out, and the links that have them.
//!
//! Invariants: an address is given again only when the link that had it is gone, so that no frame meets the
//! old one; only the first return of a lease counts.

use crate::{Attach, Spec, Subnet, ipam::Pool};
use base::{Error, Kind, Result};
use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Leases of one network: at most one pool of each family.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    pools: Vec<Pool>,
    /// Links of endpoints that are attached, and their addresses.
    held: HashMap<String, Vec<IpAddr>>,
    /// Links of endpoints that are gone, the addresses to give back with them, and since when.
    leaving: Vec<Leaving>,
}

/// A link of a former endpoint.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// The link's name.
    pub link: String,
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl Leaving {
    /// Whether its link has been there longer than `limit` since the endpoint went.
    pub(crate) fn lingers(&self, limit: Duration) -> bool {
        self.since.elapsed() >= limit
    }
}

impl Leases {
    pub(crate) fn new(pools: Vec<Pool>) -> Self {
        Self { pools, ..Self::default() }
    }

    /// Leases of a network's subnets: of each family the first is given from.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub(crate) fn of(spec: &Spec) -> Result<Self> {
        let mut pools = Vec::new();
        for pool in &spec.ipam.pools {
            let mut reserved: Vec<IpAddr> = pool.auxiliary.values().copied().collect();
            reserved.extend(pool.gateway);
            pools.push(Pool::new(pool.subnet, pool.range, &reserved)?);
        }
        pools.dedup_by_key(|pool| pool.subnet().is_ipv6());
        Ok(Self::new(pools))
    }

    /// An address of each family for `link`: the wished ones, otherwise the lowest free ones.
    ///
    /// # Errors
    /// `Invalid` for a wish outside of the subnets, `Forbidden` for a taken one, `Exhausted`. Nothing is
    /// given then.
    pub(crate) fn give(&mut self, link: &str, wish: &Attach<'_>) -> Result<Vec<Subnet>> {
        let mut given: Vec<Subnet> = Vec::new();
        for wished in [wish.address, wish.address6].into_iter().flatten() {
            if !self.pools.iter().any(|pool| pool.subnet().contains(wished)) {
                return Err(Error::invalid(format!(
                    "invalid address {wished}: no configured subnet or ip-range contain the IP address {wished}"
                )));
            }
        }
        let mut fault = None;
        for at in 0..self.pools.len() {
            let ipv6 = self.pools[at].subnet().is_ipv6();
            let got = match if ipv6 { wish.address6 } else { wish.address } {
                Some(address) => self.reserve(at, address),
                None => self.pools[at].allocate(),
            };
            match got {
                Ok(address) => given.push(self.pools[at].subnet().at(address)),
                Err(error) => fault = Some(error),
            }
        }
        let addresses: Vec<_> = given.iter().map(|a| a.address()).collect();
        if let Some(error) = fault {
            self.release(&addresses);
            return Err(error);
        }
        self.held.insert(link.to_owned(), addresses);
        Ok(given)
    }

    fn reserve(&mut self, at: usize, address: IpAddr) -> Result<IpAddr> {
        // Outside the range the pool keeps no account.
        let outside = self.held.values().flatten().any(|held| *held == address)
            || self.leaving.iter().any(|l| l.addresses.contains(&address));
        match !outside && self.pools[at].reserve(address) {
            true => Ok(address),
            false => Err(Error::new(Kind::Forbidden, "Address already in use")),
        }
    }

    fn release(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.pools.iter_mut().for_each(|pool| pool.release(*address));
        }
    }

    /// Takes over what an endpoint of an earlier life of the daemon has. `false` when an address is of no
    /// subnet here.
    pub(crate) fn adopt(&mut self, link: &str, addresses: &[IpAddr]) -> bool {
        let known = addresses.iter().all(|a| self.pools.iter().any(|p| p.subnet().contains(*a)));
        for address in addresses {
            self.pools.iter_mut().filter(|p| p.subnet().contains(*address)).for_each(|pool| {
                pool.reserve(*address);
            });
        }
        self.held.insert(link.to_owned(), addresses.to_vec());
        known
    }

    /// The endpoint of `link` is gone; its addresses are free when the link is. Only the first call counts.
    pub(crate) fn leave(&mut self, link: &str) {
        if let Some(addresses) = self.held.remove(link) {
            self.leaving.push(Leaving { link: link.to_owned(), addresses, since: Instant::now() });
        }
    }

    /// Up to `most` of those that leave, to be looked after and then handed to [`Leases::settled`].
    pub(crate) fn leaving(&mut self, most: usize) -> Vec<Leaving> {
        let most = most.min(self.leaving.len());
        self.leaving.drain(..most).collect()
    }

    /// Gives back the addresses of those that are gone; the others are looked after again.
    pub(crate) fn settled(&mut self, gone: Vec<Leaving>, stay: Vec<Leaving>) {
        for one in gone {
            self.release(&one.addresses);
        }
        self.leaving.extend(stay);
    }

    /// Whether some wait for their links to go.
    pub(crate) fn restless(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Links of attached endpoints.
    pub(crate) fn links(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    /// Links of former endpoints.
    pub(crate) fn old_links(&self) -> Vec<String> {
        self.leaving.iter().map(|l| l.link.clone()).collect()
    }

    /// Whether a link belongs to an endpoint, attached or former.
    pub(crate) fn knows(&self, link: &str) -> bool {
        self.held.contains_key(link) || self.leaving.iter().any(|l| l.link == link)
    }
}
