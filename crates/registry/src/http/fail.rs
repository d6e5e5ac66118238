//! Errors as the registry API has them: a status, and a JSON body with a code from the specification.
//!
//! Source: OCI distribution-spec "Error Codes"; distribution's `errcode` for `UNAVAILABLE`, `UNKNOWN` and
//! `PAGINATION_NUMBER_INVALID`. This is the one place where kinds of error become statuses.

use super::body::Body;
use base::{Error, Kind};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// What goes to the client when something does not go.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    message: String,
    detail: Option<Box<Value>>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

macro_rules! codes {
    ($($name:ident => $status:ident $code:literal,)*) => {
        impl Fail { $( pub(crate) fn $name(message: impl Into<String>) -> Self { Self::new(StatusCode::$status, $code, message) } )* }
    };
}

codes! {
    blob_unknown => NOT_FOUND "BLOB_UNKNOWN",
    upload_invalid => BAD_REQUEST "BLOB_UPLOAD_INVALID",
    upload_unknown => NOT_FOUND "BLOB_UPLOAD_UNKNOWN",
    digest_invalid => BAD_REQUEST "DIGEST_INVALID",
    manifest_blob_unknown => NOT_FOUND "MANIFEST_BLOB_UNKNOWN",
    manifest_invalid => BAD_REQUEST "MANIFEST_INVALID",
    manifest_unknown => NOT_FOUND "MANIFEST_UNKNOWN",
    name_invalid => BAD_REQUEST "NAME_INVALID",
    name_unknown => NOT_FOUND "NAME_UNKNOWN",
    size_invalid => BAD_REQUEST "SIZE_INVALID",
    too_large => PAYLOAD_TOO_LARGE "SIZE_INVALID",
    tag_invalid => BAD_REQUEST "TAG_INVALID",
    range_invalid => RANGE_NOT_SATISFIABLE "RANGE_INVALID",
    page_invalid => BAD_REQUEST "PAGINATION_NUMBER_INVALID",
    unauthorized => UNAUTHORIZED "UNAUTHORIZED",
    denied => FORBIDDEN "DENIED",
    unsupported => METHOD_NOT_ALLOWED "UNSUPPORTED",
    too_many_requests => TOO_MANY_REQUESTS "TOOMANYREQUESTS",
    unavailable => SERVICE_UNAVAILABLE "UNAVAILABLE",
    uri_too_long => URI_TOO_LONG "UNSUPPORTED",
    timed_out => REQUEST_TIMEOUT "BLOB_UPLOAD_INVALID",
    not_found => NOT_FOUND "UNSUPPORTED",
    internal => INTERNAL_SERVER_ERROR "UNKNOWN",
}

impl Fail {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), detail: None, headers: Vec::new() }
    }

    pub(crate) fn detail(mut self, detail: Value) -> Self {
        self.detail = Some(Box::new(detail));
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn reply(self) -> Response<Body> {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(detail) = self.detail {
            error["detail"] = *detail;
        }
        let body = json!({"errors": [error]}).to_string();
        let mut reply = Response::new(Body::from(body));
        *reply.status_mut() = self.status;
        for (name, value) in self.headers {
            reply.headers_mut().append(name, value);
        }
        let json = HeaderValue::from_static("application/json");
        reply.headers_mut().insert(header::CONTENT_TYPE, json);
        reply
    }
}

impl From<Error> for Fail {
    fn from(err: Error) -> Self {
        let text = err.chain();
        match err.kind() {
            Kind::Unauthorized => Self::unauthorized(text),
            Kind::Forbidden => Self::denied(text),
            // Disk full, object store away: whoever comes again later may succeed.
            Kind::Exhausted | Kind::Unavailable | Kind::Cancelled => {
                tracing::warn!(err = text, "a request could not be served");
                Self::unavailable(err.to_string()).header(header::RETRY_AFTER, "10")
            }
            Kind::Invalid => Self::upload_invalid(text),
            Kind::NotFound => Self::not_found(text),
            Kind::Conflict | Kind::NotModified | Kind::NotImplemented | Kind::Internal => {
                tracing::error!(err = text, "a request failed");
                // What went wrong inside is for the log.
                Self::internal("the registry could not do this; its log says why")
            }
        }
    }
}
