//! Which ports of this machine are published, over all networks of one daemon.
//!
//! Invariants: a port is held by an open socket as long as it is published, so that other programs and
//! other daemons see it taken; an unspecified address meets every other of its family; a failed request
//! holds nothing.

mod holder;

pub use holder::listener;

use crate::{Protocol, Publish, Published};
use base::{Error, Kind, Result};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use sys::port::{Transport, hold};

/// Docker's range when the system's cannot be read.
const EPHEMERAL: RangeInclusive<u16> = 49153..=65535;

/// Published ports, shared by the networks of a daemon.
#[derive(Clone, Debug)]
pub struct Ports(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ephemeral: RangeInclusive<u16>,
    /// Last port given out of `ephemeral`, so that one just freed is not given again at once.
    last: HashMap<Protocol, u16>,
    held: HashMap<(Protocol, u16), Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    address: IpAddr,
    /// Name of the container.
    by: Arc<str>,
    /// Absent where the kernel lacks the protocol or the family, and for a port that another program took
    /// while no daemon ran.
    _socket: Option<OwnedFd>,
}

/// Why a port cannot be had.
enum Refusal {
    /// By a container of this daemon.
    Allocated(Arc<str>),
    /// By the kernel.
    Kernel(std::io::Error),
}

/// Whose ports, and on which addresses those without one are published.
#[derive(Clone, Copy, Debug)]
pub struct Taker<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// One address for each family that the network has.
    pub defaults: &'a [IpAddr],
    /// Families of the network that translate, IPv4 and IPv6; the others' ports are open as they are.
    pub translates: [bool; 2],
}

impl Default for Ports {
    fn default() -> Self {
        Self::new(system_range().unwrap_or(EPHEMERAL))
    }
}

