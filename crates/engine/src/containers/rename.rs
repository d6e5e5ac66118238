//! `POST /containers/{id}/rename`.

use super::{Container, Record};
use crate::Engine;
use base::{Error, Principal, Result, names};

impl Engine {
    /// Gives container `name` the name `to`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for an empty, equal or malformed name; `Conflict` when it is taken.
    pub async fn container_rename(&self, name: &str, to: &str, by: &Principal) -> Result<()> {
        let container = self.containers.find(name)?;
        if to.is_empty() || to == "/" {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let to = to.strip_prefix('/').unwrap_or(to);
        let _ops = container.ops.lock().await;
        let from = container.record().name.clone();
        if from == to {
            return Err(Error::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        names::check("container", to)?;
        self.containers.claim(to, container.id())?;
        let changed = container.change(
            &self.store,
            |r| r.name = to.to_owned(),
            |tx, r| {
                tx.emit(r.event("rename").with("oldName", format!("/{from}")).by(by));
                Ok(())
            },
        );
        match changed {
            Ok(record) => {
                self.containers.rename(container.id(), &from, to);
                self.rename_on_networks(&container, &record)
            }
            Err(err) => {
                self.containers.release(to, container.id());
                Err(err)
            }
        }
    }

    /// Others find it by its new name from here on.
    fn rename_on_networks(&self, container: &Container, record: &Record) -> Result<()> {
        let mut attached = record.attached.clone();
        for endpoint in &mut attached {
            let asked = record.endpoints.get(&endpoint.network_name).cloned().unwrap_or_default();
            endpoint.names = record.dns_names(&endpoint.network_name, &asked);
            self.networks.rename(&record.id, &endpoint.network, &endpoint.names)?;
        }
        if !attached.is_empty() {
            container.change(&self.store, |r| r.set_attached(&attached), |_, _| Ok(()))?;
        }
        Ok(())
    }
}
