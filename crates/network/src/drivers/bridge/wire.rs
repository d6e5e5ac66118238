//! The veth pair between a bridge and a container.

use super::{kernel, link, locked};
use crate::{Mac, Subnet};
use base::{EndpointId, Error, Result};
use std::{
    net::Ipv4Addr,
    os::fd::BorrowedFd,
    sync::{Mutex, mpsc},
};
use sys::{
    netlink::{self, Port, Request, Route, Veth},
    netns,
};

/// Digits of the endpoint's id in a link's name; with `veth` they fill the 15 bytes a name may have.
const DIGITS: usize = 11;

/// A pair to be made.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub bridge: &'a link::Bridge,
    pub name: &'a str,
    pub interface: &'a str,
    pub netns: BorrowedFd<'a>,
    pub mac: Mac,
    pub address: Subnet,
    pub gateway: Ipv4Addr,
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

/// Makes the pair and sets both ends up. On error it may be half made; [`delete`] removes it.
pub(super) fn connect(route: &Mutex<Route>, pair: &Pair<'_>) -> Result<()> {
    let veth = Veth {
        host: pair.name,
        peer: pair.interface,
        netns: pair.netns,
        peer_mac: Some(pair.mac.0),
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
            let route = Route::open()?;
            // Nothing comes when the pair could not be made; that error is told by the other side.
            wait.recv().map_or(Ok(()), |()| inside(route, pair))
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
    here.and(inside).map_err(kernel)
}

/// What is done in the container's namespace when its link is there.
fn inside(mut route: Route, pair: &Pair<'_>) -> netlink::Result<()> {
    // A container without an IPv6 network takes no IPv6 address, neither link-local nor advertised.
    let _ = netns::set_sysctl(&format!("ipv6/conf/{}/disable_ipv6", pair.interface), "1");
    let link = route.index(pair.interface)?.unwrap_or_default();
    route.run(&[
        Request::set_up(netlink::LOOPBACK),
        Request::add_address(link, pair.address.address(), pair.address.prefix()),
        Request::set_up(link),
        Request::add_default_route(link, pair.gateway),
    ])
}

/// Removes a link; one that is not there is fine.
pub(super) fn delete(route: &mut Route, name: &str) -> Result<()> {
    match route.run(&[Request::delete_link(name)]) {
        Err(error) if !error.is_missing() => Err::<(), Error>(kernel(error)),
        _ => Ok(()),
    }
}
