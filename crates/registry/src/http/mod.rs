//! HTTP: routes, headers, statuses, streams.
//!
//! Flow: a connection (`connection.rs`) gives requests to [`answer`], which finds the route (`route.rs`), asks
//! `auth` who comes, checks the one right that the route needs, and runs the route's handler; the handler
//! decodes, asks `meta`, `uploads` and `storage`, and encodes. Errors become answers in `fail.rs`.
//!
//! Invariants: a panic ends that request with 500 and nothing else; what changes something runs on when
//! its client goes away; every request's body and head are bounded in size and in time.
//! Source: OCI distribution-spec 1.1; Docker Registry HTTP API V2.

mod blobs;
mod body;
mod catalog;
mod connection;
mod fail;
mod manifests;
mod outbox;
mod page;
mod peer;
mod range;
mod record;
mod referrers;
mod route;
mod search;
mod system;
mod tags;
mod token;
mod uploads;

pub use connection::{Door, serve};
pub(crate) use token::REFRESH_LIFE;

use crate::{
    auth::{Access, Action, Caller},
    events::Events,
    meta::{Database, Grace},
    metrics::Metrics,
    name::Repository,
    storage::Storage,
    uploads::Uploads,
};
use base::{Kind as ErrorKind, hex};
use body::Body;
use bytes::Bytes;
use fail::Fail;
use futures_util::FutureExt as _;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use outbox::Outbox;
use route::{Kind, Need, Path, ROUTES, Route, Wrong};
use std::{
    fmt::Write as _,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A client that sends nothing of its body for this time has gone.
const BODY_SILENCE: Duration = Duration::from_secs(60);
/// Manifests up to this many bytes are not counted; also the unit in which larger ones are.
pub(crate) const SMALL: u64 = 64 << 10;
/// Units for larger ones, all together: 64 MiB.
pub(crate) const ROOM: u32 = 1024;
/// A large manifest waits this long for the others.
const ROOM_WAIT: Duration = Duration::from_secs(20);
/// What is still read of a body that is refused.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 << 20;
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What all requests share.
#[derive(Debug)]
pub struct Site {
    /// Names, manifests, small blobs, users, records.
    pub database: Arc<Database>,
    /// Large blobs.
    pub storage: Arc<dyn Storage>,
    /// Uploads under way.
    pub uploads: Arc<Uploads>,
    /// Who may do what.
    pub access: Access,
    /// Notifications.
    pub events: Events,
    /// Counters.
    pub metrics: Metrics,
    /// What is settled for this registry.
    pub settings: Settings,
    /// Changes, which outlive the connection that asked for them.
    pub changes: TaskTracker,
    /// Set when the server shall end.
    pub stop: CancellationToken,
    /// Memory for large manifests on their way.
    pub room: Arc<Semaphore>,
    /// Tells requests apart.
    pub requests: AtomicU64,
}

/// What is settled for this registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address that clients reach it by, when it cannot be told from their requests.
    pub external_url: Option<String>,
    /// How long an unneeded blob stays.
    pub grace: Grace,
    /// Whether an index may list manifests that are not here.
    pub sparse_indexes: bool,
    /// Whether what a proxy says of the client is believed.
    pub behind_proxy: bool,
    /// Bytes of one blob, at most.
    pub blob_bytes: u64,
}

/// Room in memory that is given back when it is dropped; small things need none.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

pub(crate) type Reply = Result<Response<Body>, Fail>;

/// The other end of a connection.
#[derive(Clone, Debug)]
struct Peer {
    address: SocketAddr,
    /// Files that go out without TLS.
    outbox: Option<Outbox>,
}

/// One request on its way to its handler.
pub(crate) struct Cx {
    site: Arc<Site>,
    caller: Caller,
    repository: Option<Repository>,
    /// Reference, digest or upload's id, as it stands in the path.
    rest: String,
    parts: Parts,
    body: Incoming,
    address: String,
    /// The client's address is in the log, the records and the notifications under this id.
    id: String,
    peer: Peer,
    /// Path of the request.
    path: String,
}

