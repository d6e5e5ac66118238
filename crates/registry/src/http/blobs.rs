//! `/v2/<name>/blobs/<digest>`

use super::{
    CONTENT_DIGEST, Cx, Reply,
    body::Body,
    fail::Fail,
    range::{self, Wanted},
    record::Deed,
    reply, set,
};
use crate::meta::{Blob, Place, Unlink};
use base::{Digest, Error, Timestamp};
use bytes::Bytes;
use http::{StatusCode, header};

fn digest_of(cx: &Cx) -> Result<Digest, Fail> {
    cx.rest
        .parse()
        .map_err(|e: Error| Fail::digest_invalid(e.to_string()).detail(cx.rest.clone().into()))
}

fn unknown(digest: &Digest) -> Fail {
    Fail::blob_unknown("blob unknown to this repository").detail(digest.as_str().into())
}

/// `GET` and `HEAD`, whole or a range.
pub(crate) async fn read(cx: &mut Cx) -> Reply {
    let digest = digest_of(cx)?;
    let name = cx.repository()?.as_str().to_owned();
    let (wanted, now, grace) = (digest.clone(), Timestamp::now(), cx.site.settings.grace);
    let head = cx.is_head();
    let found = cx
        .site
        .database
        .read(move |tx| {
            let Some(blob) = tx.blob(&name, &wanted)? else { return Ok(None) };
            let touch = head && tx.needs_touch(&name, blob.id, now, grace)?;
            let bytes = match blob.place {
                Place::Inline if !head => tx.blob_bytes(blob.id)?,
                _ => None,
            };
            Ok(Some((blob, bytes, touch)))
        })
        .await?;
    let Some((blob, bytes, touch)) = found else { return Err(unknown(&digest)) };
    if touch {
        // The client will not upload what we say is here, so it has to stay a while.
        let (name, wanted) = (cx.repository()?.as_str().to_owned(), digest.clone());
        let still = cx.site.database.write(move |tx| tx.touch(&name, &wanted, now, grace)).await?;
        if !still {
            return Err(unknown(&digest));
        }
    }
    let tag = format!("\"{digest}\"");
    let range = match cx.header(header::IF_RANGE) {
        Some(version) if version != tag => Wanted::Whole,
        _ => range::wanted(cx.header(header::RANGE), blob.size),
    };
    let (status, part) = match range {
        _ if cx.header(header::IF_NONE_MATCH).is_some_and(|v| v == tag || v == "*") => {
            let mut unchanged = reply(StatusCode::NOT_MODIFIED, Body::empty());
            set(&mut unchanged, header::ETAG, &tag);
            set(&mut unchanged, CONTENT_DIGEST, digest.as_str());
            return Ok(unchanged);
        }
        Wanted::Whole => (StatusCode::OK, 0..blob.size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Impossible => {
            return Err(Fail::range_invalid("the blob does not have this range")
                .header(header::CONTENT_RANGE, &format!("bytes */{}", blob.size)));
        }
    };
    let body = if head { Body::empty() } else { content(cx, &blob, bytes, part.clone()).await? };
    let mut answer = reply(status, body);
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{}", part.start, part.end - 1, blob.size);
        set(&mut answer, header::CONTENT_RANGE, &text);
    }
    set(&mut answer, header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    set(&mut answer, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut answer, header::ETAG, &tag);
    set(&mut answer, header::CACHE_CONTROL, "max-age=31536000");
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    if !head {
        cx.site.metrics.pulled(part.end - part.start);
        cx.record_later(&Deed {
            action: "pull",
            reference: digest.as_str(),
            digest: Some(&digest),
            media_type: "application/octet-stream",
            size: blob.size,
            kind: "blobs",
        });
    }
    Ok(answer)
}

async fn content(
    cx: &Cx,
    blob: &Blob,
    bytes: Option<Vec<u8>>,
    part: std::ops::Range<u64>,
) -> Result<Body, Fail> {
    let length = part.end - part.start;
    match (&blob.place, bytes) {
        (Place::Inline, Some(bytes)) => {
            Ok(Bytes::from(bytes).slice(part.start as usize..part.end as usize).into())
        }
        (Place::Inline, None) => Err(Error::internal("a blob's row has no bytes").into()),
        (Place::Stored(_), _) if length == 0 => Ok(Body::empty()),
        (Place::Stored(place), _) => {
            let content = cx.site.storage.read(place, part).await.map_err(|err| {
                tracing::error!(digest = %blob.digest, err = err.chain(), "a blob cannot be read");
                Fail::unavailable("the blob cannot be read from storage at the moment")
            })?;
            Ok(Body::content(content, length, cx.outbox()))
        }
    }
}

/// `DELETE`
pub(crate) async fn delete(cx: &mut Cx) -> Reply {
    let digest = digest_of(cx)?;
    let name = cx.repository()?.as_str().to_owned();
    let record = cx.record(&Deed {
        action: "delete",
        reference: digest.as_str(),
        digest: Some(&digest),
        media_type: "application/octet-stream",
        size: 0,
        kind: "blobs",
    });
    let wanted = digest.clone();
    let done = cx
        .site
        .database
        .write(move |tx| {
            let done = tx.unlink(&name, &wanted, Timestamp::now())?;
            if done == Unlink::Done {
                record.write(tx)?;
            }
            Ok(done)
        })
        .await?;
    cx.site.events.wake();
    match done {
        Unlink::Done => Ok(reply(StatusCode::ACCEPTED, Body::empty())),
        Unlink::Unknown => Err(unknown(&digest)),
        Unlink::Needed => Err(Fail::unsupported(
            "a manifest of the repository needs this blob: delete the manifest first",
        )
        .detail(digest.as_str().into())),
    }
}
