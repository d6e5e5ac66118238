//! All tags of a repository, page by page.

use super::{ANSWER_BYTES, Failed, Repository};
use base::Error;
use fetch::Request;
use http::{Method, header};
use serde::Deserialize;

/// Tags of one repository at most; beyond that somebody plays.
const MOST: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// The tags, in the registry's order.
    ///
    /// # Errors
    /// When the registry refuses or its answer makes no sense.
    pub async fn tags(&self) -> Result<Vec<String>, Failed> {
        let mut all: Vec<String> = Vec::new();
        let mut next: Option<http::Uri> = None;
        loop {
            let page = next.take();
            let response = self
                .ask_again(&|e| {
                    let first = e.url("tags/list")?;
                    Ok(Request::new(Method::GET, page.clone().unwrap_or(first)))
                })
                .await?;
            let link = response.header(header::LINK).and_then(next_link).map(str::to_owned);
            let from = response.uri().clone();
            let body = response.bytes(ANSWER_BYTES).await?;
            let found: Page = serde_json::from_slice(&body).map_err(|e| {
                Error::internal("the registry's list of tags makes no sense").caused_by(e)
            })?;
            let before = all.len();
            all.extend(found.tags.unwrap_or_default());
            if all.len() > MOST {
                return Err(
                    Error::invalid(format!("the repository has more than {MOST} tags")).into()
                );
            }
            match link {
                // A page without tags that has a next one would go on for ever.
                Some(link) if all.len() > before => {
                    let joined = fetch::url::join(&from, &link)?;
                    if !fetch::url::same_origin(&from, &joined) {
                        return Err(Error::forbidden(
                            "the registry's list of tags goes on elsewhere",
                        )
                        .into());
                    }
                    next = Some(joined);
                }
                _ => return Ok(all),
            }
        }
    }
}

/// The target of `<...>; rel="next"` (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = rest.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::next_link;

    #[test]
    fn the_next_page_is_found() {
        assert_eq!(
            next_link("</v2/x/tags/list?n=1&last=a>; rel=\"next\""),
            Some("/v2/x/tags/list?n=1&last=a")
        );
        assert_eq!(next_link("<a>; rel=prev, <b>; rel=next"), Some("b"));
        assert_eq!(next_link("<a>; rel=prev"), None);
        assert_eq!(next_link(""), None);
    }
}