/// Memory for large manifests on their way.
pub(crate) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM as usize))
}

impl Cx {
    fn repository(&self) -> Result<&Repository, Fail> {
        self.repository.as_ref().ok_or_else(|| Fail::name_invalid("no repository is named"))
    }

    fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|v| v.to_str().ok())
    }

    fn query(&self) -> Vec<(String, String)> {
        let query = self.parts.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    fn is_head(&self) -> bool {
        self.parts.method == Method::HEAD
    }

    /// Where pieces of files may go that this process need not see: HTTP/2 cuts them up itself.
    fn outbox(&self) -> Option<Outbox> {
        self.peer.outbox.clone().filter(|_| self.parts.version <= Version::HTTP_11)
    }

    fn client(&self) -> &str {
        self.header(header::USER_AGENT).unwrap_or_default()
    }

    fn content_length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH).and_then(|v| v.parse().ok())
    }

    /// The next piece of the body.
    async fn piece(&mut self) -> Result<Option<Bytes>, Fail> {
        loop {
            let next = tokio::time::timeout(BODY_SILENCE, self.body.frame()).await;
            let next = next.map_err(|_| Fail::timed_out("the client sent nothing for too long"))?;
            match next {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(err)) => {
                    return Err(Fail::upload_invalid(format!("the body broke off: {err}")));
                }
            }
        }
    }

    /// The whole body, of at most `limit` bytes, and the room that it takes.
    async fn whole_body(&mut self, limit: usize) -> Result<(Vec<u8>, Room), Fail> {
        let large = || Fail::too_large(format!("the body has more than {limit} bytes"));
        let said = self.content_length();
        if said.is_some_and(|said| said > limit as u64) {
            return Err(large());
        }
        let room = self.room(said.unwrap_or(limit as u64)).await?;
        let mut whole = Vec::new();
        while let Some(piece) = self.piece().await? {
            if whole.len() + piece.len() > limit {
                return Err(large());
            }
            whole.extend_from_slice(&piece);
        }
        if said.is_some_and(|said| (whole.len() as u64) < said) {
            return Err(Fail::size_invalid("the body is shorter than its Content-Length"));
        }
        Ok((whole, room))
    }

    /// Room in memory for `bytes` that are large, so that many large things at once wait for each other.
    async fn room(&self, bytes: u64) -> Result<Room, Fail> {
        if bytes <= SMALL {
            return Ok(None);
        }
        let units = u32::try_from(bytes.div_ceil(SMALL)).unwrap_or(u32::MAX).min(ROOM);
        let room = Arc::clone(&self.site.room).acquire_many_owned(units);
        match tokio::time::timeout(ROOM_WAIT, room).await {
            Ok(Ok(room)) => Ok(Some(room)),
            _ => Err(Fail::unavailable("too many large manifests at the same time")
                .header(header::RETRY_AFTER, "10")),
        }
    }

    /// Address of this registry as the client sees it, without a slash at the end.
    fn own_url(&self) -> String {
        if let Some(url) = &self.site.settings.external_url {
            return url.trim_end_matches('/').to_owned();
        }
        let proxy = self.site.settings.behind_proxy;
        let said = |name: &str| self.header(name).filter(|_| proxy);
        let own = if self.peer.outbox.is_some() { "http" } else { "https" };
        let scheme = said("x-forwarded-proto").filter(|s| matches!(*s, "http" | "https"));
        let host = said("x-forwarded-host").or_else(|| self.header(header::HOST));
        let host = host.or_else(|| self.parts.uri.authority().map(|a| a.as_str()));
        // Goes into a quoted string of a header.
        let fine = |h: &&str| {
            h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b)) && !h.is_empty()
        };
        format!("{}://{}", scheme.unwrap_or(own), host.filter(fine).unwrap_or("localhost"))
    }
}

fn reply(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut reply = Response::new(body.into());
    *reply.status_mut() = status;
    reply
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut reply = reply(StatusCode::OK, value.to_string());
    set(&mut reply, header::CONTENT_TYPE, "application/json");
    reply
}

