//! `/v2/<name>/tags/list`

use super::{
    Cx, Reply,
    fail::Fail,
    json,
    page::{LARGEST, Page},
};
use http::header;

/// `GET`, in order of the tags' bytes.
pub(crate) async fn list(cx: &mut Cx) -> Reply {
    let page = Page::read(&cx.query(), LARGEST)?;
    let name = cx.repository()?.as_str().to_owned();
    let (last, limit) = (page.last.clone(), page.limit);
    let found = {
        let name = name.clone();
        cx.site.database.read(move |tx| tx.tags(&name, &last, limit + 1)).await?
    };
    let mut tags = found
        .ok_or_else(|| Fail::name_unknown("repository unknown").detail(name.clone().into()))?;
    let next = page.cut(&mut tags, &cx.path, &[]);
    let mut answer = json(&serde_json::json!({"name": name, "tags": tags}));
    if let Some(next) = next {
        answer.headers_mut().insert(header::LINK, next);
    }
    Ok(answer)
}
