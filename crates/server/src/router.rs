//! From a request to its handler: version prefix, pattern, headers on the way out.

use crate::{
    call::{Call, Query, unescape},
    reply::{self, Reply},
    routes::{ROUTES, Route},
    versions::{self, NEWEST},
};
use base::{Error, Principal};
use engine::Engine;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use std::{panic::AssertUnwindSafe, sync::Arc};

/// Bytes of a form body that are merged into the query.
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// Answers one request.
pub(crate) async fn answer(
    engine: Arc<Engine>,
    by: Principal,
    request: Request<Incoming>,
    tcp: bool,
) -> Reply {
    let reply = route(engine, by, request, tcp).await;
    decorate(reply)
}

async fn route(
    engine: Arc<Engine>,
    mut by: Principal,
    mut request: Request<Incoming>,
    tcp: bool,
) -> Reply {
    if let Some(refused) = refuse_browser(&request, tcp) {
        return refused;
    }
    by.client = request
        .headers()
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .chars()
        .take(256)
        .collect();
    let path = request.uri().path().to_owned();
    let (asked, rest) = versions::split(&path);
    let method = request.method().clone();
    let Some((route, names)) = find(&method, rest) else {
        return reply::failure(&Error::not_found("page not found"));
    };
    if let Some(version) = asked
        && let Some(why) = versions::refusal(version)
    {
        return reply::failure(&Error::invalid(why));
    }
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let (parts, body) = request.into_parts();
    let mut call = Call {
        engine,
        version: asked.unwrap_or(NEWEST),
        method,
        names,
        query: Query::parse(parts.uri.query().unwrap_or("")),
        headers: parts.headers,
        body: Some(body),
        upgrade,
        by,
    };
    let form = call
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(FORM_TYPE.as_bytes()));
    if form && call.method == Method::POST && route.takes_form {
        match call.bytes().await {
            Ok(bytes) => call.query.merge(Query::parse(&String::from_utf8_lossy(&bytes))),
            Err(err) => return reply::failure(&err),
        }
    }
    let handler = (route.handler)(call);
    if route.detached {
        // A client that hangs up must not cancel half a change.
        return match tokio::spawn(handler).await {
            Ok(outcome) => outcome.unwrap_or_else(|err| reply::failure(&err)),
            Err(err) => panicked(route, err.to_string()),
        };
    }
    match futures_util::FutureExt::catch_unwind(AssertUnwindSafe(handler)).await {
        Ok(outcome) => outcome.unwrap_or_else(|err| reply::failure(&err)),
        Err(_) => panicked(route, "panic".into()),
    }
}

fn panicked(route: &Route, why: String) -> Reply {
    tracing::error!(route = route.pattern, why, "a handler panicked");
    reply::failure(&Error::internal(
        "internal error: the request could not be completed; the engine's log has more",
    ))
}

/// A browser must not drive the API on TCP: neither from a foreign page nor by a rebound name.
fn refuse_browser(request: &Request<Incoming>, tcp: bool) -> Option<Reply> {
    if !tcp {
        return None;
    }
    if request.headers().contains_key(header::ORIGIN) {
        return Some(reply::failure(&Error::forbidden(
            "requests from web pages (with an Origin header) are refused",
        )));
    }
    None
}

/// Finds the route of `path` and what its pattern captures. Literal routes come first in the list.
fn find(method: &Method, path: &str) -> Option<(&'static Route, Vec<String>)> {
    ROUTES
        .iter()
        .filter(|route| route.methods.contains(method))
        .find_map(|route| Some((route, matches(route.pattern, path)?)))
}

/// Matches `/containers/{}/json`: a `{}` takes anything but nothing, slashes included.
fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut parts = pattern.split("{}");
    let first = parts.next()?;
    let mut rest = path.strip_prefix(first)?;
    let mut names = Vec::new();
    let tails: Vec<&str> = parts.collect();
    for (at, tail) in tails.iter().enumerate() {
        let last = at + 1 == tails.len();
        let end = match (last, tail.is_empty()) {
            (true, true) => rest.len(),
            (true, false) => rest.len() - tail.len().min(rest.len()),
            (false, _) => rest.find(tail)?,
        };
        if end == 0 || !rest.is_char_boundary(end) || !rest[end..].starts_with(tail) {
            return None;
        }
        names.push(unescape(&rest[..end], false));
        rest = &rest[end + tail.len()..];
    }
    rest.is_empty().then_some(names)
}

/// The negotiation headers, on every response.
fn decorate(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert("api-version", HeaderValue::from_static("1.51"));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    let server = format!("Docker/{} (linux)", engine::config::VERSION);
    if let Ok(server) = HeaderValue::from_str(&server) {
        headers.insert(header::SERVER, server);
    }
    reply
}

/// `204`.
pub(crate) fn no_content() -> Reply {
    reply::empty(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_greedy_and_literal_routes_win() {
        assert_eq!(matches("/images/{}/json", "/images/a/b:c/json").unwrap(), ["a/b:c"]);
        assert_eq!(
            matches("/containers/{}/checkpoints/{}", "/containers/a/checkpoints/b").unwrap(),
            ["a", "b"]
        );
        assert!(matches("/images/{}/json", "/images//json").is_none());
        assert!(matches("/images/{}", "/images/").is_none());
        let (route, _) = find(&Method::GET, "/images/json").unwrap();
        assert_eq!(route.pattern, "/images/json");
        assert!(find(&Method::PATCH, "/images/json").is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_routed_or_not(path in "/[ -~]{0,60}") {
            let _ = find(&Method::GET, &path);
            let _ = versions::split(&path);
        }
    }
}
