//! Filling a blob: lanes that each take the next piece of what is missing, and tries when one breaks.
//!
//! A small blob is one request. Of a large one several pieces come at once, in order, so that the reader
//! behind them never waits long. A server that knows no ranges is read by one lane from the beginning.

use super::incoming::{Incoming, MARK_BYTES};
use crate::registry::{Blob, Failed, Repository};
use base::Error;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// From this size on a blob comes by several lanes.
const LANES_FROM_BYTES: u64 = 16 << 20;
/// What a lane asks for at once.
const PIECE_BYTES: u64 = 8 << 20;
/// Progress that makes a break forgiven: the smaller of this and a fiftieth of the blob.
const PROGRESS_BYTES: u64 = 64 << 10;
/// Waits between tries without progress; they double.
const WAIT: Duration = Duration::from_secs(1);
/// The wait after a break that came with progress.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// How to download.
#[derive(Clone, Debug)]
pub struct Order {
    /// Tries without progress.
    pub tries: u32,
    /// Connections for one blob.
    pub lanes: usize,
    /// Where else the blob may be had, when its registry does not hand it out.
    pub urls: Vec<String>,
}

/// What a download tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes are here.
    Bytes(u64),
    /// It broke and goes on after this time.
    Retry(Duration),
}

struct Job<'a> {
    repository: &'a Repository,
    incoming: &'a Arc<Incoming>,
    order: &'a Order,
    pieces: Mutex<VecDeque<(u64, u64)>>,
    /// Bytes told last, so that not every frame is told.
    told: AtomicU64,
    tell: &'a (dyn Fn(Step) + Sync),
}

/// Fetches all that is missing of `incoming`.
///
/// # Errors
/// When the registry refuses, lies, or broke off too often.
///
/// # Cancel safety
/// What has come stays and is continued by the next call.
pub async fn fetch(
    repository: &Repository,
    incoming: &Arc<Incoming>,
    order: &Order,
    tell: &(dyn Fn(Step) + Sync),
) -> Result<(), Failed> {
    let mut tried = 0;
    loop {
        let before = incoming.bytes();
        let missing = incoming.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let job = Job {
            repository,
            incoming,
            order,
            pieces: Mutex::new(pieces(&missing)),
            told: AtomicU64::new(0),
            tell,
        };
        let Err(err) = job.run().await else { continue };
        if !err.is_transient() {
            return Err(err);
        }
        let slow = matches!(&err, Failed::Way(e) if e.failure() == fetch::Failure::Slow);
        let progress = incoming.bytes().saturating_sub(before);
        let wait = if !slow && progress >= PROGRESS_BYTES.min(incoming.size() / 50).max(1) {
            tried = 0;
            SHORT_WAIT
        } else {
            tried += 1;
            if tried >= order.tries {
                return Err(err);
            }
            err.wait().unwrap_or(WAIT * 2_u32.pow((tried - 1).min(5)))
        };
        tracing::debug!(
            digest = incoming.digest().as_str(),
            err = Error::from(err).chain(),
            "a download broke and goes on"
        );
        tell(Step::Retry(wait));
        tokio::time::sleep(wait).await;
    }
}

/// What is missing, cut into pieces when there is much of it.
fn pieces(missing: &[(u64, u64)]) -> VecDeque<(u64, u64)> {
    let total: u64 = missing.iter().map(|(from, to)| to - from).sum();
    if total < LANES_FROM_BYTES {
        return missing.iter().copied().collect();
    }
    let mut pieces = VecDeque::new();
    for (from, to) in missing {
        let mut at = *from;
        while at < *to {
            let end = (at + PIECE_BYTES).min(*to);
            pieces.push_back((at, end));
            at = end;
        }
    }
    pieces
}

