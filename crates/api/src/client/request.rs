//! A request on its way out: path, query, headers, body.

use base::{Error, Result};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read from a body's source at once.
const PIECE: usize = 64 << 10;

/// A request; built, then sent once.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Body,
    fault: Option<Error>,
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $method:ident),* $(,)?) => { $(
        $(#[$doc])*
        pub fn $name(path: impl Into<String>) -> Self { Self::new(Method::$method, path) }
    )* };
}

impl Request {
    methods! {
        /// `GET`.
        get => GET,
        /// `HEAD`.
        head => HEAD,
        /// `POST`.
        post => POST,
        /// `PUT`.
        put => PUT,
        /// `DELETE`.
        delete => DELETE,
    }

    /// A request of `path`, without version prefix; names in it go through [`escape`].
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: String::new(),
            headers: Vec::new(),
            body: Body::Empty,
            fault: None,
        }
    }

    /// Adds a query parameter; repeated ones are kept in order.
    #[must_use]
    pub fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(&escape(key));
        self.query.push('=');
        self.query.push_str(&escape(value.as_ref()));
        self
    }

    /// Adds a query parameter if there is a value.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.headers.push((HeaderName::from_static(name), value)),
            Err(err) => {
                self.fault = Some(Error::invalid(format!("invalid header {name}")).caused_by(err));
            }
        }
        self
    }

    /// A JSON body.
    #[must_use]
    pub fn json<T: Serialize + ?Sized>(mut self, body: &T) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => {
                self.body = Body::Full(Some(bytes.into()));
                self.header("content-type", "application/json")
            }
            Err(err) => {
                self.fault = Some(Error::invalid("cannot encode the request").caused_by(err));
                self
            }
        }
    }

    /// A body that is read while it is sent.
    #[must_use]
    pub fn stream(mut self, content_type: &str, source: impl AsyncRead + Send + 'static) -> Self {
        self.body = Body::Stream(Box::pin(source), vec![0; PIECE].into());
        self.header("content-type", content_type)
    }

    /// Asks the server to hand the connection over.
    #[must_use]
    pub fn upgrade(self) -> Self {
        self.header("connection", "Upgrade").header("upgrade", "tcp")
    }

    pub(super) fn into_http(self, version: Option<(u32, u32)>) -> Result<http::Request<Body>> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let prefix = version.map(|(a, b)| format!("/v{a}.{b}")).unwrap_or_default();
        let uri = format!("{prefix}{}{}", self.path, self.query);
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(uri)
            .body(self.body)
            .map_err(|err| Error::invalid("invalid request").caused_by(err))?;
        request.headers_mut().extend(self.headers.into_iter().map(|(k, v)| (Some(k), v)));
        if matches!(request.body(), Body::Empty) && request.method() == Method::POST {
            // Go's servers take a POST without length for one with a body.
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(request)
    }
}

/// Percent-encodes what has a meaning in paths and queries.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b':'
            | b'@' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The body of a request.
pub enum Body {
    /// None.
    Empty,
    /// All at once.
    Full(Option<Bytes>),
    /// Read piece by piece.
    Stream(Pin<Box<dyn AsyncRead + Send>>, Box<[u8]>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Full(_) => "Full",
            Self::Stream(..) => "Stream",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(source, piece) => {
                let mut buffer = ReadBuf::new(piece);
                match source.as_mut().poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(err)) => Poll::Ready(Some(Err(err))),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(None),
                    Poll::Ready(Ok(())) => {
                        let data = Bytes::copy_from_slice(buffer.filled());
                        Poll::Ready(Some(Ok(Frame::data(data))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Full(None) => SizeHint::with_exact(0),
            Self::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(..) => SizeHint::default(),
        }
    }
}
