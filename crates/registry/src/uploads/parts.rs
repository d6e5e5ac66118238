//! An upload on its way into an object store, part after part.
//!
//! Invariants: a part is written down when the object store has it, and only then is its file dropped; the
//! client waits while a part is sent, and few parts of all uploads together are in memory.

use super::{State, UploadId, Uploads};
use crate::{
    meta::{Part, Parts},
    storage::{Multipart, files_blocking as blocking},
};
use base::{Error, Kind, Result, Timestamp};
use bytes::Bytes;

/// S3's limit.
const MOST_PARTS: usize = 10_000;

/// What the object store has of an upload.
#[derive(Debug)]
pub(super) struct PartsUnderWay {
    known: Parts,
}

impl PartsUnderWay {
    pub(super) fn known(known: Parts) -> Self {
        Self { known }
    }
}

fn multipart(uploads: &Uploads) -> Result<&dyn Multipart> {
    uploads.storage.multipart().ok_or_else(|| Error::internal("this storage takes no parts"))
}

impl Uploads {
    /// The file that was written is a whole part: sends it and goes on with the next.
    pub(super) async fn send_part(&self, id: &UploadId, state: &mut State) -> Result<()> {
        if state.spool.number() + 1 >= MOST_PARTS {
            return Err(Error::invalid(format!("a blob has more than {MOST_PARTS} parts")));
        }
        self.send(id, state, state.spool.unsent_full()).await?;
        state.spool.next()
    }

    async fn send(
        &self,
        id: &UploadId,
        state: &mut State,
        numbers: std::ops::Range<usize>,
    ) -> Result<()> {
        let multipart = multipart(self)?;
        if state.parts.is_none() {
            state.parts = Some(self.begin_parts(id, multipart).await?);
        }
        let Some(parts) = &mut state.parts else { return Err(Error::internal("no parts begun")) };
        for number in numbers {
            let _in_memory = self
                .memory
                .acquire()
                .await
                .map_err(|e| Error::unavailable("the registry is stopping").caused_by(e))?;
            let path = state.spool.path_of(number);
            let full = number < state.spool.number();
            let length = if full { multipart.part_bytes() } else { state.spool.filled() };
            let bytes: Bytes = blocking(move || {
                let mut bytes =
                    std::fs::read(path).map_err(|e| Error::io("cannot read a part back", e))?;
                bytes.truncate(length as usize);
                Ok(bytes.into())
            })
            .await?;
            let size = bytes.len() as u64;
            let etag =
                multipart.put(&parts.known.place, &parts.known.multipart, number, bytes).await?;
            let part = Part { etag, size };
            let (name, kept) = (id.0.clone(), part.clone());
            self.database.write(move |tx| tx.add_part(&name, number, &kept)).await?;
            parts.known.parts.push(part);
            state.spool.drop_sent(number)?;
        }
        Ok(())
    }

    async fn begin_parts(&self, id: &UploadId, multipart: &dyn Multipart) -> Result<PartsUnderWay> {
        let place = multipart.place(id.as_str());
        let begun = multipart.begin(&place).await?;
        let known = Parts { place, multipart: begun, parts: Vec::new() };
        let (name, kept) = (id.0.clone(), known.clone());
        self.database
            .write(move |tx| tx.begin_parts(&name, &kept.place, &kept.multipart, Timestamp::now()))
            .await?;
        Ok(PartsUnderWay { known })
    }

    /// Sends what is left and makes the parts one object: its place.
    pub(super) async fn complete_parts(&self, id: &UploadId, state: &mut State) -> Result<String> {
        let size = state.offset();
        self.send(id, state, state.spool.unsent()).await?;
        let Some(parts) = &state.parts else { return Err(Error::internal("no parts begun")) };
        let (place, names) = (parts.known.place.clone(), parts.known.parts.iter());
        let names = names.map(|p| p.etag.clone()).collect();
        let done = multipart(self)?.complete(&place, &parts.known.multipart, names).await;
        if let Err(err) = done {
            // Killed between the completion and its being written down: then the object is there.
            let whole = self.storage.size(&place).await? == Some(size);
            if !whole {
                return Err(err);
            }
        }
        Ok(place)
    }

    /// Drops the parts, and the object that they may have become without anybody knowing.
    pub(super) async fn drop_parts(&self, id: &UploadId, parts: PartsUnderWay) -> Result<()> {
        let Parts { place, multipart: begun, .. } = parts.known;
        let still = {
            let name = id.0.clone();
            self.database.read(move |tx| tx.parts(&name)).await?
        };
        if still.is_none() {
            // Its blob was added: nothing to drop.
            return Ok(());
        }
        match multipart(self)?.abort(&place, &begun).await {
            Err(err) if err.kind() != Kind::NotFound => return Err(err),
            _ => {}
        }
        let name = id.0.clone();
        self.database
            .write(move |tx| {
                tx.end_parts(&name)?;
                tx.throw_away(&place, Timestamp::now())
            })
            .await
    }
}
