//! What the engine tells, as JSON: one object per line, in the words of BuildKit's client.

use super::{Show, Steps};
use crate::buildkit::wire::control;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard_buildkit_proto::google::protobuf::Timestamp;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

#[derive(Debug)]
pub(super) struct Raw;

fn time(at: &Timestamp) -> Value {
    let nanos = u32::try_from(at.nanos).unwrap_or_default();
    base::Timestamp::from_unix(at.seconds, nanos).to_string().into()
}

/// An object without what is not known.
fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn some(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| text.into())
}

fn vertex(vertex: &control::Vertex) -> Value {
    let inputs = &vertex.inputs;
    object(vec![
        ("digest", some(&vertex.digest)),
        ("inputs", (!inputs.is_empty()).then(|| json!(inputs))),
        ("name", some(&vertex.name)),
        ("started", vertex.started.as_ref().map(time)),
        ("completed", vertex.completed.as_ref().map(time)),
        ("cached", vertex.cached.then_some(Value::Bool(true))),
        ("error", some(&vertex.error)),
    ])
}

fn status(status: &control::VertexStatus) -> Value {
    object(vec![
        ("id", some(&status.id)),
        ("vertex", some(&status.vertex)),
        ("name", some(&status.name)),
        ("total", (status.total != 0).then(|| status.total.into())),
        ("current", Some(status.current.into())),
        ("timestamp", status.timestamp.as_ref().map(time)),
        ("started", status.started.as_ref().map(time)),
        ("completed", status.completed.as_ref().map(time)),
    ])
}

fn log(log: &control::VertexLog) -> Value {
    object(vec![
        ("vertex", some(&log.vertex)),
        ("stream", Some(log.stream.into())),
        ("data", Some(STANDARD.encode(&log.msg).into())),
        ("timestamp", log.timestamp.as_ref().map(time)),
    ])
}

fn warning(warning: &control::VertexWarning) -> Value {
    let position = |p: &Option<super::super::wire::pb::Position>| {
        let p = p.unwrap_or_default();
        json!({ "line": p.line, "character": p.character })
    };
    let ranges: Vec<Value> = warning
        .ranges
        .iter()
        .map(|r| json!({ "start": position(&r.start), "end": position(&r.end) }))
        .collect();
    let detail: Vec<String> = warning.detail.iter().map(|d| STANDARD.encode(d)).collect();
    let source = warning.info.as_ref().map(|info| {
        json!({ "filename": info.filename, "data": STANDARD.encode(&info.data), "language": info.language })
    });
    object(vec![
        ("vertex", some(&warning.vertex)),
        ("level", Some(warning.level.into())),
        ("short", Some(STANDARD.encode(&warning.short).into())),
        ("detail", (!detail.is_empty()).then(|| json!(detail))),
        ("url", some(&warning.url)),
        ("sourceInfo", source),
        ("range", (!ranges.is_empty()).then(|| json!(ranges))),
    ])
}

fn list<T>(all: &[T], shown: impl Fn(&T) -> Value) -> Option<Value> {
    (!all.is_empty()).then(|| all.iter().map(shown).collect::<Vec<_>>().into())
}

impl Show for Raw {
    fn told(
        &mut self,
        _: &Steps,
        new: &control::StatusResponse,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let all = object(vec![
            ("vertexes", list(&new.vertexes, vertex)),
            ("statuses", list(&new.statuses, status)),
            ("logs", list(&new.logs, log)),
            ("warnings", list(&new.warnings, warning)),
        ]);
        writeln!(out, "{all}")
    }

    fn end(&mut self, _: &Steps, out: &mut dyn Write) -> io::Result<()> {
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildkit::show::tests::{at, log as told_log, vertex as told_vertex};

    #[test]
    fn what_is_told_is_written_as_buildkit_s_clients_do() {
        let mut out = Vec::new();
        let mut vertex = told_vertex("sha256:a", "step");
        vertex.started = at(1);
        let vertexes = vec![vertex];
        let told = control::StatusResponse { vertexes, ..told_log("sha256:a", 2, "hi\n") };
        Raw.told(&Steps::default(), &told, &mut out).unwrap();
        let json: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["vertexes"][0]["name"], "step");
        assert_eq!(json["vertexes"][0]["started"], "1970-01-01T00:00:01Z");
        assert!(json["vertexes"][0].get("completed").is_none());
        assert_eq!(json["logs"][0]["data"], "aGkK");
    }
}
