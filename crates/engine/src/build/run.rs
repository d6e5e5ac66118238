//! `RUN`: a container of this engine, its output going to the client of the build.

use super::Job;
use crate::{
    Engine,
    containers::{AttachOptions, AttachStream, Condition, Create, RemoveOptions},
    images::{Hold, NewLayer},
};
use base::{Error, Result};
use build::{
    host::{self, Exec, Layer},
    output::{Message, Output},
};
use bytes::{Buf as _, Bytes, BytesMut};
use std::sync::Arc;
use storage::Commit;
use tokio_util::task::TaskTracker;

/// A container of a build; it is removed when this is dropped.
pub struct RunContainer {
    engine: Arc<Engine>,
    job: Arc<Job>,
    hold: Arc<Hold>,
    id: String,
    layers: Vec<base::Digest>,
    warnings: Vec<String>,
    /// Nobody removes it any more: it is removed, or is to stay.
    settled: bool,
}

impl std::fmt::Debug for RunContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContainer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Does `work` to its end, also when nobody waits for it any more: a build is dropped when its client goes, and a container's
/// creation, start or removal that broke off half-way would leave what nobody knows.
async fn to_its_end<T: Send + 'static>(
    tasks: &TaskTracker,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let done = tasks.spawn(work).await;
    done.map_err(|e| Error::internal("the work on a build's container broke off").caused_by(e))?
}

impl RunContainer {
    pub(super) async fn create(
        engine: &Arc<Engine>,
        job: &Arc<Job>,
        hold: &Arc<Hold>,
        exec: Exec,
    ) -> Result<Self> {
        let mut config = crate::images::convert::to_api(&exec.config);
        config.image = exec.image.as_ref().map(ToString::to_string).unwrap_or_default();
        config.attach_stdout = true;
        config.attach_stderr = true;
        let mut host = job.host.clone();
        if let Some((_, path)) = &exec.script
            && let Some(folder) = path.parent()
        {
            host.binds = Some(vec![format!("{}:/dev/pipes:ro", folder.display())]);
        }
        let create = Create { config, host, step: true, ..Create::default() };
        Self::make(engine, job, hold, create).await
    }

    /// Makes the container that `create` says.
    pub(super) async fn make(
        engine: &Arc<Engine>,
        job: &Arc<Job>,
        hold: &Arc<Hold>,
        mut create: Create,
    ) -> Result<Self> {
        create.host.log_config.r#type = "none".into();
        let (engine, job, hold) = (Arc::clone(engine), Arc::clone(job), Arc::clone(hold));
        let tasks = engine.tasks.clone();
        // When nobody waits for it any more it is dropped as soon as it is made, and so removed.
        to_its_end(&tasks, async move {
            let created = engine.container_create(create, &job.by).await?;
            let id = created.id.to_string();
            let (layers, warnings) = (Vec::new(), created.warnings);
            let mut made = Self { engine, job, hold, id, layers, warnings, settled: false };
            made.layers.clone_from(&made.engine.containers.find(&made.id)?.record().layers);
            made.job.note_container(&made.id)?;
            Ok(made)
        })
        .await
    }

    /// Starts it.
    ///
    /// # Errors
    /// As [`Engine::container_start`].
    pub(super) async fn start(&self) -> Result<()> {
        let (engine, id, by) = (Arc::clone(&self.engine), self.id.clone(), self.job.by.clone());
        let start = async move { engine.container_start(&id, &by).await };
        to_its_end(&self.engine.tasks, start).await
    }

    /// Who asked for the build.
    pub(super) fn by(&self) -> &base::Principal {
        &self.job.by
    }

    /// Takes away what is only there because something was mounted on it.
    pub(super) async fn clear_stubs(&self, stubs: Vec<std::path::PathBuf>) -> Result<()> {
        if stubs.is_empty() {
            return Ok(());
        }
        let (engine, id, layers) = (Arc::clone(&self.engine), self.id.clone(), self.layers.clone());
        super::host::blocking(move || {
            let active = engine.snapshots.get(&id, &layers)?;
            let upper = sys::root::Root::open(&active.upper)
                .map_err(|e| Error::io("cannot open a step's tree", e.into()))?;
            super::step::clear_stubs(&upper, &stubs);
            Ok(())
        })
        .await
    }

    async fn pump(mut attached: AttachStream, output: &Output) {
        let mut frames = Frames::default();
        while let Some(bytes) = attached.next().await {
            frames.push(&bytes);
            while let Some(message) = frames.next() {
                output.send(message).await;
            }
        }
        for message in frames.rest() {
            output.send(message).await;
        }
    }
}

