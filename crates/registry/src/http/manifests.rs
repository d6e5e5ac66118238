//! `/v2/<name>/manifests/<tag or digest>`

use super::{CONTENT_DIGEST, Cx, Reply, SMALL, body::Body, fail::Fail, record::Deed, reply, set};
use crate::{
    hash::Algorithm,
    manifest,
    meta::{Missing, NewManifest, Put, Stored},
    name::{Reference, Tag},
};
use base::{Digest, Timestamp};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one put by digest may set; the specification asks for ten at least.
const TAGS: usize = 32;

fn reference_of(cx: &Cx) -> Option<Reference> {
    Reference::parse(&cx.rest)
}

fn unknown(reference: &str) -> Fail {
    Fail::manifest_unknown("manifest unknown").detail(reference.into())
}

/// `GET` and `HEAD`
pub(crate) async fn read(cx: &mut Cx) -> Reply {
    // A reference that is none names nothing.
    let reference = reference_of(cx).ok_or_else(|| unknown(&cx.rest))?;
    let name = cx.repository()?.as_str().to_owned();
    let head = cx.is_head();
    let found = cx
        .site
        .database
        .read(move |tx| {
            let Some(found) = tx.manifest(&name, &reference)? else { return Ok(None) };
            let small = !head && found.size <= SMALL;
            let bytes = if small { tx.manifest_bytes(found.id)? } else { None };
            Ok(Some((found, bytes)))
        })
        .await?;
    let (found, bytes) = found.ok_or_else(|| unknown(&cx.rest))?;
    let tag = format!("\"{}\"", found.digest);
    let unchanged = cx.header(header::IF_NONE_MATCH).is_some_and(|v| v == tag || v == "*");
    let mut answer = if unchanged {
        reply(StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        let body = match bytes {
            Some(bytes) => Body::from(bytes),
            None if head => Body::empty(),
            None => large(cx, &found).await?,
        };
        let mut whole = reply(StatusCode::OK, body);
        set(&mut whole, header::CONTENT_TYPE, &found.media_type);
        set(&mut whole, header::CONTENT_LENGTH, &found.size.to_string());
        whole
    };
    set(&mut answer, header::ETAG, &tag);
    set(&mut answer, CONTENT_DIGEST, found.digest.as_str());
    if !head && !unchanged {
        let record = cx.record(&Deed {
            action: "pull",
            reference: &cx.rest,
            digest: Some(&found.digest),
            media_type: &found.media_type,
            size: found.size,
            kind: "manifests",
        });
        cx.site.database.later(move |tx| {
            tx.pulled(found.id, Timestamp::now())?;
            record.write(tx)
        });
        cx.site.events.wake();
    }
    Ok(answer)
}

/// The bytes of a large manifest, which have to find room first.
async fn large(cx: &Cx, found: &Stored) -> Result<Body, Fail> {
    let room = cx.room(found.size).await?;
    let id = found.id;
    let bytes = cx.site.database.read(move |tx| tx.manifest_bytes(id)).await?;
    let bytes = bytes.ok_or_else(|| unknown(&cx.rest))?;
    Ok(Body::holding(bytes, room))
}

/// `PUT`
pub(crate) async fn put(cx: &mut Cx) -> Reply {
    let reference = reference_of(cx).ok_or_else(|| {
        let fail = if cx.rest.contains(':') { Fail::digest_invalid } else { Fail::tag_invalid };
        fail("neither a tag nor a digest").detail(cx.rest.clone().into())
    })?;
    let tags = tags_of(cx, &reference)?;
    let (bytes, _room) = cx.whole_body(manifest::MAX_BYTES).await?;
    let digest = match &reference {
        Reference::Tag(_) => Algorithm::default().digest(&bytes),
        Reference::Digest(wanted) => {
            let found = Algorithm::of(wanted).digest(&bytes);
            if found != *wanted {
                return Err(Fail::digest_invalid("the manifest has another digest")
                    .detail(json!({"wanted": wanted, "found": found})));
            }
            found
        }
    };
    let content_type = cx.header(header::CONTENT_TYPE).unwrap_or_default();
    let parsed = manifest::parse(&bytes, content_type).map_err(Fail::manifest_invalid)?;
    let record = cx.record(&Deed {
        action: "push",
        reference: &cx.rest,
        digest: Some(&digest),
        media_type: &parsed.media_type,
        size: bytes.len() as u64,
        kind: "manifests",
    });
    let subject = parsed.subject.clone();
    let new = NewManifest {
        repository: cx.repository()?.as_str().to_owned(),
        digest: digest.clone(),
        manifest: parsed,
        bytes,
        tags: tags.clone(),
        who: cx.caller.name().to_owned(),
        client: cx.client().chars().take(256).collect(),
        sparse: cx.site.settings.sparse_indexes,
    };
    let done = cx
        .site
        .database
        .write(move |tx| {
            let done = tx.put_manifest(&new, Timestamp::now())?;
            if matches!(done, Put::Done { .. }) {
                record.write(tx)?;
            }
            Ok(done)
        })
        .await?;
    cx.site.events.wake();
    if let Put::Missing(missing) = done {
        return Err(incomplete(missing));
    }
    let mut answer = reply(StatusCode::CREATED, Body::empty());
    let name = cx.repository()?;
    set(&mut answer, header::LOCATION, &format!("/v2/{name}/manifests/{digest}"));
    set(&mut answer, CONTENT_DIGEST, digest.as_str());
    if let Some(subject) = subject {
        set(&mut answer, SUBJECT, subject.as_str());
    }
    if matches!(reference, Reference::Digest(_)) {
        for tag in &tags {
            if let Ok(value) = HeaderValue::from_str(tag.as_str()) {
                answer.headers_mut().append(TAG, value);
            }
        }
    }
    Ok(answer)
}

/// The tag in the path, or those in the query of a put by digest.
fn tags_of(cx: &Cx, reference: &Reference) -> Result<Vec<Tag>, Fail> {
    if let Reference::Tag(tag) = reference {
        return Ok(vec![tag.clone()]);
    }
    let query = cx.query();
    let asked: Vec<&str> =
        query.iter().filter(|(key, _)| key == "tag").map(|(_, v)| v.as_str()).collect();
    if asked.len() > TAGS {
        return Err(Fail::uri_too_long(format!("more than {TAGS} tags in one request")));
    }
    let parse = |text: &&str| {
        Tag::parse(text).ok_or_else(|| Fail::tag_invalid("invalid tag").detail((*text).into()))
    };
    asked.iter().map(parse).collect()
}

fn incomplete(missing: Missing) -> Fail {
    match missing {
        Missing::Unknown(digests) => {
            let detail: Vec<_> = digests.iter().map(|d| json!({"digest": d})).collect();
            Fail::manifest_blob_unknown("blob or manifest unknown to this repository")
                .detail(detail.into())
        }
        Missing::Size(digest) => {
            Fail::manifest_invalid("the manifest gives another size than the blob has")
                .detail(json!({"digest": digest}))
        }
    }
}

/// `DELETE` of a tag, or of a manifest with all its tags.
pub(crate) async fn delete(cx: &mut Cx) -> Reply {
    let reference = reference_of(cx).ok_or_else(|| {
        if cx.rest.contains(':') {
            Fail::digest_invalid("invalid digest").detail(cx.rest.clone().into())
        } else {
            unknown(&cx.rest)
        }
    })?;
    let name = cx.repository()?.as_str().to_owned();
    let digest: Option<Digest> = match &reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(_) => None,
    };
    let record = cx.record(&Deed {
        action: "delete",
        reference: &cx.rest,
        digest: digest.as_ref(),
        media_type: "",
        size: 0,
        kind: "manifests",
    });
    let grace = cx.site.settings.grace;
    let done = cx
        .site
        .database
        .write(move |tx| {
            let now = Timestamp::now();
            let done = match &reference {
                Reference::Tag(tag) => tx.delete_tag(&name, tag, now)?,
                Reference::Digest(digest) => {
                    tx.delete_manifest(&name, digest, now, grace)?.is_some()
                }
            };
            if done {
                record.write(tx)?;
            }
            Ok(done)
        })
        .await?;
    cx.site.events.wake();
    if done { Ok(reply(StatusCode::ACCEPTED, Body::empty())) } else { Err(unknown(&cx.rest)) }
}
