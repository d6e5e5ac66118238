//! One blob to one repository: there already, mounted, or sent.

use super::Push;
use base::{Digest, Error, Result};
use bytes::Bytes;
use image::{
    manifest::Descriptor,
    registry::{Begun, Failed, Repository, Upload},
};
use serde_json::json;
use std::{
    fs::File,
    io::Read,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Bytes handed to the connection at once, and such pieces that may wait.
const PIECE: usize = 256 << 10;
pub(crate) const PIECES: usize = 8;
/// Tries of one upload, and the wait before the second; it doubles.
const TRIES: u32 = 5;
const WAIT: Duration = Duration::from_secs(1);
/// Other repositories that a mount is tried from.
const MOUNTS: usize = 3;
/// Between two messages of one layer's bytes.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How a blob got there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    There,
    Mounted(String),
    Sent,
    /// It is neither there nor here.
    Nowhere,
}

impl Push<'_> {
    /// Sees to it that the registry has a blob; `id` is what messages call it, empty for none.
    pub(super) async fn blob(
        &self,
        repository: &Repository,
        id: &str,
        descriptor: &Descriptor,
    ) -> Result<Way> {
        let digest = &descriptor.digest;
        if repository.has_blob(digest).await? {
            return Ok(Way::There);
        }
        if let Some(from) = self.mount(repository, digest).await? {
            return Ok(Way::Mounted(from));
        }
        if !self.images.content().has(digest) {
            return Ok(Way::Nowhere);
        }
        self.send(repository, id, digest).await?;
        Ok(Way::Sent)
    }

    /// Tries to have the registry take the blob from another of its repositories.
    async fn mount(&self, repository: &Repository, digest: &Digest) -> Result<Option<String>> {
        let name = repository.name();
        let places = self.images.store.read(|tx| tx.places(digest, name.domain()))?;
        for path in places.iter().filter(|p| p.as_str() != name.path()).take(MOUNTS) {
            repository.may_mount_from(path);
            match repository.begin_upload(Some((digest, path))).await {
                Ok(Begun::Mounted) => return Ok(Some(path.clone())),
                // An upload that was opened instead is left to the registry, which drops it in time.
                Ok(Begun::Open(_)) => {}
                Err(Failed::Refused(refusal)) => {
                    tracing::debug!(
                        from = path,
                        err = refusal.to_string(),
                        "a blob was not mounted"
                    );
                }
                Err(err) => return Err(err.into()),
            }
        }
        Ok(None)
    }

    /// Sends a blob that is here, again from the beginning when the way breaks.
    pub(super) async fn send(
        &self,
        repository: &Repository,
        id: &str,
        digest: &Digest,
    ) -> Result<()> {
        let mut tried = 1;
        loop {
            match self.try_send(repository, id, digest).await {
                Err(err) if err.is_transient() && tried < TRIES => {
                    let wait = err.wait().unwrap_or(WAIT * 2_u32.pow(tried - 1));
                    if !id.is_empty() {
                        let seconds = wait.as_secs().max(1);
                        let plural = if seconds == 1 { "" } else { "s" };
                        self.voice.of(id, &format!("Retrying in {seconds} second{plural}")).await;
                    }
                    tokio::time::sleep(wait).await;
                    tried += 1;
                }
                done => return done.map_err(Error::from),
            }
        }
    }

    async fn try_send(
        &self,
        repository: &Repository,
        id: &str,
        digest: &Digest,
    ) -> std::result::Result<(), Failed> {
        let (file, size) = self.images.content().blob(digest)?;
        let Begun::Open(mut upload) = repository.begin_upload(None).await? else {
            return Ok(());
        };
        let (sender, pieces) = mpsc::channel(PIECES);
        let mut telling = Telling::new(self, id, Some(size));
        let (told, progress) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || feed(file, &sender, &told));
        let sending = upload.send(Upload::Stream(pieces, Some(size)));
        telling.beside(sending, progress).await?;
        upload.finish(digest).await
    }
}

/// Reads a file into the channel; ends when nobody listens.
pub(crate) fn feed(
    mut file: File,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
    told: &mpsc::Sender<u64>,
) {
    let mut done = 0;
    loop {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => return,
            Ok(n) => {
                piece.truncate(n);
                done += n as u64;
                if sender.blocking_send(Ok(piece.into())).is_err() {
                    return;
                }
                let _ = told.try_send(done);
            }
            Err(err) => {
                let _ = sender.blocking_send(Err(err));
                return;
            }
        }
    }
}

/// Tells how far an upload is, now and then.
pub(super) struct Telling<'p, 'e> {
    push: &'p Push<'e>,
    id: String,
    total: Option<u64>,
    told: Option<Instant>,
}

impl<'p, 'e> Telling<'p, 'e> {
    pub(super) fn new(push: &'p Push<'e>, id: &str, total: Option<u64>) -> Self {
        Self { push, id: id.to_owned(), total, told: None }
    }

    /// Runs `work` and tells what comes by `progress` beside it.
    pub(super) async fn beside<T>(
        &mut self,
        work: impl Future<Output = T>,
        mut progress: mpsc::Receiver<u64>,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(bytes) = progress.recv() => self.tell(bytes).await,
            }
        }
    }

    async fn tell(&mut self, bytes: u64) {
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if self.id.is_empty() || !(due || self.total == Some(bytes)) {
            return;
        }
        self.told = Some(Instant::now());
        let detail = match self.total {
            Some(total) => json!({"current": bytes, "total": total}),
            None => json!({"current": bytes}),
        };
        let message = json!({"status": "Pushing", "progressDetail": detail, "id": self.id});
        self.push.voice.say(message).await;
    }
}
