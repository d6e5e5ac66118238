//! `WWW-Authenticate`: what a registry wants to be shown (RFC 7235; Docker's token specification).

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user with a password.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: String, scope: String },
}

/// Challenges in one answer that are looked at, and parameters in each.
const MOST: usize = 16;

/// All challenges that are known here, in order.
pub(super) fn parse<'h>(headers: impl Iterator<Item = &'h str>) -> Vec<Challenge> {
    headers.take(MOST).filter_map(one).collect()
}

fn one(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (String::new(), String::new(), String::new());
    let mut rest = rest;
    for _ in 0..MOST {
        let (key, after) = rest.trim_start_matches([',', ' ', '\t']).split_once('=')?;
        let (value, after) = value(after)?;
        match key.trim().to_ascii_lowercase().as_str() {
            "realm" => realm = value,
            "service" => service = value,
            "scope" => scope = value,
            _ => {}
        }
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    (!realm.is_empty()).then_some(Challenge::Bearer { realm, service, scope })
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                out.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((out, &quoted[at + 1..])),
            _ => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
            realm: realm.into(),
            service: service.into(),
            scope: scope.into(),
        };
        for (header, want) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/token",service="reg, one",scope="repository:x:pull,push""#,
                Some(bearer("https://a/token", "reg, one", "repository:x:pull,push")),
            ),
            ("Bearer realm=https://a, error=invalid", Some(bearer("https://a", "", ""))),
            (r#"Bearer realm="a\"b""#, Some(bearer("a\"b", "", ""))),
            ("Bearer", None),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"x", None),
            ("Digest x=y", None),
            ("", None),
        ] {
            assert_eq!(one(header), want, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "(Bearer )?[ -~]{0,60}") {
            let _ = one(&text);
        }
    }
}