fn set(reply: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Answers one request that came from `peer`.
async fn answer(site: Arc<Site>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let address = peer.address.ip();
    let number = site.requests.fetch_add(1, Ordering::Relaxed);
    let id = format!("{}{number:08x}", site.events.instance());
    let label = route::parse(&path).map_or("none", |p| name_of(p.kind));
    let guarded = AssertUnwindSafe(routed(&site, parts, body, peer, id.clone()));
    let mut reply = match guarded.catch_unwind().await {
        Ok(Ok(reply)) => reply,
        Ok(Err(fail)) => {
            if fail.status == StatusCode::FORBIDDEN {
                tracing::info!(req = id, %address, path, "access denied");
            }
            fail.reply()
        }
        Err(_) => {
            tracing::error!(req = id, path, "a handler panicked");
            Fail::internal("the registry could not do this; its log says why").reply()
        }
    };
    let headers = reply.headers_mut();
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if method == Method::HEAD {
        *reply.body_mut() = Body::empty();
    }
    let status = reply.status();
    site.metrics.answered(label, &method, status, began.elapsed());
    tracing::debug!(req = id, %method, path, status = status.as_u16(), took_us = began.elapsed().as_micros() as u64, "answered");
    reply
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Catalog => "catalog",
        Kind::Tags => "tags",
        Kind::Manifest => "manifest",
        Kind::Blob => "blob",
        Kind::Uploads | Kind::Upload => "upload",
        Kind::Referrers => "referrers",
        Kind::Token => "token",
        Kind::Search | Kind::Ping => "search",
        Kind::Health | Kind::Ready => "health",
    }
}

async fn routed(site: &Arc<Site>, parts: Parts, body: Incoming, peer: Peer, id: String) -> Reply {
    let path = parts.uri.path().to_owned();
    let Path { kind, repository, rest } = match route::parse(&path) {
        Ok(found) => found,
        Err(Wrong::Nowhere) => return Err(Fail::not_found("there is nothing under this path")),
        Err(Wrong::Name(name)) => {
            return Err(Fail::name_invalid("invalid repository name").detail(name.into()));
        }
    };
    let route = find(kind, &parts.method)?;
    let address = if site.settings.behind_proxy {
        peer::forwarded(&parts.headers).unwrap_or(peer.address.ip())
    } else {
        peer.address.ip()
    };
    let shown =
        parts.headers.get(header::AUTHORIZATION).map(|v| v.to_str().unwrap_or("?").to_owned());
    let shown = shown.filter(|_| route.need != Need::Nothing);
    let caller = site.access.identify(shown.as_deref(), address).await;
    let (caller, refused) = match caller {
        Ok(caller) => (caller, None),
        Err(err) => (site.access.identify(None, address).await?, Some(err)),
    };
    let mut cx = Cx {
        site: Arc::clone(site),
        caller,
        repository,
        rest,
        parts,
        body,
        address: address.to_string(),
        id,
        peer,
        path,
    };
    let entered = match refused {
        Some(err) => Err(refusal(&cx, route, err)),
        None => admit(&cx, route).await,
    };
    if let Err(fail) = entered {
        linger(&mut cx).await;
        return Err(fail);
    }
    if !route.changes {
        return run(cx, route).await;
    }
    site.changes
        .spawn(run(cx, route))
        .await
        .unwrap_or_else(|_| Err(Fail::internal("the registry could not do this; its log says why")))
}

async fn run(mut cx: Cx, route: &'static Route) -> Reply {
    let reply = (route.run)(&mut cx).await;
    if reply.is_err() {
        linger(&mut cx).await;
    }
    reply
}