impl Job<'_> {
    async fn run(&self) -> Result<(), Failed> {
        let many = self.take_count();
        let lanes = self.order.lanes.clamp(1, many.max(1));
        let all = (0..lanes).map(|_| Box::pin(self.lane())).collect::<Vec<_>>();
        // The first fault ends all lanes; what each has written stays.
        futures_join(all).await
    }

    fn take_count(&self) -> usize {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn next(&self) -> Option<(u64, u64)> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    async fn lane(&self) -> Result<(), Failed> {
        while let Some((from, to)) = self.next() {
            let blob = self.open(from, to).await?;
            if blob.offset == from {
                let whole = blob.response.status() == http::StatusCode::OK;
                // An answer of the whole blob is read whole: the other pieces come with it.
                let to = if whole { self.incoming.size() } else { to };
                if whole {
                    self.pieces.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                self.read(blob, from, to).await?;
            } else {
                // No ranges here: from the beginning, past what is there already.
                self.pieces.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.read(blob, 0, self.incoming.size()).await?;
            }
        }
        Ok(())
    }

    async fn open(&self, from: u64, to: u64) -> Result<Blob, Failed> {
        let (digest, size) = (self.incoming.digest(), self.incoming.size());
        let refused = match self.repository.blob(digest, size, from, Some(to)).await {
            Err(err @ Failed::Refused(_)) if matches!(err.status(), Some(403 | 404)) => err,
            done => return done,
        };
        for place in &self.order.urls {
            match self.repository.foreign_blob(place, size, from, Some(to)).await {
                Ok(blob) => return Ok(blob),
                Err(err) => tracing::debug!(
                    err = Error::from(err).chain(),
                    "a layer was not had from where its manifest says"
                ),
            }
        }
        Err(refused)
    }

    /// Reads an answer from `at` to `to`.
    async fn read(&self, mut blob: Blob, mut at: u64, to: u64) -> Result<(), Failed> {
        let mut marked = at;
        let announced = blob.response.length().is_some();
        let outcome = loop {
            match blob.response.piece().await {
                Ok(Some(piece)) => {
                    let end = at + piece.len() as u64;
                    if end > to {
                        let text = format!(
                            "the registry sends more of blob {} than the {} bytes that its manifest says",
                            self.incoming.digest(),
                            self.incoming.size()
                        );
                        break Err(Error::invalid(text).into());
                    }
                    let mark = (end - marked >= MARK_BYTES || end == to).then_some(marked);
                    if let Err(err) = self.incoming.write(at, &piece, mark) {
                        break Err(err.into());
                    }
                    at = end;
                    if mark.is_some() {
                        marked = at;
                    }
                    self.tell();
                    // The end of a body of known length needs no further word.
                    if at == to && announced {
                        break Ok(());
                    }
                }
                Ok(None) if at == to => break Ok(()),
                Ok(None) => {
                    let text = format!(
                        "blob {} ends at byte {at}, its manifest says {}",
                        self.incoming.digest(),
                        self.incoming.size()
                    );
                    break Err(short(&text));
                }
                Err(err) => break Err(err.into()),
            }
        };
        if marked < at {
            self.incoming.mark(marked, at)?;
        }
        outcome
    }

    fn tell(&self) {
        let here = self.incoming.bytes();
        let told = self.told.load(Ordering::Relaxed);
        if here >= told + (512 << 10) || here == self.incoming.size() {
            self.told.store(here, Ordering::Relaxed);
            (self.tell)(Step::Bytes(here));
        }
    }
}

/// A body that ended too early without a broken connection: asked for again, but not for ever.
fn short(text: &str) -> Failed {
    Failed::Way(fetch::Error::broken(text))
}

/// Waits for all, or for the first that fails.
async fn futures_join<F>(mut all: Vec<std::pin::Pin<Box<F>>>) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>>,
{
    std::future::poll_fn(|cx| {
        let mut at = 0;
        while at < all.len() {
            match all[at].as_mut().poll(cx) {
                std::task::Poll::Ready(Ok(())) => drop(all.swap_remove(at)),
                std::task::Poll::Ready(Err(err)) => return std::task::Poll::Ready(Err(err)),
                std::task::Poll::Pending => at += 1,
            }
        }
        if all.is_empty() { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blobs_come_in_pieces() {
        assert_eq!(pieces(&[(0, 100)]), [(0, 100)]);
        let many = pieces(&[(5, LANES_FROM_BYTES + 6)]);
        assert_eq!(many.front(), Some(&(5, 5 + PIECE_BYTES)));
        assert_eq!(many.back().unwrap().1, LANES_FROM_BYTES + 6);
        assert!(many.iter().zip(many.iter().skip(1)).all(|(a, b)| a.1 == b.0));
    }
}
