//! The client: requests, redirects, answers.

use crate::{
    Addresses, Error, Failure, Pace, Proxies, Trust, Upload,
    body::{self, Boxed, Paced},
    connect::Connector,
    error, url,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use hyper_util::{client::legacy, rt::TokioExecutor};
use std::{fmt, time::Duration};

/// How long a server may think before it answers.
const ANSWER: Duration = Duration::from_secs(60);
/// An idle connection is kept this long.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections to one host.
const IDLE_MOST: usize = 8;

/// How a client behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Whom it believes.
    pub trust: Trust,
    /// What it goes through.
    pub proxies: Proxies,
    /// Where it may go.
    pub addresses: Addresses,
}

/// Sends requests and keeps its connections. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Connector, Boxed>,
    proxies: Proxies,
    pace: Pace,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pace", &self.pace).finish_non_exhaustive()
    }
}

/// What to do when the server points elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// Hand the answer out as it is.
    Keep,
    /// Follow so many at most; for requests whose body can be sent again.
    Follow(u32),
}

/// A request.
#[derive(Debug)]
pub struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    upload: Upload,
    redirects: Redirects,
    answer_within: Duration,
}

impl Request {
    /// A request without body; `GET` and `HEAD` follow ten redirects, as Go does.
    pub fn new(method: Method, uri: Uri) -> Self {
        let follows = method == Method::GET || method == Method::HEAD;
        Self {
            method,
            uri,
            headers: HeaderMap::new(),
            upload: Upload::Empty,
            redirects: if follows { Redirects::Follow(10) } else { Redirects::Keep },
            answer_within: ANSWER,
        }
    }

    /// Adds a header; one that cannot be one is left out, since all are made here.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => _ = self.headers.append(name, value),
            Err(_) => tracing::warn!(header = name.as_str(), "a header was not sent"),
        }
        self
    }

    /// Adds `Authorization`, marked so that it is never shown; it goes to this origin only.
    #[must_use]
    pub fn authorization(mut self, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(header::AUTHORIZATION, value);
        }
        self
    }

    /// `Get "https://host/path"`, as an error about it begins.
    pub fn shown(&self) -> String {
        Error::of(Failure::Invalid, &self.method, &self.uri).to_string()
    }

    /// Sets the body.
    #[must_use]
    pub fn upload(mut self, upload: Upload) -> Self {
        self.upload = upload;
        self
    }

    /// Sets what happens with redirects.
    #[must_use]
    pub fn redirects(mut self, redirects: Redirects) -> Self {
        self.redirects = redirects;
        self
    }

    /// Sets how long the head of the answer may take, the sending of the body included.
    #[must_use]
    pub fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }
}

/// An answer; its body is still to be read.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    uri: Uri,
    body: Paced,
}

impl Client {
    /// A client.
    ///
    /// # Errors
    /// `Invalid` when a certificate or a proxy cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        settings.proxies.check()?;
        let connector = Connector {
            tls: settings.trust.config()?,
            proxies: settings.proxies.clone(),
            addresses: settings.addresses,
        };
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_MOST)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Ok(Self { inner, proxies: settings.proxies.clone(), pace: Pace::default() })
    }

    /// The same client with another pace for bodies.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Sends a request; any status is an answer.
    ///
    /// # Errors
    /// When there is no answer, or redirects lead in circles or where nobody may go.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let Request { method, mut uri, mut headers, upload, redirects, answer_within } = request;
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("gantry/", env!("CARGO_PKG_VERSION"))));
        let (mut body, again) = upload.into_body();
        let mut followed = 0;
        loop {
            let response = self.once(&method, &uri, &headers, body, answer_within).await?;
            let Redirects::Follow(most) = redirects else { return Ok(response) };
            let status = response.status();
            let moved = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(location) = response.header(header::LOCATION).filter(|_| moved) else {
                return Ok(response);
            };
            let fail = |failure| Error::of(failure, &method, &uri);
            followed += 1;
            if followed > most {
                let text = format!("stopped after {most} redirects");
                return Err(fail(Failure::Forbidden).because(text));
            }
            let next =
                url::join(&uri, location).map_err(|e| fail(Failure::Forbidden).because(e))?;
            if uri.scheme_str() == Some("https") && next.scheme_str() == Some("http") {
                let text = "refusing a redirect from https to http";
                return Err(fail(Failure::Forbidden).because(text));
            }
            if !url::same_origin(&uri, &next) {
                headers.remove(header::AUTHORIZATION);
                headers.remove(header::COOKIE);
            }
            let Some(again) = &again else {
                let text = "a redirected body cannot be sent again";
                return Err(fail(Failure::Forbidden).because(text));
            };
            body = body::full(again.clone());
            uri = next;
        }
    }

    async fn once(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Boxed,
        limit: Duration,
    ) -> Result<Response, Error> {
        let failed = |failure| Error::of(failure, method, uri);
        let mut request = http::Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = without_user(uri).map_err(|e| failed(Failure::Invalid).because(e))?;
        *request.headers_mut() = headers.clone();
        // A plain proxy sees the request itself, so that its own credentials go along.
        if uri.scheme_str() == Some("http")
            && let Some(proxy) = self.proxies.proxy_for(uri)?
            && let Some(value) = proxy.authorization
            && let Ok(mut value) = HeaderValue::from_str(&value)
        {
            value.set_sensitive(true);
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
        let sent = tokio::time::timeout(limit, self.inner.request(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(err)) => {
                let failure = error::classify(&err);
                return Err(failed(failure).because(error::reason(&err)));
            }
            Err(_) => {
                let text = "timeout awaiting response headers";
                return Err(failed(Failure::Slow).because(text));
            }
        };
        let (parts, body) = response.into_parts();
        let what = Error::of(Failure::Broken, method, uri).to_string();
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            uri: uri.clone(),
            body: Paced::new(body, self.pace, what),
        })
    }
}

/// The URL without a user in it, which HTTP does not send.
fn without_user(uri: &Uri) -> Result<Uri, http::Error> {
    let Some((_, host)) = uri.authority().and_then(|a| a.as_str().rsplit_once('@')) else {
        return Ok(uri.clone());
    };
    Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("http"))
        .authority(host)
        .path_and_query(uri.path_and_query().map_or("/", |p| p.as_str()))
        .build()
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// A header as text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All values of a header that are text.
    pub fn header_all(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|v| v.to_str().ok())
    }

    /// Where the answer came from, after redirects.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Bytes of the body, when the server said.
    pub fn length(&self) -> Option<u64> {
        // Of an answer to HEAD only the header tells.
        self.body
            .length()
            .filter(|l| *l > 0)
            .or_else(|| self.header(header::CONTENT_LENGTH)?.parse().ok())
    }

    /// The next piece of the body; nothing at its end.
    ///
    /// # Errors
    /// When the connection breaks or is too slow.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        self.body.next().await
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Response::piece`]; `Invalid` when there is more.
    pub async fn bytes(mut self, limit: u64) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            if all.len() as u64 + piece.len() as u64 > limit {
                let text = format!("the answer is larger than {limit} bytes");
                return Err(Error::of(Failure::Invalid, &Method::GET, &self.uri).because(text));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// The beginning of the body, for an error message; what comes after is not waited for.
    pub async fn beginning(mut self, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < limit {
            match self.piece().await {
                Ok(Some(piece)) => all.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        all.truncate(limit);
        all
    }
}
