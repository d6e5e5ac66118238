//! Bodies of requests as streams.
//!
//! Whoever stops reading in the middle (a refused context, a full disk) drops the stream, and the client, which is still
//! sending, would see a closed connection instead of the answer. So what is dropped is read on for a while.

use crate::call::Call;
use bytes::Bytes;
use engine::images::Bytestream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// How much of what nobody wants is read.
const DRAIN_BYTES: usize = 256 << 20;
/// How long it is read.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The request body as a stream of pieces.
pub(crate) fn incoming(call: &mut Call) -> Bytestream {
    let Some(body) = call.body.take() else { return Box::pin(futures_util::stream::empty()) };
    let pieces = body.into_data_stream().map_err(|err| std::io::Error::other(err.to_string()));
    Box::pin(Incoming(Some(Box::pin(pieces))))
}

/// A body; empty when it has come to its end.
struct Incoming(Option<Bytestream>);

impl Stream for Incoming {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(inner) = &mut self.0 else { return Poll::Ready(None) };
        let next = std::task::ready!(inner.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(next)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Without a runtime the daemon is ending, and its connections with it.
        if let (Some(rest), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(drain(rest));
        }
    }
}

async fn drain(mut body: Bytestream) {
    let read = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(piece)) = body.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // A client that neither sends nor ends has had its time.
    let _late = tokio::time::timeout(DRAIN_TIME, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn what_is_dropped_in_the_middle_is_read_on() {
        let read = Arc::new(AtomicUsize::new(0));
        let (count, (ended, end)) = (Arc::clone(&read), tokio::sync::oneshot::channel());
        let mut ended = Some(ended);
        let pieces = futures_util::stream::poll_fn(move |_| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            if n == 100 {
                let _gone = ended.take().map(|ended| ended.send(()));
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(Bytes::from_static(b"piece"))))
        });
        let mut body = Incoming(Some(Box::pin(pieces)));
        assert_eq!(body.next().await.unwrap().unwrap(), "piece");
        drop(body);
        end.await.unwrap();
        assert_eq!(read.load(Ordering::Relaxed), 101);
    }
}
