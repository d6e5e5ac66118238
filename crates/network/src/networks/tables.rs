//! Tables of names: one file for each user-defined network, replaced whenever somebody comes, goes or is called
//! otherwise. The servers of the containers read them, whether or not the daemon lives.
//!
//! Invariants: a table says who was on the network at one moment; of two writers the later one says more.

use super::{Live, Networks};
use base::{ContainerId, Error, NetworkId, Result};
use resolver::Table;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::PoisonError,
};

impl Networks {
    /// Where the table of a network is; `None` for one without names.
    pub fn table_of(&self, network: &NetworkId) -> Option<PathBuf> {
        let live = self.all().into_iter().find(|l| l.network.id == *network)?;
        self.table_path(&live)
    }

    fn table_path(&self, live: &Live) -> Option<PathBuf> {
        let dir = self.config.tables.as_ref().filter(|_| live.network.has_names())?;
        Some(dir.join(format!("{}.json", live.network.id)))
    }

    /// Calls a container otherwise on one of its networks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn rename(
        &self,
        container: &ContainerId,
        network: &NetworkId,
        names: &[String],
    ) -> Result<()> {
        if let Some(all) = self.endpoints().get_mut(container) {
            for endpoint in all.iter_mut().filter(|e| e.network == *network) {
                endpoint.names = names.to_vec();
            }
        }
        match self.all().into_iter().find(|l| l.network.id == *network) {
            Some(live) => self.write_table(&live),
            None => Ok(()),
        }
    }

    /// Writes who is on the network now.
    pub(super) fn write_table(&self, live: &Live) -> Result<()> {
        let Some(path) = self.table_path(live) else { return Ok(()) };
        let _writing = live.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table { network: live.network.name.clone(), ..Table::default() };
        let mut members = self.members(&live.network.id);
        // The longest there comes first, whatever order a map has.
        members.sort_by(|a, b| {
            a.1.address.map(|s| s.address()).cmp(&b.1.address.map(|s| s.address()))
        });
        for (_, endpoint) in members {
            let addresses: Vec<_> = endpoint.addresses().map(|a| a.address()).collect();
            table.add(&endpoint.names, &addresses);
        }
        let text = serde_json::to_vec(&table)
            .map_err(|e| Error::internal("cannot encode a table of names").caused_by(e))?;
        replace(&path, &text)
    }

    /// Writes all tables, and removes those of networks that are gone.
    pub(super) fn write_tables(&self) -> Result<()> {
        let Some(dir) = &self.config.tables else { return Ok(()) };
        fs::create_dir_all(dir)
            .map_err(|e| Error::io(format!("cannot make {}", dir.display()), e))?;
        let mut result = Ok(());
        let all = self.all();
        for live in &all {
            result = result.and(self.write_table(live));
        }
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if !all.iter().any(|live| self.table_path(live).as_deref() == Some(&path)) {
                // One that cannot be removed says nothing to anybody.
                let _ = fs::remove_file(&path);
            }
        }
        result
    }

    pub(super) fn drop_table(&self, live: &Live) {
        if let Some(path) = self.table_path(live) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Puts a file in the place of another: whoever reads sees the one or the other.
pub(super) fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|e| Error::io(format!("cannot write {}", path.display()), e))
}
