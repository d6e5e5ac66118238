//! Sessions inside gRPC: clients that reach the builder without `POST /session` send the bytes of the
//! session's connection as messages.

use crate::{
    proto::control,
    session::{Hello, Sessions},
};
use futures_util::Stream;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tonic::Status;

/// Bytes on their way.
const PIPE: usize = 1 << 20;
const PIECE: usize = 32 << 10;

/// Serves a session whose bytes come as `incoming`; gives the bytes that go back.
pub(crate) fn session(
    sessions: Arc<Sessions>,
    hello: Hello,
    mut incoming: tonic::Streaming<control::BytesMessage>,
) -> impl Stream<Item = Result<control::BytesMessage, Status>> + Send {
    let (near, far) = duplex(PIPE);
    let (reader, mut writer) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            if writer.write_all(&message.data).await.is_err() {
                return;
            }
        }
        // The other side has closed; so does this.
        let _closed = writer.shutdown().await;
    });
    tokio::spawn(async move {
        if let Err(err) = sessions.serve(hello, TokioIo::new(near)).await {
            tracing::debug!(err = err.chain(), "a session was refused");
        }
    });
    futures_util::stream::unfold(reader, back)
}

async fn back(
    mut reader: tokio::io::ReadHalf<DuplexStream>,
) -> Option<(Result<control::BytesMessage, Status>, tokio::io::ReadHalf<DuplexStream>)> {
    let mut data = vec![0; PIECE];
    match reader.read(&mut data).await {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            data.truncate(count);
            Some((Ok(control::BytesMessage { data }), reader))
        }
    }
}
