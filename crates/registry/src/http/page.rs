//! Lists in pages: `n`, `last` and the `Link` to the next one (RFC 8288).

use super::fail::Fail;
use http::HeaderValue;

/// Entries of a page, at most, whatever a client asks for.
pub(crate) const LARGEST: usize = 10_000;

/// What part of a list is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Entries, at most.
    pub(crate) limit: usize,
    /// The page begins behind this entry.
    pub(crate) last: String,
}

impl Page {
    /// Reads `n` and `last`; `usual` is how many entries are given when the client does not say.
    pub(crate) fn read(query: &[(String, String)], usual: usize) -> Result<Self, Fail> {
        let value = |key: &str| query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let limit = match value("n") {
            None | Some("") => usual,
            Some(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().unwrap_or(usize::MAX).min(LARGEST)
            }
            Some(text) => {
                return Err(Fail::page_invalid(format!("n is {text:?}: want a number of entries")));
            }
        };
        Ok(Self { limit, last: value("last").unwrap_or_default().to_owned() })
    }

    /// Cuts `list`, which was asked for with one entry more than the limit; the address of the next page, if
    /// there is one, below `path` with `more` in its query.
    pub(crate) fn cut(
        &self,
        list: &mut Vec<String>,
        path: &str,
        more: &[(&str, &str)],
    ) -> Option<HeaderValue> {
        if list.len() <= self.limit {
            return None;
        }
        list.truncate(self.limit);
        self.link(list.last()?, path, more)
    }

    /// The `Link` to the page behind `last`.
    pub(crate) fn link(
        &self,
        last: &str,
        path: &str,
        more: &[(&str, &str)],
    ) -> Option<HeaderValue> {
        let limit = self.limit.to_string();
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(more).append_pair("last", last).append_pair("n", &limit);
        HeaderValue::from_str(&format!("<{path}?{}>; rel=\"next\"", query.finish())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(n: &str) -> Result<Page, Fail> {
        Page::read(&[("n".into(), n.into()), ("last".into(), "b".into())], 100)
    }

    #[test]
    fn pages_are_bounded_and_linked() {
        assert_eq!(read("2147483647").unwrap().limit, LARGEST);
        assert_eq!(read(&"9".repeat(60)).unwrap().limit, LARGEST);
        assert_eq!(read("").unwrap().limit, 100);
        for bad in ["-1", "x", "1.5", "0x10", "+1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let page = read("2").unwrap();
        let mut list: Vec<String> = ["c", "d&x", "e"].map(str::to_owned).into();
        let link = page.cut(&mut list, "/v2/a/tags/list", &[]).unwrap();
        assert_eq!(link, "</v2/a/tags/list?last=d%26x&n=2>; rel=\"next\"");
        assert_eq!(list, ["c", "d&x"]);
        assert_eq!(page.cut(&mut list, "/", &[]), None);
        assert_eq!(read("0").unwrap().cut(&mut list, "/", &[]), None);
    }
}
