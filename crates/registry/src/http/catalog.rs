//! `/v2/_catalog`: the repositories that the caller may see. Not in the OCI specification; Docker's.

use super::{Cx, Reply, json, page::Page};
use http::header;
use std::sync::Arc;

/// Entries when the client does not say.
const USUAL: usize = 100;
/// Names that are looked at in one go for those that the caller may see.
const GO: usize = 2000;

/// `GET`
pub(crate) async fn list(cx: &mut Cx) -> Reply {
    let page = Page::read(&cx.query(), USUAL)?;
    let sees = eyes(cx).await?;
    let (mut last, wanted) = (page.last.clone(), page.limit + 1);
    let mut names = cx
        .site
        .database
        .read(move |tx| {
            let mut names = Vec::new();
            loop {
                let go = tx.catalog(&last, GO)?;
                let Some(end) = go.last().cloned() else { break };
                let whole = go.len() < GO;
                names.extend(go.into_iter().filter(|n| sees(n)).take(wanted - names.len()));
                if whole || names.len() >= wanted {
                    break;
                }
                last = end;
            }
            Ok(names)
        })
        .await?;
    let next = page.cut(&mut names, &cx.path, &[]);
    let mut answer = json(&serde_json::json!({"repositories": names}));
    if let Some(next) = next {
        answer.headers_mut().insert(header::LINK, next);
    }
    Ok(answer)
}

/// Which repositories this caller sees.
pub(super) async fn eyes(cx: &Cx) -> Result<impl Fn(&str) -> bool + Send + 'static, base::Error> {
    let open = cx.site.access.is_open().await?;
    let rules = Arc::clone(&cx.site.access.rules().await?);
    let user = cx.caller.user.clone();
    Ok(move |name: &str| open || rules.sees(user.as_deref(), name))
}