/// Reads what a client still sends of the body that we refuse, for a while: else it would find its connection
/// broken before it reads why.
async fn linger(cx: &mut Cx) {
    if cx.body.is_end_stream() || cx.header(header::EXPECT).is_some() {
        return;
    }
    let rest = async {
        let mut left = LINGER_BYTES;
        while let Ok(Some(piece)) = cx.piece().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    };
    // A client that takes longer than this learns it the hard way.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

/// What was shown is wrong.
fn refusal(cx: &Cx, route: &Route, err: base::Error) -> Fail {
    match err.kind() {
        ErrorKind::Unauthorized => challenge(cx, route, Some("invalid_token"), &err.chain()),
        ErrorKind::Exhausted => {
            Fail::too_many_requests(err.chain()).header(header::RETRY_AFTER, "60")
        }
        _ => err.into(),
    }
}

fn find(kind: Kind, method: &Method) -> Result<&'static Route, Fail> {
    let wanted = if *method == Method::HEAD { &Method::GET } else { method };
    if let Some(route) = ROUTES.iter().find(|r| r.kind == kind && r.method == *wanted) {
        return Ok(route);
    }
    let mut allowed = String::new();
    for route in ROUTES.iter().filter(|r| r.kind == kind) {
        let also = if route.method == Method::GET { ", HEAD" } else { "" };
        let comma = if allowed.is_empty() { "" } else { ", " };
        let _ = write!(allowed, "{comma}{}{also}", route.method);
    }
    Err(Fail::unsupported(format!("{method} is not supported here"))
        .header(header::ALLOW, &allowed))
}

/// Lets the caller in, or says what is missing.
async fn admit(cx: &Cx, route: &Route) -> Result<(), Fail> {
    let action = match route.need {
        Need::Nothing => return Ok(()),
        Need::Login if route.kind == Kind::Catalog && cx.caller.may_list() => return Ok(()),
        Need::Login if route.kind == Kind::Catalog => {
            return Err(challenge(cx, route, None, "authentication required"));
        }
        Need::Login if cx.caller.is_unknown() => {
            return Err(challenge(cx, route, None, "authentication required"));
        }
        Need::Login => return Ok(()),
        Need::In(action) => action,
    };
    let repository = cx.repository()?.as_str();
    if cx.caller.may(repository, action) {
        return Ok(());
    }
    if cx.caller.is_unknown() {
        return Err(challenge(cx, route, None, "authentication required"));
    }
    let user = cx.caller.user.as_deref();
    // A new token helps only whom the rules allow it, or who has not said yet who he is.
    if cx.caller.has_token()
        && (user.is_none() || cx.site.access.rules().await?.allowed(user, repository).has(action))
    {
        return Err(challenge(
            cx,
            route,
            Some("insufficient_scope"),
            "authentication required: the token does not allow this",
        ));
    }
    cx.denied(action, repository);
    Err(Fail::denied(format!(
        "requested access to the resource is denied: no right to {} in {repository}",
        action.name()
    )))
}

/// 401, and where tokens are to be had.
fn challenge(cx: &Cx, route: &Route, error: Option<&str>, message: &str) -> Fail {
    let mut text = format!(
        "Bearer realm=\"{}/auth/token\",service=\"{}\"",
        cx.own_url(),
        cx.site.access.signer().service()
    );
    match (&route.need, &cx.repository) {
        (Need::In(action), Some(repository)) => {
            let actions = match action {
                Action::Pull => "pull",
                Action::Push => "pull,push",
                Action::Delete => "delete",
            };
            let _ = write!(text, ",scope=\"repository:{repository}:{actions}");
            // A mount needs to read its source as well; without that right it becomes an upload.
            let query = if route.kind == Kind::Uploads { cx.query() } else { Vec::new() };
            let from = query.iter().find(|(key, _)| key == "from").map(|(_, value)| value.as_str());
            if let Some(from) = from.and_then(Repository::parse) {
                let _ = write!(text, " repository:{from}:pull");
            }
            text.push('"');
        }
        _ if route.kind == Kind::Catalog => text.push_str(",scope=\"registry:catalog:*\""),
        _ => {}
    }
    if let Some(error) = error {
        let _ = write!(text, ",error=\"{error}\"");
    }
    Fail::unauthorized(message).header(header::WWW_AUTHENTICATE, &text)
}

/// A short random name.
pub(crate) fn random_name<const N: usize>() -> String {
    let mut bytes = [0; N];
    // Names need not be secret: without random bytes they are all alike, and the counter tells them apart.
    let _ = getrandom::fill(&mut bytes);
    hex(&bytes)
}
