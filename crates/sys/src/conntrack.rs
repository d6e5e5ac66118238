//! Connections that the packet filter remembers: making it forget some.
//!
//! A rule that changes destinations is asked once per connection, and for UDP a connection is whatever keeps
//! the same ports, for as long as it goes on. So a client that sent to a port before it was published, or
//! while it led elsewhere, would never reach the new owner.
//! Source: `linux/netfilter/nfnetlink_conntrack.h`.

use crate::{
    netlink::{Attributes, Message, Request, Result, Socket},
    nft::Family,
};
use std::collections::HashSet;

const DELETE: u16 = 2;
const GET: u16 = 1;
const TUPLE_ORIG: u16 = 1;
const ID: u16 = 12;
const FILTER: u16 = 25;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const FILTER_ORIG_FLAGS: u16 = 1;
/// Compare protocol and destination port alone.
const BY_PROTOCOL_AND_PORT: u32 = 8 | 32;
/// For each port the kernel walks through all it remembers; beyond this many a list is cheaper.
const FEW: usize = 4;
/// The version that makes the kernel look at the family.
const VERSION: u8 = 1;

/// Forgets all connections of a family and a protocol whose original destination port is one of these, in the
/// network namespace of the calling thread.
///
/// # Errors
/// Of the kernel.
pub fn forget(family: Family, protocol: u8, ports: &[u16]) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open(libc::NETLINK_NETFILTER)?;
    if ports.len() > FEW {
        return one_by_one(&mut socket, family, protocol, ports);
    }
    let filtered: Vec<_> = ports.iter().map(|port| by_filter(family, protocol, *port)).collect();
    match socket.run(&filtered) {
        Ok(()) => Ok(()),
        // Before Linux 6.9 only whole tuples are understood.
        Err(_) => one_by_one(&mut socket, family, protocol, ports),
    }
}

fn message(family: Family, kind: u16) -> Message {
    let kind = (libc::NFNL_SUBSYS_CTNETLINK << 8) as u16 | kind;
    Message::new(kind, 0, &[family.number(), VERSION, 0, 0])
}

fn by_filter(family: Family, protocol: u8, port: u16) -> Request {
    let message = message(family, DELETE)
        .nest(TUPLE_ORIG, |m| {
            m.nest(TUPLE_PROTO, |m| {
                m.with_u8(PROTO_NUM, protocol).with(PROTO_DST_PORT, &port.to_be_bytes())
            })
        })
        .nest(FILTER, |m| m.with_u32(FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT));
    Request::new(message, format!("forget connections to port {port}"))
}

fn one_by_one(socket: &mut Socket, family: Family, protocol: u8, ports: &[u16]) -> Result<()> {
    let all = socket.list(&Request::new(message(family, GET), "list connections"))?;
    let ports: HashSet<u16> = ports.iter().copied().collect();
    let mut deletes = Vec::new();
    for entry in &all {
        let attributes = Attributes::after(&entry.payload, 4);
        let proto = attributes.nested(TUPLE_ORIG).nested(TUPLE_PROTO);
        let port =
            proto.value(PROTO_DST_PORT).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
        let ours = proto.value(PROTO_NUM) == Some(&[protocol][..])
            && port.is_some_and(|p| ports.contains(&p));
        if let Some((tuple, id)) =
            attributes.value(TUPLE_ORIG).zip(attributes.value(ID)).filter(|_| ours)
        {
            const NESTED: u16 = libc::NLA_F_NESTED as u16;
            let message = message(family, DELETE).with(TUPLE_ORIG | NESTED, tuple).with(ID, id);
            deletes.push(Request::new(message, "forget a connection"));
        }
    }
    // One that ended by itself meanwhile is forgotten too.
    socket
        .run_all(&deletes)?
        .into_iter()
        .filter(|r| r.as_ref().is_err_and(|e| !e.is_missing()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        netlink::Route,
        netns,
        nft::{Batch, Chain, Ct, Expr, Hook, Nft, Verdict},
    };
    use std::{net::UdpSocket, os::fd::AsFd};

    fn known() -> Vec<u16> {
        let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
        let all = socket.list(&Request::new(message(Family::Ipv4, GET), "list")).unwrap();
        let mut ports: Vec<_> = all
            .iter()
            .map(|entry| {
                let proto =
                    Attributes::after(&entry.payload, 4).nested(TUPLE_ORIG).nested(TUPLE_PROTO);
                u16::from_be_bytes(proto.value(PROTO_DST_PORT).unwrap().try_into().unwrap())
            })
            .collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn only_the_named_ports_are_forgotten_by_either_way() {
        let namespace = netns::create().unwrap();
        netns::within(namespace.as_fd(), || {
            Route::open().unwrap().run(&[Request::set_up(crate::netlink::LOOPBACK)]).unwrap();
            // Connections are remembered only where a rule asks for them.
            let mut batch = Batch::new(Family::Ipv4);
            batch.renew_table("t");
            batch.add_chain("t", &Chain { name: "out", base: Some(("filter", Hook::Output, 0)) });
            let rule: Vec<_> = Expr::ct(Ct::State, 8)
                .into_iter()
                .chain([Expr::Verdict(Verdict::Accept)])
                .collect();
            batch.add_rule("t", "out", &rule);
            Nft::open(Family::Ipv4).unwrap().commit(&batch).unwrap();
            // Receivers, so that no refusal is remembered beside.
            let receivers: Vec<_> =
                (7001..7006).map(|p| UdpSocket::bind(("127.0.0.1", p)).unwrap()).collect();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let send = || {
                for receiver in &receivers {
                    sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
                }
            };
            send();
            assert_eq!(known(), [7001, 7002, 7003, 7004, 7005]);
            forget(Family::Ipv4, 6, &[7001]).unwrap();
            forget(Family::Ipv4, 17, &[7002, 7004, 9999]).unwrap();
            assert_eq!(known(), [7001, 7003, 7005]);
            let mut socket = Socket::open(libc::NETLINK_NETFILTER).unwrap();
            one_by_one(&mut socket, Family::Ipv4, 17, &[7001, 7005, 9999]).unwrap();
            assert_eq!(known(), [7003]);
            forget(Family::Ipv4, 17, &[]).unwrap();
        })
        .unwrap();
    }
}
