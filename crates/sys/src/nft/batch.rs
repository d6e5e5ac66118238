//! Changes, collected and sent at once.

use super::{Element, Expr, Family, attributes as a, message};
use crate::netlink::{Attributes, Message, Reply};

/// Elements in one message: an attribute holds at most 64 KiB, an element takes at most 60 bytes.
const ELEMENTS: usize = 1000;
const CREATE: i32 = libc::NLM_F_CREATE;

/// Where in a packet's way a chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// As it comes in, before it is routed.
    Prerouting,
    /// On its way through.
    Forward,
    /// As a process of this machine sends it.
    Output,
    /// As it goes out.
    Postrouting,
}

/// A chain of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// For a base chain: `filter` or `nat`, the hook and the priority.
    pub base: Option<(&'static str, Hook, i32)>,
}

/// A set of keys: names of types are numbers that only `nft list` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// Type of a key: six bits for each part.
    pub key_type: u32,
    /// Length of a key in bytes, each part padded to four.
    pub key_bytes: u32,
}

/// A set whose keys have values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Name and key.
    pub set: Set,
    /// Type of a value.
    pub value_type: u32,
    /// Length of a value in bytes.
    pub value_bytes: u32,
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    family: Family,
    messages: Vec<(Message, String)>,
    sets: u32,
}

