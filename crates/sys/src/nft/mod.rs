//! nftables: batches of changes to tables, chains, maps and rules, and listing what is there.
//!
//! Flow: a [`Batch`] collects changes as data; [`Nft::commit`] sends it in one datagram, which the kernel
//! takes whole or not at all. Rules are lists of [`Expr`], which can be printed and compared.
//!
//! Invariants: a batch is of one family, `ip` or `ip6`; it either happened or left nothing; every name is a table's,
//! chain's or set's own, no handle is kept, so that a table made anew by hand serves as well.
//! Source: `linux/netfilter/nf_tables.h`, nft(8).

mod attributes;
mod batch;
mod expr;
mod foreign;
mod list;

pub use batch::{Batch, Chain, Hook, Map, Set};
pub use expr::{Cmp, Ct, Expr, Meta, Register, Verdict};
pub use foreign::Foreign;
pub use list::Element;

use crate::netlink::{Error, Message, Result, Socket};

/// A family of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, `ip`.
    Ipv4,
    /// IPv6, `ip6`.
    Ipv6,
    /// Both, `inet`.
    Inet,
}

impl Family {
    /// `NFPROTO_...`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => libc::AF_INET as u8,
            Self::Ipv6 => libc::AF_INET6 as u8,
            Self::Inet => libc::NFPROTO_INET as u8,
        }
    }
}

/// A socket to the packet filter of one network namespace, for the tables of one family.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    family: Family,
}

impl Nft {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn open(family: Family) -> Result<Self> {
        Ok(Self { socket: Socket::open(libc::NETLINK_NETFILTER)?, family })
    }

    /// Opens one that hears of every change of the packet filter, of all families, for [`Nft::wait_for_change`].
    ///
    /// # Errors
    /// Of the kernel.
    pub fn watch() -> Result<Self> {
        let nft = Self::open(Family::Ipv4)?;
        nft.socket.subscribe(libc::NFNLGRP_NFTABLES as u32)?;
        Ok(nft)
    }

    /// The socket, to be polled for readability before [`Nft::wait_for_change`].
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Waits for a change. True when one of these tables lost something or may have; false for any other.
    ///
    /// # Errors
    /// `EAGAIN` when nothing came in time; of the kernel otherwise.
    pub fn wait_for_change(&mut self, tables: &[String]) -> Result<bool> {
        let Some(events) = self.socket.next_event()? else { return Ok(true) };
        Ok(events.iter().any(|event| tables.iter().any(|table| batch::takes_from(event, table))))
    }

    /// Makes all changes at once.
    ///
    /// # Errors
    /// Names the change that failed; none was made then. `EMSGSIZE` when the batch is too long.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.socket.transact(&batch.framed(), "change the packet filter").map_err(
            |(error, index)| {
                let what = index.checked_sub(1).and_then(|i| batch.what(i));
                Error { what: what.unwrap_or(error.what), ..error }
            },
        )
    }
}

/// A message of the subsystem.
fn message(family: Family, kind: libc::c_int, flags: i32) -> Message {
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8) as u16 | kind as u16;
    Message::new(kind, flags, &[family.number(), libc::NFNETLINK_V0 as u8, 0, 0])
}

#[cfg(test)]
mod tests;
