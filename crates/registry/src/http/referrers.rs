//! `/v2/<name>/referrers/<digest>`: an image index of the manifests that are about another.

use super::{Cx, Reply, fail::Fail, page::Page, reply, set};
use crate::manifest::OCI_INDEX;
use base::{Digest, Error};
use http::{HeaderName, StatusCode, header};
use serde_json::{Value, json};

const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Entries of a page: with annotations of usual size far below the 4 MiB that clients take for an index.
const USUAL: usize = 1000;
/// Bytes of annotations in a page; entries beyond it go to the next.
const ANNOTATIONS: usize = 3 << 20;

/// `GET ?artifactType=`
pub(crate) async fn list(cx: &mut Cx) -> Reply {
    let digest: Digest = cx
        .rest
        .parse()
        .map_err(|e: Error| Fail::digest_invalid(e.to_string()).detail(cx.rest.clone().into()))?;
    let query = cx.query();
    let page = Page::read(&query, USUAL)?;
    let kind = query.iter().find(|(k, _)| k == "artifactType").map(|(_, v)| v.clone());
    let kind = kind.filter(|k| !k.is_empty());
    let name = cx.repository()?.as_str().to_owned();
    let (last, limit, wanted) = (page.last.clone(), page.limit.min(USUAL), kind.clone());
    let found = cx
        .site
        .database
        .read(move |tx| tx.referrers(&name, &digest, wanted.as_deref(), &last, limit + 1))
        .await?;
    let (mut manifests, mut bytes): (Vec<Value>, usize) = (Vec::new(), 0);
    let mut last = None;
    let mut more = false;
    for referrer in found {
        bytes += referrer.annotations.len();
        if manifests.len() == limit || (bytes > ANNOTATIONS && !manifests.is_empty()) {
            more = true;
            break;
        }
        let mut descriptor = json!({
            "mediaType": referrer.media_type, "digest": referrer.digest, "size": referrer.size,
        });
        if !referrer.artifact_type.is_empty() {
            descriptor["artifactType"] = referrer.artifact_type.into();
        }
        if let Ok(Value::Object(annotations)) = serde_json::from_str(&referrer.annotations)
            && !annotations.is_empty()
        {
            descriptor["annotations"] = annotations.into();
        }
        manifests.push(descriptor);
        last = Some(referrer.digest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let mut answer = reply(StatusCode::OK, index.to_string());
    set(&mut answer, header::CONTENT_TYPE, OCI_INDEX);
    if kind.is_some() {
        set(&mut answer, FILTERS, "artifactType");
    }
    if more && let Some(last) = last {
        let filter: Vec<(&str, &str)> =
            kind.as_deref().map(|k| ("artifactType", k)).into_iter().collect();
        let page = Page { limit, ..page };
        if let Some(link) = page.link(last.as_str(), &cx.path, &filter) {
            answer.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(answer)
}
