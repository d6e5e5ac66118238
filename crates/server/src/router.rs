//! From a request to its handler: version prefix, pattern, headers on the way out.

use crate::{
    call::{Asked, Call, Query, unescape},
    connection::Site,
    reply::{self, Reply},
    routes::{Answer, ROUTES, Route},
    socket::Peer,
    versions::{self, NEWEST},
};
use base::{Error, Principal};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
    time::Instant,
};
use tokio_util::task::TaskTracker;

/// The command line reads the system from the parenthesis.
static SERVER: LazyLock<HeaderValue> = LazyLock::new(|| {
    let name = format!("Docker/{} (linux)", engine::config::DOCKER_VERSION);
    HeaderValue::try_from(name).unwrap_or(HeaderValue::from_static("Docker (linux)"))
});
/// Content type of a body that is merged into the query.
const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// How a client came.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Over the network.
    pub(crate) tcp: bool,
    /// With these certificates, PEM.
    pub(crate) certificates: Arc<[String]>,
}

/// Answers one request.
pub(crate) async fn answer(
    site: &Site,
    by: Principal,
    request: Request<Incoming>,
    peer: Peer,
    way: Way,
) -> Reply {
    let reply = route(site, by, request, peer, &way).await;
    decorate(reply)
}

async fn route(
    site: &Site,
    mut by: Principal,
    mut request: Request<Incoming>,
    peer: Peer,
    way: &Way,
) -> Reply {
    if let Some(refused) = refuse_browser(request.headers(), way.tcp) {
        return reply::failure(&refused);
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
        && let Some(why) = versions::refusal(version, site.oldest(), route.pattern)
    {
        return versions::refuse(version, why);
    }
    let mut gate = site.plugins.gate(&by, &way.certificates, &request);
    let upgrade = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let (parts, body) = request.into_parts();
    let (mut body, mut read) = (Some(body), None);
    if let Some(gate) = &mut gate {
        match gate.request(Some(route.pattern), &mut body).await {
            Ok(document) => read = document,
            Err(err) => return reply::failure(&err),
        }
    }
    let call = Call {
        engine: Arc::clone(&site.engine),
        peer,
        asked: Asked {
            version: asked.unwrap_or(NEWEST),
            method,
            names,
            query: Query::parse(parts.uri.query().unwrap_or("")),
            headers: parts.headers,
        },
        body,
        read,
        upgrade,
        by,
        builder: site.builder.clone(),
    };
    let reply = handle(site, route, call).await;
    match gate {
        Some(gate) => gate.response(reply).await,
        None => reply,
    }
}

/// Lets the route's handler answer.
async fn handle(site: &Site, route: &Route, mut call: Call) -> Reply {
    let form = call
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(FORM_TYPE.as_bytes()));
    if form && call.method == Method::POST && route.takes_form {
        match call.bytes().await {
            Ok(bytes) => call.asked.query.merge(Query::parse(&String::from_utf8_lossy(&bytes))),
            Err(err) => return reply::failure(&err),
        }
    }
    let (begun, method) = (Instant::now(), call.method.clone());
    let outcome = settle((route.handler)(call), route.detached.then_some(&site.changes)).await;
    match outcome {
        Ok(Ok(answer)) => {
            site.actions.observe(&method, route.pattern, begun.elapsed());
            answer
        }
        Ok(Err(err)) => reply::failure(&err),
        Err(why) => {
            tracing::error!(route = route.pattern, why, "a handler panicked");
            reply::failure(&Error::internal(
                "internal error: the request could not be completed; the engine's log has more",
            ))
        }
    }
}

/// Runs a handler so that its panic is its own. With a tracker it runs on when this future is dropped: a
/// client that hangs up must not cancel half a change.
async fn settle(
    handler: Answer,
    detached: Option<&TaskTracker>,
) -> Result<Result<Reply, Error>, String> {
    if let Some(changes) = detached {
        return changes.spawn(handler).await.map_err(|err| err.to_string());
    }
    let caught = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(handler)).await;
    caught.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text").to_owned()
    })
}

/// A browser must not drive the API on TCP: neither from a foreign page nor by a name that was rebound to
/// this address. Other clients send no Origin and may use any name for this host.
fn refuse_browser(headers: &HeaderMap, tcp: bool) -> Option<Error> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let host = text(header::HOST);
    if !tcp {
        return None;
    }
    if headers.contains_key(header::ORIGIN) && !same_origin(text(header::ORIGIN), host) {
        return Some(Error::forbidden("requests from foreign web pages are refused"));
    }
    let browser = text(header::USER_AGENT).starts_with("Mozilla/")
        || headers.contains_key("sec-fetch-site")
        || headers.contains_key(header::ORIGIN);
    if browser && !names_an_address(host) {
        return Some(Error::forbidden(format!(
            "requests from web pages are refused under the host name {host:?}: use an IP address"
        )));
    }
    None
}

fn same_origin(origin: &str, host: &str) -> bool {
    let bare = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    bare.is_some_and(|o| !o.is_empty() && o.eq_ignore_ascii_case(host))
}

/// Names can be made to mean any address, addresses and `localhost` cannot.
fn names_an_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

/// Finds the route of `path` and what its pattern captures. Literal routes come first in the list.
pub(crate) fn find(method: &Method, path: &str) -> Option<(&'static Route, Vec<String>)> {
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
    headers.insert("api-version", HeaderValue::from_static(versions::NEWEST_TEXT));
    // What Docker calls experimental (`build --squash`) works here always, and the CLI asks this header.
    headers.insert("docker-experimental", HeaderValue::from_static("true"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, SERVER.clone());
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
    fn a_browser_drives_nothing_from_a_foreign_page_or_name() {
        let refused = |headers: &[(&'static str, &str)]| {
            let pairs = headers.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()));
            refuse_browser(&pairs.collect(), true).is_some()
        };
        assert!(!refused(&[("host", "docker.example:2375"), ("user-agent", "Docker-Client/28")]));
        assert!(!refused(&[("host", "127.0.0.1:2375"), ("user-agent", "Mozilla/5.0")]));
        assert!(!refused(&[("host", "[::1]:2375"), ("origin", "http://[::1]:2375")]));
        assert!(refused(&[("host", "127.0.0.1:2375"), ("origin", "http://evil.example")]));
        assert!(refused(&[("host", "localhost:2375"), ("origin", "null")]));
        assert!(refused(&[("host", "evil.example:2375"), ("user-agent", "Mozilla/5.0")]));
        assert!(refused(&[("host", "evil.example"), ("origin", "http://evil.example")]));
        assert!(refuse_browser(&HeaderMap::new(), false).is_none());
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_request_and_a_change_outlives_its_client() {
        let changes = TaskTracker::new();
        for tracker in [None, Some(&changes)] {
            let outcome = settle(Box::pin(async { panic!("boom {}", 1) }), tracker).await;
            assert!(outcome.unwrap_err().contains("boom 1"));
        }
        let (go, gone) = tokio::sync::oneshot::channel();
        let (done, finished) = tokio::sync::oneshot::channel();
        let change = settle(
            Box::pin(async move {
                let _ = gone.await;
                let _ = done.send(());
                Ok(no_content())
            }),
            Some(&changes),
        );
        assert!(futures_util::FutureExt::now_or_never(change).is_none());
        go.send(()).unwrap();
        finished.await.unwrap();
    }

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
