//! What every route reads of a request, without an engine: for whoever tries all that can be sent (`crates/fuzz`).

use crate::{
    call::{Asked, Query},
    router,
    routes::{ROUTES, Route},
    versions::{self, NEWEST},
};
use base::Result;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A request, not believed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The method.
    pub method: &'r str,
    /// Path and query.
    pub target: &'r str,
    /// Names and values; what cannot be a header is passed over.
    pub headers: &'r [(&'r str, &'r str)],
    /// The body.
    pub body: &'r [u8],
}

/// Method and pattern of every route that reads more than the names in its path.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().filter(|route| route.asks).map(name)
}

fn name(route: &'static Route) -> (&'static str, &'static str) {
    let method = match route.methods {
        [Method::POST] => "POST",
        [Method::PUT] => "PUT",
        [Method::DELETE] => "DELETE",
        _ => "GET",
    };
    (method, route.pattern)
}

/// Reads a request as its route does: which that is, and what came of it. `None` when no route takes it.
pub fn read(request: &Request<'_>) -> Option<((&'static str, &'static str), Result<()>)> {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let method = Method::from_bytes(request.method.as_bytes()).ok()?;
    let (version, rest) = versions::split(path);
    let (route, names) = router::find(&method, rest)?;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let version = version.unwrap_or(NEWEST);
    let asked = Asked { version, method, names, query: Query::parse(query), headers };
    Some((name(route), (route.reads)(&asked, request.body)))
}

/// Lets every route read the same.
pub fn read_by_all(request: &Request<'_>) {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let version = versions::split(path).0.unwrap_or(NEWEST);
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let (names, query, method) = (vec![name], Query::parse(query), Method::POST);
    let asked = Asked { version, method, names, query, headers };
    for route in ROUTES {
        _ = (route.reads)(&asked, request.body);
    }
}
