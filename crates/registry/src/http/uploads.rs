//! `/v2/<name>/blobs/uploads/`: whole, in chunks, by mount.

use super::{CONTENT_DIGEST, Cx, Reply, body::Body, fail::Fail, range, record::Deed, reply, set};
use crate::{
    auth::Action,
    hash::Algorithm,
    name::Repository,
    uploads::{INLINE, Lease, UploadId, With},
};
use base::{Digest, Error, Timestamp};
use bytes::Bytes;
use http::{HeaderName, Response, StatusCode, header};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Bytes that are gathered before they are written; a little more when a piece is large.
const BATCH: usize = 512 << 10;
/// Repositories that are looked at for a blob to mount without a source.
const MOUNT_SOURCES: usize = 100;

fn value<'q>(query: &'q [(String, String)], key: &str) -> Option<&'q str> {
    query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn digest_of(text: &str) -> Result<Digest, Fail> {
    text.parse().map_err(|e: Error| Fail::digest_invalid(e.to_string()).detail(text.into()))
}

/// `POST`: a mount, a whole blob, or the beginning of a session.
pub(crate) async fn begin(cx: &mut Cx) -> Reply {
    let name = cx.repository()?.clone();
    let query = cx.query();
    if let Some(wanted) = value(&query, "mount") {
        let digest = digest_of(wanted)?;
        if mount(cx, &name, &digest, value(&query, "from")).await? {
            return Ok(created(&name, &digest));
        }
    } else if let Some(wanted) = value(&query, "digest") {
        let digest = digest_of(wanted)?;
        return whole(cx, &name, &digest).await;
    }
    let algorithm = match value(&query, "digest-algorithm") {
        None => Algorithm::default(),
        Some(text) => Algorithm::parse(text).ok_or_else(|| {
            Fail::digest_invalid(format!("unsupported digest algorithm {text:?}"))
        })?,
    };
    let id = cx.site.uploads.begin(name.as_str(), algorithm).await.map_err(full)?;
    Ok(under_way(StatusCode::ACCEPTED, &name, &id, 0))
}

/// Too many sessions is the client's to hear as such; a full disk is ours.
fn full(err: Error) -> Fail {
    if err.to_string().starts_with("too many") {
        return Fail::too_many_requests(err.to_string()).header(header::RETRY_AFTER, "60");
    }
    err.into()
}

/// Links a blob that the caller may pull elsewhere; `false` when there is none.
async fn mount(
    cx: &Cx,
    to: &Repository,
    digest: &Digest,
    from: Option<&str>,
) -> Result<bool, Fail> {
    let database = &cx.site.database;
    let sources = match from {
        Some(from) => vec![from.to_owned()],
        None => {
            let wanted = digest.clone();
            database.read(move |tx| tx.repositories_with(&wanted, MOUNT_SOURCES)).await?
        }
    };
    for from in sources {
        let readable = Repository::parse(&from).is_some() && cx.caller.may(&from, Action::Pull);
        if !readable {
            continue;
        }
        let record = cx.record(&Deed {
            action: "mount",
            reference: &from,
            digest: Some(digest),
            media_type: "application/octet-stream",
            size: 0,
            kind: "blobs",
        });
        let (to, wanted, grace) = (to.as_str().to_owned(), digest.clone(), cx.site.settings.grace);
        let done = database
            .write(move |tx| {
                let done = tx.mount(&from, &to, &wanted, Timestamp::now(), grace)?;
                if done {
                    record.write(tx)?;
                }
                Ok(done)
            })
            .await?;
        if done {
            cx.site.events.wake();
            return Ok(true);
        }
    }
    Ok(false)
}

