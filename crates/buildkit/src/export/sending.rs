//! The stream of bytes under archives that the client writes to its disk.

use crate::{failure::from_status, job::Job, proto::filesync, solve::blocking};
use base::{Error, Result};
use std::{collections::HashMap, io::Write, sync::Arc};
use tokio::sync::mpsc;
use tonic::{Request, metadata::MetadataValue};

/// Bytes of one message to the client.
const PIECE: usize = 1 << 20;
/// What clients tell exporters apart by.
const EXPORTER: &str = "buildkit-attachable-exporter-id";

/// A stream of bytes to the client.
pub(super) struct Sending {
    sender: mpsc::Sender<filesync::BytesMessage>,
    answer: tokio::task::JoinHandle<Result<()>>,
}

impl Sending {
    /// Opens the stream of the exporter at `index`; `told` goes with it.
    ///
    /// # Errors
    /// When the client takes no files.
    pub(super) async fn open(
        job: &Arc<Job>,
        index: usize,
        told: &HashMap<String, String>,
    ) -> Result<Self> {
        let session = job.session("").await?;
        session.needs("/moby.filesync.v1.FileSend/DiffCopy")?;
        let (sender, receiver) = mpsc::channel::<filesync::BytesMessage>(4);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let mut request = Request::new(stream);
        mark(&mut request, index)?;
        for (key, value) in told {
            if let (Ok(key), Ok(value)) = (
                format!("exporter-md-{key}")
                    .parse::<tonic::metadata::MetadataKey<tonic::metadata::Ascii>>(),
                value.parse::<MetadataValue<tonic::metadata::Ascii>>(),
            ) {
                request.metadata_mut().insert(key, value);
            }
        }
        let mut client = session.sink();
        let what = "cannot send the result to the client";
        // The answer's head may come only when the client has taken all.
        let answer = tokio::spawn(async move {
            let answer = client.diff_copy(request).await.map_err(|s| from_status(what, &s))?;
            let mut answer = answer.into_inner();
            while answer.message().await.map_err(|s| from_status(what, &s))?.is_some() {}
            Ok(())
        });
        Ok(Self { sender, answer })
    }

    /// Writes with `work`, on a thread that may block, and waits until the client has taken all.
    ///
    /// # Errors
    /// Those of `work`, and of the client.
    pub(super) async fn write(
        self,
        work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let Self { sender, answer } = self;
        let written = blocking(move || {
            let mut pieces = Pieces { sender, buffer: Vec::with_capacity(PIECE) };
            work(&mut pieces)?;
            pieces.flush().map_err(|e| Error::io("cannot send the result to the client", e))
        })
        .await;
        let answered = match answer.await {
            Ok(answered) => answered,
            Err(err) => Err(Error::internal("sending a result ended early").caused_by(err)),
        };
        // What the client says is the better reason why writing failed.
        answered.and(written)
    }
}

struct Pieces {
    sender: mpsc::Sender<filesync::BytesMessage>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let taken = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(filesync::BytesMessage { data })
            .map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

/// Says which exporter a stream is of.
pub(super) fn mark<T>(request: &mut Request<T>, index: usize) -> Result<()> {
    let value = index.to_string().parse().map_err(|_| Error::internal("malformed index"))?;
    request.metadata_mut().insert(EXPORTER, value);
    Ok(())
}
