//! `POST /containers/{id}/resize`: the size of the terminal.

use crate::Engine;
use base::{Error, Result};
use runtime::{shim::Target, spec::ConsoleSize};
use std::sync::PoisonError;

impl Engine {
    /// Sets the size of container `name`'s terminal in characters.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running.
    pub async fn container_resize(&self, name: &str, height: u16, width: u16) -> Result<()> {
        let container = self.containers.find(name)?;
        let record = container.record();
        *container.size.lock().unwrap_or_else(PoisonError::into_inner) = Some((height, width));
        let shim = container.shim().filter(|_| record.state.status.alive());
        let Some(shim) = shim else {
            return Err(Error::conflict(format!("Container {} is not running", record.id)));
        };
        shim.resize(&Target::Init, ConsoleSize { height, width })
            .await
            .map_err(|e| Error::wrap(format!("cannot resize container {}", record.id), e))?;
        self.store.write(|tx| {
            tx.emit(
                record
                    .event("resize")
                    .with("height", height.to_string())
                    .with("width", width.to_string()),
            );
            Ok(())
        })
    }
}