impl Batch {
    /// An empty one, for tables of a family.
    pub fn new(family: Family) -> Self {
        Self { family, messages: Vec::new(), sets: 0 }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Makes a table unless it is there.
    pub fn add_table(&mut self, table: &str) {
        let m = message(self.family, libc::NFT_MSG_NEWTABLE, CREATE).with_str(a::TABLE_NAME, table);
        self.push(m, || format!("add table {table}"));
    }

    /// Removes a table with all it holds.
    pub fn delete_table(&mut self, table: &str) {
        let m = message(self.family, libc::NFT_MSG_DELTABLE, 0).with_str(a::TABLE_NAME, table);
        self.push(m, || format!("delete table {table}"));
    }

    /// Makes a table that holds nothing, whether or not it was there.
    pub fn renew_table(&mut self, table: &str) {
        self.add_table(table);
        self.delete_table(table);
        self.add_table(table);
    }

    /// Makes a chain; a base chain accepts what no rule decides.
    pub fn add_chain(&mut self, table: &str, chain: &Chain) {
        let mut m = message(self.family, libc::NFT_MSG_NEWCHAIN, CREATE)
            .with_str(a::CHAIN_TABLE, table)
            .with_str(a::CHAIN_NAME, chain.name);
        if let Some((kind, hook, priority)) = chain.base {
            let hook = match hook {
                Hook::Prerouting => libc::NF_INET_PRE_ROUTING,
                Hook::Forward => libc::NF_INET_FORWARD,
                Hook::Output => libc::NF_INET_LOCAL_OUT,
                Hook::Postrouting => libc::NF_INET_POST_ROUTING,
            };
            m = m
                .nest(a::CHAIN_HOOK, |m| {
                    m.with_be32(a::HOOK_HOOKNUM, hook as u32)
                        .with_be32(a::HOOK_PRIORITY, priority.cast_unsigned())
                })
                .with_be32(a::CHAIN_POLICY, libc::NF_ACCEPT as u32)
                .with_str(a::CHAIN_TYPE, kind);
        }
        self.push(m, || format!("add chain {table} {}", chain.name));
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &[Expr]) {
        let family = self.family;
        let m = message(self.family, libc::NFT_MSG_NEWRULE, CREATE | libc::NLM_F_APPEND)
            .with_str(a::RULE_TABLE, table)
            .with_str(a::RULE_CHAIN, chain)
            .nest(a::RULE_EXPRESSIONS, |m| rule.iter().fold(m, |m, expr| expr.write(m, family)));
        self.push(m, || format!("add a rule to {table} {chain}"));
    }

    /// Puts a rule with a comment before all others of a chain.
    pub fn insert_marked(&mut self, table: &str, chain: &str, rule: &[Expr], mark: &str) {
        let family = self.family;
        let m = message(self.family, libc::NFT_MSG_NEWRULE, CREATE)
            .with_str(a::RULE_TABLE, table)
            .with_str(a::RULE_CHAIN, chain)
            .nest(a::RULE_EXPRESSIONS, |m| rule.iter().fold(m, |m, expr| expr.write(m, family)))
            .with(a::RULE_USERDATA, &super::foreign::comment(mark));
        self.push(m, || format!("insert a rule into {table} {chain}"));
    }

    /// Removes the rule with this handle.
    pub fn delete_rule(&mut self, table: &str, chain: &str, handle: u64) {
        let m = message(self.family, libc::NFT_MSG_DELRULE, 0)
            .with_str(a::RULE_TABLE, table)
            .with_str(a::RULE_CHAIN, chain)
            .with(a::RULE_HANDLE, &handle.to_be_bytes());
        self.push(m, || format!("delete a rule of {table} {chain}"));
    }

    /// Makes a set.
    pub fn add_set(&mut self, table: &str, set: &Set) {
        let m = self.set(table, set, 0);
        self.push(m, || format!("add set {table} {}", set.name));
    }

    /// Makes a map.
    pub fn add_map(&mut self, table: &str, map: &Map) {
        let m = self
            .set(table, &map.set, libc::NFT_SET_MAP as u32)
            .with_be32(a::SET_DATA_TYPE, map.value_type)
            .with_be32(a::SET_DATA_LEN, map.value_bytes);
        self.push(m, || format!("add map {table} {}", map.set.name));
    }

    fn set(&mut self, table: &str, set: &Set, flags: u32) -> Message {
        self.sets += 1;
        message(self.family, libc::NFT_MSG_NEWSET, CREATE)
            .with_str(a::SET_TABLE, table)
            .with_str(a::SET_NAME, set.name)
            .with_be32(a::SET_FLAGS, flags)
            .with_be32(a::SET_KEY_TYPE, set.key_type)
            .with_be32(a::SET_KEY_LEN, set.key_bytes)
            .with_be32(a::SET_ID, self.sets)
    }

    /// Adds elements to a set or map; one that is there already with another value fails.
    pub fn add_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, table, set, elements);
    }

    /// Removes elements by their keys; one that is not there fails.
    pub fn delete_elements(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, table, set, elements);
    }

    fn elements(&mut self, kind: libc::c_int, flags: i32, table: &str, set: &str, all: &[Element]) {
        for chunk in all.chunks(ELEMENTS) {
            let m = message(self.family, kind, flags)
                .with_str(a::ELEM_LIST_TABLE, table)
                .with_str(a::ELEM_LIST_SET, set)
                .nest(a::ELEM_LIST_ELEMENTS, |m| {
                    chunk.iter().fold(m, |m, element| m.nest(a::LIST_ELEM, |m| element.write(m)))
                });
            let adds = kind == libc::NFT_MSG_NEWSETELEM;
            self.push(m, || {
                format!(
                    "{} {} elements of {table} {set}",
                    if adds { "add" } else { "delete" },
                    chunk.len()
                )
            });
        }
    }

    fn push(&mut self, message: Message, what: impl FnOnce() -> String) {
        self.messages.push((message, what()));
    }

    /// What the change of this number tries.
    pub(super) fn what(&self, index: usize) -> Option<String> {
        self.messages.get(index).map(|(_, what)| what.clone())
    }

    /// All messages between their begin and end marks, the last change asking for an answer.
    pub(super) fn framed(&self) -> Vec<Message> {
        let mark = |kind: libc::c_int| {
            let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
            Message::new(
                kind as u16,
                0,
                &[libc::AF_UNSPEC as u8, libc::NFNETLINK_V0 as u8, high, low],
            )
        };
        let mut all = Vec::with_capacity(self.messages.len() + 2);
        all.push(mark(libc::NFNL_MSG_BATCH_BEGIN));
        all.extend(self.messages.iter().map(|(message, _)| message.clone()));
        // An answer for each would overflow the receive buffer; the last one's comes after the commit.
        if let Some(last) = all.last_mut() {
            last.add_flags(libc::NLM_F_ACK);
        }
        all.push(mark(libc::NFNL_MSG_BATCH_END));
        all
    }
}

/// Whether an event tells that a part of a table went; elements come and go all the time and do not count.
pub(super) fn takes_from(event: &Reply, table: &str) -> bool {
    let kind = i32::from(event.kind & 0xff);
    let taking = [
        libc::NFT_MSG_DELTABLE,
        libc::NFT_MSG_DELCHAIN,
        libc::NFT_MSG_DELRULE,
        libc::NFT_MSG_DELSET,
    ];
    // The table's name has the same number in all of them.
    taking.contains(&kind)
        && Attributes::after(&event.payload, 4)
            .text(a::TABLE_NAME)
            .is_some_and(|name| name == table)
}