fn created(name: &Repository, digest: &Digest) -> Response<Body> {
    let mut answer = reply(StatusCode::CREATED, Body::empty());
    set(&mut answer, header::LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    answer
}

fn under_way(status: StatusCode, name: &Repository, id: &UploadId, offset: u64) -> Response<Body> {
    let mut answer = reply(status, Body::empty());
    set(&mut answer, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{}", id.as_str()));
    set(&mut answer, UPLOAD_ID, id.as_str());
    set(&mut answer, header::RANGE, &range::received(offset));
    answer
}

/// The record of a pushed blob.
fn pushed(cx: &Cx, digest: &Digest, size: u64) -> With {
    let record = cx.record(&Deed {
        action: "push",
        reference: digest.as_str(),
        digest: Some(digest),
        media_type: "application/octet-stream",
        size,
        kind: "blobs",
    });
    Box::new(move |tx| record.write(tx))
}

/// A verified blob, or why it is none.
fn stored(
    cx: &Cx,
    name: &Repository,
    digest: &Digest,
    size: u64,
    done: Result<(), Error>,
) -> Reply {
    match done {
        Ok(()) => {
            cx.site.metrics.pushed(size);
            cx.site.events.wake();
            Ok(created(name, digest))
        }
        Err(err) if err.kind() == base::Kind::Invalid => {
            Err(Fail::digest_invalid(err.chain()).detail(digest.as_str().into()))
        }
        Err(err) => Err(err.into()),
    }
}

/// `POST ?digest=`: the whole blob in one request.
async fn whole(cx: &mut Cx, name: &Repository, digest: &Digest) -> Reply {
    if cx.content_length().is_some_and(|length| length <= INLINE) {
        let (bytes, _) = cx.whole_body(INLINE as usize).await?;
        let size = bytes.len() as u64;
        let with = pushed(cx, digest, size);
        let done = cx.site.uploads.store_small(name.as_str(), digest, bytes, with).await;
        return stored(cx, name, digest, size, done);
    }
    let algorithm = Algorithm::of(digest);
    let id = cx.site.uploads.begin(name.as_str(), algorithm).await.map_err(full)?;
    let mut lease = leased(cx, &id).await?;
    let expected = cx.content_length();
    if let Err(fail) = receive(cx, &mut lease, expected).await {
        // Nobody knows the session, so nobody can go on with it.
        cx.site.uploads.cancel(lease).await?;
        return Err(fail);
    }
    end(cx, name, lease, digest).await
}

async fn end(cx: &Cx, name: &Repository, lease: Lease, digest: &Digest) -> Reply {
    let size = lease.offset();
    let with = pushed(cx, digest, size);
    let done = cx.site.uploads.finish(lease, name.as_str(), digest, with).await;
    stored(cx, name, digest, size, done)
}

async fn leased(cx: &Cx, id: &UploadId) -> Result<Lease, Fail> {
    let lease = cx.site.uploads.check_out(id).await?;
    lease.ok_or_else(|| Fail::upload_unknown("upload unknown to this registry"))
}

fn id_of(cx: &Cx) -> Result<(Repository, UploadId), Fail> {
    let name = cx.repository()?.clone();
    let id = UploadId::parse(&cx.rest, name.as_str());
    let id = id.ok_or_else(|| Fail::upload_unknown("upload unknown to this repository"))?;
    Ok((name, id))
}

async fn session(cx: &Cx) -> Result<(Repository, Lease), Fail> {
    let (name, id) = id_of(cx)?;
    Ok((name, leased(cx, &id).await?))
}

/// Takes the body into the session; `expected` is how many bytes it shall have.
async fn receive(cx: &mut Cx, lease: &mut Lease, expected: Option<u64>) -> Result<(), Fail> {
    let uploads = std::sync::Arc::clone(&cx.site.uploads);
    let stop = lease.stop().clone();
    let limit = cx.site.settings.blob_bytes;
    let start = lease.offset();
    let (mut batch, mut gathered): (Vec<Bytes>, usize) = (Vec::new(), 0);
    let mut got: u64 = 0;
    let ended = loop {
        let next = tokio::select! {
            next = cx.piece() => next,
            () = stop.cancelled() => {
                Err(Fail::upload_invalid("another request has taken this upload over"))
            }
        };
        let piece = match next {
            Ok(Some(piece)) => piece,
            Ok(None) => break Ok(()),
            Err(fail) => break Err(fail),
        };
        got += piece.len() as u64;
        if expected.is_some_and(|expected| got > expected) {
            break Err(Fail::size_invalid("the chunk has more bytes than it says"));
        }
        if start + got > limit {
            break Err(Fail::too_large(format!("a blob may have {limit} bytes here")));
        }
        gathered += piece.len();
        batch.push(piece);
        if gathered >= BATCH {
            uploads.check_reserve()?;
            uploads.append(lease, std::mem::take(&mut batch)).await?;
            gathered = 0;
        }
    };
    // Whatever came before the end or the break is kept, so that the client can go on behind it.
    if !batch.is_empty() {
        uploads.check_reserve()?;
        uploads.append(lease, batch).await?;
    }
    ended?;
    if expected.is_some_and(|expected| got < expected) {
        return Err(Fail::size_invalid("the chunk has fewer bytes than it says"));
    }
    Ok(())
}

/// Checks where a chunk shall go; how many bytes it shall have, as far as the client says.
fn check_chunk(cx: &Cx, name: &Repository, lease: &Lease) -> Result<Option<u64>, Fail> {
    let Some(text) = cx.header(header::CONTENT_RANGE) else { return Ok(cx.content_length()) };
    let out_of_order = |why: &str| {
        let location = format!("/v2/{name}/blobs/uploads/{}", lease.id().as_str());
        Fail::range_invalid(why)
            .header(header::LOCATION, &location)
            .header(header::RANGE, &range::received(lease.offset()))
            .header(UPLOAD_ID, lease.id().as_str())
    };
    // An empty last chunk is sometimes said to be this.
    let empty = cx.content_length() == Some(0);
    let Some((start, length)) = range::chunk(text) else {
        return Err(Fail::upload_invalid(format!("bad Content-Range {text:?}: want START-END")));
    };
    if start != lease.offset() && !(empty && start <= lease.offset()) {
        return Err(out_of_order("the chunk does not begin where the upload ends"));
    }
    if empty {
        return Ok(Some(0));
    }
    if cx.content_length().is_some_and(|said| said != length) {
        return Err(Fail::size_invalid("Content-Range and Content-Length do not agree"));
    }
    Ok(Some(length))
}

/// `PATCH`: a chunk, or a stream.
pub(crate) async fn append(cx: &mut Cx) -> Reply {
    let (name, mut lease) = session(cx).await?;
    let expected = check_chunk(cx, &name, &lease)?;
    receive(cx, &mut lease, expected).await?;
    Ok(under_way(StatusCode::ACCEPTED, &name, lease.id(), lease.offset()))
}

/// `PUT ?digest=`: the end, perhaps with the last chunk.
pub(crate) async fn finish(cx: &mut Cx) -> Reply {
    let query = cx.query();
    let digest = value(&query, "digest")
        .ok_or_else(|| Fail::digest_invalid("the digest of the blob is not said: want ?digest="))?;
    let digest = digest_of(digest)?;
    let (name, mut lease) = session(cx).await?;
    let expected = check_chunk(cx, &name, &lease)?;
    receive(cx, &mut lease, expected).await?;
    end(cx, &name, lease, &digest).await
}

/// `GET`: how much came.
pub(crate) async fn status(cx: &mut Cx) -> Reply {
    let (name, id) = id_of(cx)?;
    let came = cx.site.uploads.came(&id).await?;
    let came = came.ok_or_else(|| Fail::upload_unknown("upload unknown to this registry"))?;
    Ok(under_way(StatusCode::NO_CONTENT, &name, &id, came))
}

/// `DELETE`: the client does not want it any more.
pub(crate) async fn cancel(cx: &mut Cx) -> Reply {
    let (_, lease) = session(cx).await?;
    cx.site.uploads.cancel(lease).await?;
    Ok(reply(StatusCode::NO_CONTENT, Body::empty()))
}
