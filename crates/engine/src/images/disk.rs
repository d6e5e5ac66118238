//! Layers as `storage` keeps them.

use super::{LayerStore, NewLayer};
use base::{Digest, Result};
use std::{
    io::{Read, Write},
    path::PathBuf,
};
use storage::{Applied, Layers};

impl From<Applied> for NewLayer {
    fn from(applied: Applied) -> Self {
        let Applied { layer, diff_id, size, tar_size, bound } = applied;
        Self { layer, diff_id, size, tar_size, bound }
    }
}

impl LayerStore for Layers {
    fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<NewLayer> {
        Self::apply(self, parents, tar).map(Into::into)
    }

    fn bound_id(&self, parents: &[Digest], diff_id: &Digest) -> Digest {
        Self::bound_id(self, parents, diff_id)
    }

    fn exists(&self, layer: &Digest) -> bool {
        Self::exists(self, layer)
    }

    fn list(&self) -> Result<Vec<Digest>> {
        Self::list(self)
    }

    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        Self::write_tar(self, layer, out)
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        Self::path(self, layer)
    }

    fn verify(&self, layer: &Digest) -> Result<()> {
        Self::verify(self, layer)
    }

    fn remove(&self, layer: &Digest) -> Result<()> {
        Self::remove(self, layer)
    }

    fn sync(&self) -> Result<()> {
        Self::sync(self)
    }
}
