//! The veth pair between a bridge and a container.

use super::{kernel, link};
use crate::drivers::inside::{self, Inside};
use base::{EndpointId, Error, Result};
use std::{
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
};
use sys::{
    netlink::{Port, Request, Route, Veth},
    netns,
};

/// Digits of the endpoint's id in a link's name; with `veth` they fill the 15 bytes a name may have.
const DIGITS: usize = 11;

/// A pair to be made.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub bridge: &'a link::Bridge,
    pub name: &'a str,
    pub netns: BorrowedFd<'a>,
    pub inside: Inside<'a>,
    pub mtu_bytes: u32,
    pub isolated: bool,
}

/// The name of the host's end.
pub(super) fn name(endpoint: &EndpointId) -> String {
    format!("veth{}", &endpoint.as_str()[..DIGITS])
}

/// Whether a link was named by [`name`].
pub(super) fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix("veth").unwrap_or_default();
    digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// How the bridge treats our ports: frames may go back where they came from, because with
/// `bridge-nf-call-iptables` a container's packet to its own published port does not leave the bridge.
/// Isolated ports (no inter-container communication) hold below IP too; together with that setting they
/// also keep siblings from each other's published ports.
pub(super) fn port(isolated: bool) -> Port {
    Port { hairpin: true, isolated }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the pair and sets both ends up. On error it may be half made; [`delete`] removes it.
pub(super) fn connect(route: &Mutex<Route>, pair: &Pair<'_>) -> Result<()> {
    let veth = Veth {
        host: pair.name,
        peer: pair.inside.interface,
        netns: pair.netns,
        peer_mac: Some(pair.inside.mac.0),
        master: Some(pair.bridge.index),
        mtu: pair.mtu_bytes,
    };
    let requests = [
        Request::add_veth(&veth),
        Request::no_ipv6_address(pair.name),
        Request::set_port_up(pair.name, port(pair.isolated)),
    ];
    // What needs no link is done inside while the pair is being made: it takes as long.
    let (made, wait) = mpsc::channel();
    let (inside, here) = netns::beside(
        pair.netns,
        move || {
            super::super::settings_of_a_namespace();
            let mut route = Route::open().map_err(kernel)?;
            // Nothing comes when the pair could not be made; that error is told by the other side.
            wait.recv().map_or(Ok(()), |()| inside::settle(&mut route, &pair.inside))
        },
        move || {
            let results = locked(route).run_all(&requests)?;
            // The second fails where the kernel has no IPv6, which serves as well.
            for (result, needed) in results.into_iter().zip([true, false, true]) {
                if needed {
                    result?;
                }
            }
            // The other side has a word for why it is not there to listen.
            let _ = made.send(());
            Ok(())
        },
    )
    .map_err(kernel)?;
    here.map_err(kernel).and(inside)
}

/// Removes a link; one that is not there is fine.
pub(super) fn delete(route: &mut Route, name: &str) -> Result<()> {
    match route.run(&[Request::delete_link(name)]) {
        Err(error) if !error.is_missing() => Err::<(), Error>(kernel(error)),
        _ => Ok(()),
    }
}