impl host::Container for RunContainer {
    fn id(&self) -> &str {
        &self.id
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }

    async fn run(&mut self, output: &Output) -> Result<i64> {
        let streams =
            AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
        let attached = self.engine.container_attach(&self.id, streams, &self.job.by).await?;
        self.start().await?;
        Self::pump(attached, output).await;
        let ended = self.engine.container_wait(&self.id, Condition::NotRunning)?.ended().await;
        match ended.error {
            Some(why) => Err(Error::internal(why)),
            None => Ok(ended.exit_code.into()),
        }
    }

    async fn commit(&mut self) -> Result<Option<Layer>> {
        let (engine, hold) = (Arc::clone(&self.engine), Arc::clone(&self.hold));
        let (id, layers) = (self.id.clone(), self.layers.clone());
        super::host::blocking(move || {
            let active = engine.snapshots.get(&id, &layers)?;
            if super::host::untouched(&active)? {
                return Ok(None);
            }
            let new =
                hold.make(|_| Ok(NewLayer::from(engine.snapshots.commit(&active, Commit::Take)?)))?;
            Ok(Some(super::host::layer(new)))
        })
        .await
    }

    async fn remove(mut self) -> Result<()> {
        self.settled = true;
        let (engine, job, id) = (Arc::clone(&self.engine), Arc::clone(&self.job), self.id.clone());
        to_its_end(&self.engine.tasks, async move {
            let options = RemoveOptions { force: true, volumes: true };
            engine.container_remove(&id, options, &job.by).await?;
            job.forget_container(&id);
            Ok(())
        })
        .await
    }

    fn keep(mut self) {
        self.settled = true;
        self.job.forget_container(&self.id);
    }
}

impl Drop for RunContainer {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (engine, id, by) = (Arc::clone(&self.engine), self.id.clone(), self.job.by.clone());
        self.engine.tasks.spawn(async move {
            let options = RemoveOptions { force: true, volumes: true };
            if let Err(err) = engine.container_remove(&id, options, &by).await {
                tracing::warn!(
                    ctr = id,
                    err = err.chain(),
                    "a container of a stopped build was not removed"
                );
            }
        });
    }
}

/// Attach frames (stream, three zeros, length, data) to messages of whole characters.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
    /// Bytes of a character that is not complete yet, of standard output and error.
    parts: [Vec<u8>; 2],
}

const HEADER: usize = 8;

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame's bytes, and whether they are of standard error.
    pub(super) fn next_bytes(&mut self) -> Option<(bool, Bytes)> {
        let header = self.buffer.get(..HEADER)?;
        let stderr = header[0] == 2;
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if self.buffer.len() < HEADER + length {
            return None;
        }
        self.buffer.advance(HEADER);
        Some((stderr, self.buffer.split_to(length).freeze()))
    }

    fn next(&mut self) -> Option<Message> {
        loop {
            let (stderr, data) = self.next_bytes()?;
            let part = &mut self.parts[usize::from(stderr)];
            part.extend_from_slice(&data);
            let end = whole(part);
            let text: Vec<u8> = part.drain(..end).collect();
            if !text.is_empty() {
                return Some(message(stderr, &text));
            }
        }
    }

    fn rest(self) -> Vec<Message> {
        let [out, err] = self.parts;
        let parts = [(false, out), (true, err)];
        parts
            .into_iter()
            .filter(|(_, part)| !part.is_empty())
            .map(|(e, part)| message(e, &part))
            .collect()
    }
}

/// Bytes up to a last character that has begun and not ended.
fn whole(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(err) if err.error_len().is_none() => err.valid_up_to(),
        _ => bytes.len(),
    }
}

fn message(stderr: bool, text: &[u8]) -> Message {
    let text = String::from_utf8_lossy(text).into_owned();
    if stderr { Message::Stderr(text) } else { Message::Stdout(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((data.len() as u32).to_be_bytes());
        frame.extend(data);
        frame
    }

    #[test]
    fn frames_become_messages_wherever_they_are_cut() {
        let bytes = [
            frame(1, "a\u{e9}".as_bytes()),
            frame(2, b"x"),
            frame(1, b"\xc3"),
            frame(1, b"\xa9\xff"),
        ]
        .concat();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(message) = frames.next() {
                    got.push(message);
                }
            }
            got.extend(frames.rest());
            let want = [
                Message::Stdout("a\u{e9}".into()),
                Message::Stderr("x".into()),
                Message::Stdout("\u{e9}\u{fffd}".into()),
            ];
            assert_eq!(got, want, "pieces of {size}");
        }
    }
}
