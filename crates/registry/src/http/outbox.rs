//! Pieces of files that the kernel sends by itself (sendfile), without passing through this process.
//!
//! Flow: a body posts a piece to its connection's [`Outbox`] and gives hyper a stand-in for it: as many bytes of
//! [`STAND_IN`], which nobody reads. [`Socket`], below hyper, knows these bytes by their address and has the kernel send
//! the piece in their place.
//! Invariants: pieces leave in the order in which they were posted; a stand-in that is not the rest of the
//! first piece breaks the connection, so that one never goes out as bytes.
//! Not for TLS and HTTP/2, which have to see what they send.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Bytes of a piece, at most.
pub(super) const PIECE: u64 = 1 << 20;

/// Zeroed pages that are never touched take no memory.
static STAND_IN: LazyLock<Bytes> = LazyLock::new(|| vec![0; PIECE as usize].into());

/// Pieces that a connection shall send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox(Arc<Mutex<VecDeque<Piece>>>);

#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    /// Not sent yet.
    rest: Range<u64>,
    /// Bytes sent.
    sent: usize,
}

impl Outbox {
    /// Takes a piece of at most [`PIECE`] bytes; what to give hyper for it.
    pub(super) fn post(&self, file: Arc<File>, range: Range<u64>) -> Bytes {
        let length = (range.end - range.start) as usize;
        let piece = Piece { file, rest: range, sent: 0 };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(piece);
        STAND_IN.slice(..length)
    }

    /// Sends of the first piece what the socket takes, `slot` being the stand-in's rest.
    fn send(&self, socket: &TcpStream, slot: &[u8]) -> io::Result<usize> {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stray = || io::Error::other("a stand-in without its piece of a file");
        let piece = pieces.front_mut().ok_or_else(stray)?;
        let left = (piece.rest.end - piece.rest.start) as usize;
        if offset(slot) != Some(piece.sent) || slot.len() != left {
            return Err(stray());
        }
        let sent = rustix::fs::sendfile(socket, &piece.file, Some(&mut piece.rest.start), left)?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a blob's file is too short"));
        }
        piece.sent += sent;
        if piece.rest.is_empty() {
            pieces.pop_front();
        }
        Ok(sent)
    }
}

/// Where in the stand-in `slice` begins, when it is a part of it.
fn offset(slice: &[u8]) -> Option<usize> {
    let offset = slice.as_ptr().addr().checked_sub(STAND_IN.as_ptr().addr())?;
    (offset < STAND_IN.len() && !slice.is_empty()).then_some(offset)
}

/// A plain connection, which sends pieces of files in the place of their stand-ins.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    outbox: Outbox,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, outbox: Outbox) -> Self {
        Self { stream, outbox }
    }

    fn poll_send(&self, cx: &mut Context<'_>, slot: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let send = || self.outbox.send(&self.stream, slot);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = data.iter().position(|d| offset(d).is_some()) else {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        };
        if data[..first].iter().any(|d| !d.is_empty()) {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, &data[..first]);
        }
        self.poll_send(cx, &data[first])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    async fn pair() -> (Socket, Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let outbox = Outbox::default();
        (Socket::new(listener.accept().await.unwrap().0, outbox.clone()), outbox, theirs)
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn pieces_go_out_between_bytes_and_in_order() {
        let (mut ours, outbox, mut theirs) = pair().await;
        // More than a socket takes at once.
        let bytes: Vec<u8> = (0..PIECE as u32 / 4).flat_map(u32::to_le_bytes).collect();
        let file = file(&bytes);
        let mut data: Vec<Bytes> = vec![Bytes::from_static(b"head"), Bytes::new()];
        let mut wanted = b"head".to_vec();
        for _ in 0..8 {
            data.push(outbox.post(Arc::clone(&file), 0..PIECE));
            data.push(outbox.post(Arc::clone(&file), 5..9));
            data.push(Bytes::from_static(b"between"));
            wanted.extend(&bytes);
            wanted.extend(&bytes[5..9]);
            wanted.extend(b"between");
        }
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.unwrap();
            got
        });
        for piece in &mut data {
            ours.write_all_buf(piece).await.unwrap();
        }
        drop(ours);
        assert!(reading.await.unwrap() == wanted);
        assert!(outbox.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_an_error_and_no_zeroes() {
        let (mut ours, outbox, mut theirs) = pair().await;
        let short = file(b"1234");
        let mut stood = outbox.post(Arc::clone(&short), 0..6);
        let err = ours.write_all_buf(&mut stood).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
        // The piece that is first is another one.
        let mut other = outbox.post(short, 1..4);
        assert!(ours.write_all_buf(&mut other).await.is_err());
        // None was posted.
        let (mut silent, ..) = pair().await;
        assert!(silent.write_all(&STAND_IN[..4]).await.is_err());
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"1234");
    }
}
