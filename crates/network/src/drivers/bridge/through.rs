//! Ways through the filters of others: where a chain of this machine drops what it forwards by default, a rule
//! of ours in it lets a bridge's packets pass, as Docker's do. What is allowed is decided by our own table, whose
//! `drop` holds in any case.
//!
//! Not done in the mode "obey": there the chains of others decide, and their owner opens what is to be open.

use super::kernel;
use base::Result;
use sys::nft::{Cmp, Expr, Family, Nft, Verdict};

/// The ways of one bridge in one family.
#[derive(Debug)]
pub(super) struct Through {
    nft: Nft,
    bridge: String,
    /// Tables in which there are rules of ours.
    tables: Vec<String>,
    /// Closed with their network: whoever still mends must not open them anew.
    removed: bool,
}

impl Through {
    pub(super) fn open(bridge: &str, family: Family) -> Result<Self> {
        let nft = Nft::open(family).map_err(kernel)?;
        Ok(Self { nft, bridge: bridge.to_owned(), tables: Vec::new(), removed: false })
    }

    fn mark(&self) -> String {
        format!("gantry {}", self.bridge)
    }

    /// Opens ways that are missing; how many chains had none.
    pub(super) fn ensure(&mut self) -> Result<usize> {
        if self.removed {
            return Ok(0);
        }
        let accept = |condition: [Expr; 2]| {
            condition.into_iter().chain([Expr::Verdict(Verdict::Accept)]).collect::<Vec<_>>()
        };
        let rules = [
            accept(Expr::input(&self.bridge, Cmp::Eq)),
            accept(Expr::output(&self.bridge, Cmp::Eq)),
        ];
        let (mark, mut opened) = (self.mark(), 0);
        let chains = self.nft.dropping_chains().map_err(kernel)?;
        self.tables = chains.iter().map(|chain| chain.table.clone()).collect();
        for chain in &chains {
            if self.nft.marked_rules(chain, &mark).map_err(kernel)?.len() != rules.len() {
                self.nft.mark_rules(chain, &mark, &rules).map_err(kernel)?;
                opened += 1;
            }
        }
        Ok(opened)
    }

    /// Closes all ways.
    pub(super) fn remove(&mut self) -> Result<()> {
        self.removed = true;
        let mark = self.mark();
        let mut result = Ok(());
        for chain in self.nft.dropping_chains().map_err(kernel)? {
            result = result.and(self.nft.mark_rules(&chain, &mark, &[]).map_err(kernel));
        }
        result
    }

    /// Tables of others that hold rules of ours.
    pub(super) fn tables(&self) -> &[String] {
        &self.tables
    }
}