impl Ports {
    /// No port published; free ones are taken from `ephemeral`.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        Self(Arc::new(Mutex::new(State { ephemeral, last: HashMap::new(), held: HashMap::new() })))
    }

    /// Takes a port for each wish, or none at all. A wish without an address gets the same port on one
    /// address of each family.
    ///
    /// # Errors
    /// `Internal`, with Docker's words and the holder's name, when one is taken; `Invalid` for an address of
    /// a family that the network lacks.
    pub fn take(&self, wishes: &[Publish], taker: Taker<'_>) -> Result<Vec<Published>> {
        let by: Arc<str> = taker.name.into();
        let mut state = self.state();
        let mut taken = Vec::with_capacity(wishes.len());
        for wish in wishes {
            match state.take(wish, taker, &by) {
                Ok(published) => taken.extend(published),
                Err(error) => {
                    taken.iter().for_each(|port| state.release(port));
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// Takes a port over from an earlier life of this daemon. It counts as published even when another
    /// program took it meanwhile.
    ///
    /// # Errors
    /// Tells who has it now.
    pub fn adopt(&self, port: &Published, by: &str) -> Result<()> {
        if port.host_port == 0 {
            return Ok(());
        }
        let (mut state, by) = (self.state(), by.into());
        match state.hold(port.protocol, port.host_ip, port.host_port, &by) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                state.insert(port.protocol, port.host_ip, port.host_port, &by, None);
                Err(refusal.explain(port.protocol, port.host_ip, port.host_port))
            }
        }
    }

    /// Gives ports back.
    pub fn release(&self, ports: &[Published]) {
        let mut state = self.state();
        ports.iter().for_each(|port| state.release(port));
    }

    /// How many are published.
    pub fn count(&self) -> usize {
        self.state().held.values().map(Vec::len).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or removal, so the state is sound even behind a poisoned lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, wish: &Publish, taker: Taker<'_>, by: &Arc<str>) -> Result<Vec<Published>> {
        let (protocol, container_port) = (wish.protocol, wish.container_port);
        let addresses: Vec<IpAddr> = match wish.host_ip {
            None => taker.defaults.to_vec(),
            Some(address) if taker.defaults.iter().any(|d| d.is_ipv6() == address.is_ipv6()) => {
                vec![address]
            }
            Some(address) => {
                let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
                return Err(Error::invalid(format!(
                    "cannot publish {container_port}/{protocol} on {address}: the network has no {family}"
                )));
            }
        };
        let published =
            |host_ip, host_port| Published { container_port, protocol, host_ip, host_port };
        let (translated, open): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|a| taker.translates[usize::from(a.is_ipv6())]);
        let mut all: Vec<_> = open.into_iter().map(|address| published(address, 0)).collect();
        if translated.is_empty() {
            return Ok(all);
        }
        let port = match &wish.host_ports {
            Some(range) if range.start() == range.end() => {
                let port = *range.start();
                self.hold_all(protocol, &translated, port, by)
                    .map_err(|(refusal, address)| refusal.explain(protocol, address, port))?;
                port
            }
            Some(range) => self.first_of(protocol, &translated, range.clone(), by)?,
            None => self.any(protocol, &translated, by)?,
        };
        all.extend(translated.into_iter().map(|address| published(address, port)));
        all.sort_by_key(|p| p.host_ip.is_ipv6());
        Ok(all)
    }

    fn any(&mut self, protocol: Protocol, addresses: &[IpAddr], by: &Arc<str>) -> Result<u16> {
        let (first, end) = (*self.ephemeral.start(), *self.ephemeral.end());
        let last = self.last.get(&protocol).copied().filter(|last| (first..end).contains(last));
        let start = last.map_or(first, |last| last + 1);
        let port = self.first_of(protocol, addresses, (start..=end).chain(first..start), by)?;
        self.last.insert(protocol, port);
        Ok(port)
    }

    fn first_of(
        &mut self,
        protocol: Protocol,
        addresses: &[IpAddr],
        candidates: impl IntoIterator<Item = u16>,
        by: &Arc<str>,
    ) -> Result<u16> {
        for port in candidates {
            match self.hold_all(protocol, addresses, port, by) {
                Ok(()) => return Ok(port),
                Err((Refusal::Allocated(_), _)) => {}
                Err((Refusal::Kernel(error), _))
                    if error.kind() == std::io::ErrorKind::AddrInUse => {}
                // Any other reason is the same for every port.
                Err((refusal, address)) => return Err(refusal.explain(protocol, address, port)),
            }
        }
        Err(Error::internal("all ports are allocated"))
    }

    /// One port on all addresses, or on none.
    fn hold_all(
        &mut self,
        protocol: Protocol,
        addresses: &[IpAddr],
        port: u16,
        by: &Arc<str>,
    ) -> Result<(), (Refusal, IpAddr)> {
        for (n, address) in addresses.iter().enumerate() {
            if let Err(refusal) = self.hold(protocol, *address, port, by) {
                for held in &addresses[..n] {
                    self.give_back(protocol, *held, port);
                }
                return Err((refusal, *address));
            }
        }
        Ok(())
    }

    fn hold(
        &mut self,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
        by: &Arc<str>,
    ) -> Result<(), Refusal> {
        let meets = |held: &&Held| {
            held.address.is_ipv6() == address.is_ipv6()
                && (held.address == address
                    || held.address.is_unspecified()
                    || address.is_unspecified())
        };
        if let Some(held) = self.held.get(&(protocol, port)).and_then(|all| all.iter().find(meets))
        {
            return Err(Refusal::Allocated(Arc::clone(&held.by)));
        }
        let transport = match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        };
        let socket = match hold(transport, SocketAddr::new(address, port)) {
            // A machine without IPv6 has nobody who could take its ports.
            Err(errno) if address.is_ipv6() && errno.raw_os_error() == EAFNOSUPPORT => None,
            other => other.map_err(|errno| Refusal::Kernel(errno.into()))?,
        };
        self.insert(protocol, address, port, by, socket);
        Ok(())
    }

    fn insert(
        &mut self,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
        by: &Arc<str>,
        socket: Option<OwnedFd>,
    ) {
        let held = Held { address, by: Arc::clone(by), _socket: socket };
        self.held.entry((protocol, port)).or_default().push(held);
    }

    fn release(&mut self, port: &Published) {
        self.give_back(port.protocol, port.host_ip, port.host_port);
    }

    fn give_back(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        let key = (protocol, port);
        if let Some(all) = self.held.get_mut(&key) {
            all.retain(|held| held.address != address);
            if all.is_empty() {
                self.held.remove(&key);
            }
        }
    }
}

impl Refusal {
    /// Docker's words, which people and tools look for, and who has the port.
    fn explain(self, protocol: Protocol, address: IpAddr, port: u16) -> Error {
        let at = SocketAddr::new(address, port);
        match self {
            Self::Allocated(by) => Error::internal(format!(
                "Bind for {at} failed: port is already allocated (by container {by})"
            )),
            Self::Kernel(error) => {
                let reason = match error.kind() {
                    std::io::ErrorKind::AddrInUse => match holder::find(protocol, port) {
                        Some(by) => format!("address already in use (by {by})"),
                        None => "address already in use".to_owned(),
                    },
                    std::io::ErrorKind::AddrNotAvailable => {
                        "cannot assign requested address".to_owned()
                    }
                    _ => error.to_string(),
                };
                let kind = match error.raw_os_error() {
                    Some(EMFILE | ENFILE) => Kind::Exhausted,
                    _ => Kind::Internal,
                };
                let family = if address.is_ipv6() { 6 } else { 4 };
                Error::new(kind, format!("listen {protocol}{family} {at}: bind: {reason}"))
            }
        }
    }
}

/// Errors for too many open files and for a family that the kernel lacks; the same on all of Linux.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
const EAFNOSUPPORT: i32 = 97;

fn system_range() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests;
