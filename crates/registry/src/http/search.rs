//! `/v1/search`, which `docker search HOST/WORD` asks (Docker Registry API V1, "Search").

use super::{Cx, Reply, catalog, json};
use crate::meta::Found;
use serde_json::json as value;

/// Results of a page when the client does not say, and at most.
const USUAL: usize = 25;
const MOST: usize = 100;
/// Repositories that one search looks through, at most.
const LOOKED_AT: usize = 100_000;
/// Those of them that are read in one go.
const GO: usize = 1000;

/// `GET ?q=&n=&page=`
pub(crate) async fn search(cx: &mut Cx) -> Reply {
    // The V1 protocol knows no challenge: who shows nothing sees what is public.
    let shown = cx.header(http::header::AUTHORIZATION).map(str::to_owned);
    if let Ok(address) = cx.address.parse()
        && let Some(shown) = shown
    {
        cx.caller = cx.site.access.identify(Some(&shown), address).await?;
    }
    let query = cx.query();
    let text = |key: &str| query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let number = |key: &str, usual: usize| text(key).and_then(|t| t.parse().ok()).unwrap_or(usual);
    let (limit, page) = (number("n", USUAL).clamp(1, MOST), number("page", 1).max(1));
    let word = text("q").unwrap_or_default().trim().to_lowercase();
    let word: String = word.strip_prefix("library/").unwrap_or(&word).chars().take(256).collect();
    let sees = catalog::eyes(cx).await?;
    let wanted = word.clone();
    let found = cx
        .site
        .database
        .read(move |tx| {
            let (mut all, mut last, mut looked): (Vec<Found>, String, usize) = Default::default();
            loop {
                let go = tx.search(&wanted, &last, GO)?;
                looked += go.len();
                let end = go.last().map(|f| f.name.clone());
                let whole = go.len() < GO;
                all.extend(go.into_iter().filter(|f| sees(&f.name)));
                match end {
                    Some(end) if !whole && looked < LOOKED_AT => last = end,
                    _ => break Ok(all),
                }
            }
        })
        .await?;
    let results: Vec<_> = found
        .iter()
        .skip((page - 1).saturating_mul(limit))
        .take(limit)
        .map(|f| {
            value!({
                "name": f.name, "description": f.description, "star_count": 0, "pull_count": f.pulls,
                "is_official": false, "is_automated": false, "is_trusted": false,
            })
        })
        .collect();
    Ok(json(&value!({
        "query": word, "num_results": found.len(), "num_pages": found.len().div_ceil(limit), "page": page,
        "page_size": limit, "results": results,
    })))
}
