//! Which ports of this machine are published, over all networks of one daemon.
//!
//! Invariants: a port is held by an open socket as long as it is published, so that other programs and
//! other daemons see it taken; an address of `0.0.0.0` meets every other; a failed request holds nothing.

use crate::{Protocol, Publish, Published};
use base::{Error, Kind, Result};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
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
    address: Ipv4Addr,
    /// Absent where the kernel lacks the protocol, and for a port that another program took while no
    /// daemon ran.
    _socket: Option<OwnedFd>,
}

/// Why a port cannot be had.
enum Refusal {
    /// By a container of this daemon.
    Allocated,
    /// By the kernel.
    Kernel(std::io::Error),
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

    /// Takes a port for each wish, or none at all.
    ///
    /// # Errors
    /// `Internal`, with Docker's words, when one is taken; `NotImplemented` for IPv6 addresses.
    pub fn take(&self, wishes: &[Publish], default_ip: Ipv4Addr) -> Result<Vec<Published>> {
        let mut state = self.state();
        let mut taken = Vec::with_capacity(wishes.len());
        for wish in wishes {
            match state.take(wish, default_ip) {
                Ok(published) => taken.push(published),
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
    pub fn adopt(&self, port: &Published) -> Result<()> {
        let mut state = self.state();
        match state.hold(port.protocol, port.host_ip, port.host_port) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                state.insert(port.protocol, port.host_ip, port.host_port, None);
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
    fn take(&mut self, wish: &Publish, default_ip: Ipv4Addr) -> Result<Published> {
        let address = match wish.host_ip {
            None => default_ip,
            Some(IpAddr::V4(address)) => address,
            Some(IpAddr::V6(address)) => {
                return Err(Error::not_implemented(format!(
                    "cannot publish {}/{} on [{address}]: the network has no IPv6",
                    wish.container_port, wish.protocol
                )));
            }
        };
        let host_port = match &wish.host_ports {
            Some(range) if range.start() == range.end() => {
                let port = *range.start();
                self.hold(wish.protocol, address, port)
                    .map_err(|refusal| refusal.explain(wish.protocol, address, port))?;
                port
            }
            Some(range) => self.first_of(wish.protocol, address, range.clone())?,
            None => self.any(wish.protocol, address)?,
        };
        Ok(Published {
            container_port: wish.container_port,
            protocol: wish.protocol,
            host_ip: address,
            host_port,
        })
    }

    fn any(&mut self, protocol: Protocol, address: Ipv4Addr) -> Result<u16> {
        let (first, end) = (*self.ephemeral.start(), *self.ephemeral.end());
        let last = self.last.get(&protocol).copied().filter(|last| (first..end).contains(last));
        let start = last.map_or(first, |last| last + 1);
        let port = self.first_of(protocol, address, (start..=end).chain(first..start))?;
        self.last.insert(protocol, port);
        Ok(port)
    }

    fn first_of(
        &mut self,
        protocol: Protocol,
        address: Ipv4Addr,
        candidates: impl IntoIterator<Item = u16>,
    ) -> Result<u16> {
        for port in candidates {
            match self.hold(protocol, address, port) {
                Ok(()) => return Ok(port),
                Err(Refusal::Allocated) => {}
                Err(Refusal::Kernel(error)) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                // Any other reason is the same for every port.
                Err(refusal) => return Err(refusal.explain(protocol, address, port)),
            }
        }
        Err(Error::internal("all ports are allocated"))
    }

    fn hold(&mut self, protocol: Protocol, address: Ipv4Addr, port: u16) -> Result<(), Refusal> {
        let meets = |held: &Held| {
            held.address == address || held.address.is_unspecified() || address.is_unspecified()
        };
        if self.held.get(&(protocol, port)).is_some_and(|all| all.iter().any(meets)) {
            return Err(Refusal::Allocated);
        }
        let transport = match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
            Protocol::Sctp => Transport::Sctp,
        };
        let socket = hold(transport, SocketAddrV4::new(address, port))
            .map_err(|errno| Refusal::Kernel(errno.into()))?;
        self.insert(protocol, address, port, socket);
        Ok(())
    }

    fn insert(
        &mut self,
        protocol: Protocol,
        address: Ipv4Addr,
        port: u16,
        socket: Option<OwnedFd>,
    ) {
        self.held.entry((protocol, port)).or_default().push(Held { address, _socket: socket });
    }

    fn release(&mut self, port: &Published) {
        let key = (port.protocol, port.host_port);
        if let Some(all) = self.held.get_mut(&key) {
            all.retain(|held| held.address != port.host_ip);
            if all.is_empty() {
                self.held.remove(&key);
            }
        }
    }
}

impl Refusal {
    /// Docker's words, which people and tools look for.
    fn explain(self, protocol: Protocol, address: Ipv4Addr, port: u16) -> Error {
        match self {
            Self::Allocated => Error::internal(format!(
                "Bind for {address}:{port} failed: port is already allocated"
            )),
            Self::Kernel(error) => {
                let reason = match error.kind() {
                    std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
                    std::io::ErrorKind::AddrNotAvailable => {
                        "cannot assign requested address".to_owned()
                    }
                    _ => error.to_string(),
                };
                let kind = match error.raw_os_error() {
                    Some(EMFILE | ENFILE) => Kind::Exhausted,
                    _ => Kind::Internal,
                };
                Error::new(kind, format!("listen {protocol}4 {address}:{port}: bind: {reason}"))
            }
        }
    }
}

/// Errors for too many open files; the same on all of Linux.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

fn system_range() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests;
