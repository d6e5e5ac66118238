//! Images and layers whose files were written and not yet flushed. The database may reach the disk before them, so that
//! after a power cut a row can point to files that are torn.

use crate::Tx;
use base::{Digest, Result};
use sqlite::Statements as _;

/// What is not on the disk for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image: its config and manifests.
    Image,
    /// A layer.
    Layer,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Layer => "layer",
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// What it is.
    pub kind: Kind,
    /// Which.
    pub object: Digest,
    /// The boot of the machine that it was written in.
    pub boot: String,
}

impl Tx<'_> {
    /// Notes that files of `object` were written and not flushed.
    ///
    /// # Errors
    /// Of the database.
    pub fn unsettle(&self, kind: Kind, object: &Digest, boot: &str) -> Result<()> {
        self.run(
            "cannot note what has to be flushed",
            "INSERT OR REPLACE INTO unsettled (kind, object, boot) VALUES (?1, ?2, ?3)",
            (kind.text(), object.as_str(), boot),
        )?;
        Ok(())
    }

    /// All that was not flushed.
    ///
    /// # Errors
    /// Of the database; `Internal` for a row that cannot be read.
    pub fn unsettled(&self) -> Result<Vec<Unsettled>> {
        let rows = self.many(
            "cannot list what has to be flushed",
            "SELECT kind, object, boot FROM unsettled ORDER BY kind, object",
            [],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)),
        )?;
        rows.into_iter()
            .map(|(kind, object, boot)| {
                let kind = if kind == Kind::Image.text() { Kind::Image } else { Kind::Layer };
                Ok(Unsettled { kind, object: object.parse()?, boot })
            })
            .collect()
    }

    /// Notes that these are on the disk now, or gone.
    ///
    /// # Errors
    /// Of the database.
    pub fn settled(&self, all: &[Unsettled]) -> Result<()> {
        for one in all {
            self.run(
                "cannot note what was flushed",
                "DELETE FROM unsettled WHERE kind = ?1 AND object = ?2",
                (one.kind.text(), one.object.as_str()),
            )?;
        }
        Ok(())
    }
}
