//! What went wrong in a build, and how clients hear of it: a gRPC status whose details name the vertex and
//! the lines of the source, as buildx shows them.

use crate::proto::{google, pb};
use base::{Error, Kind};
use prost::Message as _;
use serde_json::{Value, json};
use std::fmt;
use tonic::{Code, Status};

/// What BuildKit's error details are named after.
const TYPES: &str = "github.com/moby/buildkit/errdefs.";

/// A failed build.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) error: Error,
    /// The vertex that failed.
    pub(crate) vertex: Option<String>,
    /// Where its source is.
    pub(crate) sources: Vec<Place>,
    /// Details as a front end gave them.
    pub(crate) details: Vec<google::protobuf::Any>,
}

/// Lines of a source.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) info: pb::SourceInfo,
    pub(crate) ranges: Vec<pb::Range>,
}

impl Failure {
    /// A failure with a place.
    pub(crate) fn at(error: Error, place: Place) -> Self {
        Self { error, vertex: None, sources: vec![place], details: Vec::new() }
    }

    /// What a front end on the client's side failed with.
    pub(crate) fn told(code: i32, message: String, details: Vec<google::protobuf::Any>) -> Self {
        let kind = match Code::from(code) {
            Code::Cancelled => Kind::Cancelled,
            Code::PermissionDenied => Kind::Forbidden,
            _ => Kind::Invalid,
        };
        Self { details, ..Error::new(kind, message).into() }
    }

    /// As a gRPC status.
    pub(crate) fn status(&self) -> Status {
        let code = code(self.error.kind());
        let message = self.error.chain();
        let mut details = self.details.clone();
        if let Some(vertex) = &self.vertex {
            details.push(any("Vertex+json", &json!({ "digest": vertex })));
        }
        details.extend(self.sources.iter().map(|place| any("Source+json", &place.json())));
        let status = google::rpc::Status { code: code as i32, message: message.clone(), details };
        Status::with_details(code, message, status.encode_to_vec().into())
    }
}

impl Place {
    fn json(&self) -> Value {
        use base64::Engine as _;
        let position = |p: &Option<pb::Position>| {
            let p = p.unwrap_or_default();
            json!({ "line": p.line, "character": p.character })
        };
        let ranges: Vec<Value> = self
            .ranges
            .iter()
            .map(|r| json!({ "start": position(&r.start), "end": position(&r.end) }))
            .collect();
        json!({
            "info": {
                "filename": self.info.filename,
                "data": base64::engine::general_purpose::STANDARD.encode(&self.info.data),
                "language": self.info.language,
            },
            "ranges": ranges,
        })
    }
}

fn any(name: &str, value: &Value) -> google::protobuf::Any {
    google::protobuf::Any {
        type_url: format!("{TYPES}{name}"),
        value: value.to_string().into_bytes(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, vertex: None, sources: Vec::new(), details: Vec::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error.chain())
    }
}

/// The status code of a kind of error. What the author of a build did wrong is "unknown", as in BuildKit:
/// clients print other codes before the text.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::Cancelled => Code::Cancelled,
        Kind::NotImplemented => Code::Unimplemented,
        Kind::Unavailable => Code::Unavailable,
        Kind::Forbidden => Code::PermissionDenied,
        _ => Code::Unknown,
    }
}

/// An error as a status without details.
pub(crate) fn status(error: &Error) -> Status {
    Status::new(code(error.kind()), error.chain())
}

/// What a client or session answered, as an error.
pub(crate) fn from_status(what: impl Into<String>, status: &Status) -> Error {
    let kind = match status.code() {
        Code::NotFound => Kind::NotFound,
        Code::PermissionDenied => Kind::Forbidden,
        Code::Cancelled => Kind::Cancelled,
        Code::Unimplemented => Kind::NotImplemented,
        Code::Unavailable => Kind::Unavailable,
        _ => Kind::Invalid,
    };
    Error::new(kind, what).caused_by(status.message().to_owned())
}
