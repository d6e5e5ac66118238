//! Layers that are here already.

use crate::images::{Hold, Images, LayerRecord, NewLayer};
use base::{Digest, Result};

impl Images {
    /// The layer of this DiffID, if it is here: one that fits everywhere, or one that stands on `below`. It is
    /// held from then on.
    pub(crate) fn find_layer(
        &self,
        hold: &Hold,
        diff_id: &Digest,
        below: Option<&[Digest]>,
    ) -> Result<Option<NewLayer>> {
        let bound = below.map(|below| self.layers.bound_id(below, diff_id));
        for id in [Some(diff_id.clone()), bound].into_iter().flatten() {
            // Held first and looked for after: whoever removed it in between has won.
            hold.keep(&id);
            let row = self.store.read(|tx| tx.layer::<LayerRecord>(&id))?;
            if let Some(row) = row.filter(|r| r.diff_id == *diff_id && self.layers.exists(&r.id)) {
                return Ok(Some(NewLayer {
                    bound: row.id != row.diff_id,
                    layer: row.id,
                    diff_id: row.diff_id,
                    size: row.size,
                    tar_size: row.doc.tar_size,
                }));
            }
        }
        Ok(None)
    }
}
