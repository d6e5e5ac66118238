//! `POST /containers/{id}/rename`.

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
            Ok(_) => {
                self.containers.release(&from, container.id());
                Ok(())
            }
            Err(err) => {
                self.containers.release(to, container.id());
                Err(err)
            }
        }
    }
}
