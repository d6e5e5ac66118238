//! Chains of others that drop what they do not know, and rules of ours in them that let something through.
//!
//! Such a rule bears a mark, its comment, by which it is found again; `nft list` shows it.

use super::{Batch, Expr, Family, Nft, attributes as a, message};
use crate::netlink::{Attributes, Request, Result};

/// A base chain on the way through this machine whose policy is to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Family of its table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// `NFTNL_UDATA_RULE_COMMENT`.
const COMMENT: u8 = 0;

/// A comment as `nft` reads it: kind, length, text with its end.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(120)];
    [&[COMMENT, text.len() as u8 + 1][..], text, &[0]].concat()
}

impl Nft {
    /// Chains of others at the forward hook that drop by their policy, in this family and in `inet`.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn dropping_chains(&mut self) -> Result<Vec<Foreign>> {
        let mut all = Vec::new();
        for family in [self.family, Family::Inet] {
            let request = Request::new(message(family, libc::NFT_MSG_GETCHAIN, 0), "list chains");
            for reply in self.socket.list(&request)? {
                if reply.payload.first() != Some(&family.number()) {
                    continue;
                }
                let chain = Attributes::after(&reply.payload, 4);
                let forward = libc::NF_INET_FORWARD as u32;
                let hook = chain.nested(a::CHAIN_HOOK).number_be(a::HOOK_HOOKNUM);
                let drops = chain.number_be(a::CHAIN_POLICY) == Some(libc::NF_DROP as u32);
                if hook == Some(forward)
                    && drops
                    && let (Some(table), Some(name)) =
                        (chain.text(a::CHAIN_TABLE), chain.text(a::CHAIN_NAME))
                {
                    all.push(Foreign { family, table, chain: name });
                }
            }
        }
        Ok(all)
    }

    /// Handles of the rules in a chain that bear this mark.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn marked_rules(&mut self, at: &Foreign, mark: &str) -> Result<Vec<u64>> {
        let m = message(at.family, libc::NFT_MSG_GETRULE, 0)
            .with_str(a::RULE_TABLE, &at.table)
            .with_str(a::RULE_CHAIN, &at.chain);
        let what = format!("list rules of {} {}", at.table, at.chain);
        let replies = match self.socket.list(&Request::new(m, what)) {
            Err(error) if error.is_missing() => return Ok(Vec::new()),
            other => other?,
        };
        let wanted = comment(mark);
        let rules = replies.iter().map(|r| Attributes::after(&r.payload, 4));
        // Old kernels ignore the filter.
        let own = rules.filter(|rule| {
            rule.text(a::RULE_TABLE).as_deref() == Some(&at.table)
                && rule.text(a::RULE_CHAIN).as_deref() == Some(&at.chain)
                && rule.value(a::RULE_USERDATA) == Some(&wanted)
        });
        let handle = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).ok().map(u64::from_be_bytes);
        Ok(own.filter_map(|rule| handle(rule.value(a::RULE_HANDLE)?)).collect())
    }

    /// Makes these, and no others, the rules of a chain that bear the mark; new ones come first in it.
    ///
    /// # Errors
    /// Of the kernel; nothing has changed then.
    pub fn mark_rules(&mut self, at: &Foreign, mark: &str, rules: &[Vec<Expr>]) -> Result<()> {
        let mut batch = Batch::new(at.family);
        for handle in self.marked_rules(at, mark)? {
            batch.delete_rule(&at.table, &at.chain, handle);
        }
        for rule in rules {
            batch.insert_marked(&at.table, &at.chain, rule, mark);
        }
        self.commit(&batch)
    }
}
