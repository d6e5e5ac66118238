//! The engine as a whole: ping, version, info, events, disk usage.

use crate::{
    call::{Asked, Call},
    reply::{self, Reply},
    versions::Version,
};
use base::{Error, Result, Timestamp, filters::Filters};
use bytes::Bytes;
use engine::system::Kinds;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

pub(crate) async fn ping(call: Call) -> Result<Reply> {
    let mut reply =
        reply::text(StatusCode::OK, if call.method == Method::HEAD { "" } else { "OK" });
    let headers = reply.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    // The classic builder; BuildKit's protocol would be "2".
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    if call.method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(reply)
}

pub(crate) async fn version(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.version()))
}

pub(crate) async fn info(call: Call) -> Result<Reply> {
    let mut value = serde_json::to_value(call.engine.info().await?)
        .map_err(|e| Error::internal("cannot encode the information").caused_by(e))?;
    crate::shapes::info(&mut value, call.version);
    Ok(reply::ok(&value))
}

pub(crate) async fn options(_: Call) -> Result<Reply> {
    Ok(reply::empty(StatusCode::OK))
}

/// What disk usage is asked for: of which kinds, and whether of the build cache.
pub(crate) fn kinds(asked: &Asked) -> Result<(Kinds, bool)> {
    let types = asked.query.all("type");
    if let Some(unknown) = types
        .iter()
        .find(|t| !matches!(t.as_str(), "container" | "image" | "volume" | "build-cache"))
    {
        return Err(Error::invalid(format!("unknown object type: {unknown}")));
    }
    let wanted = |kind: &str| types.is_empty() || types.iter().any(|t| t == kind);
    let kinds = Kinds {
        containers: wanted("container"),
        images: wanted("image"),
        volumes: wanted("volume"),
    };
    Ok((kinds, wanted("build-cache")))
}

pub(crate) async fn df(call: Call) -> Result<Reply> {
    let (kinds, cache) = kinds(&call)?;
    let mut usage = call.engine.disk_usage(kinds).await?;
    if cache {
        usage.build_cache = Some(super::build::usage(&call).await?);
    }
    let cached: i64 = usage.build_cache.iter().flatten().map(|entry| entry.size).sum();
    let mut value = serde_json::to_value(usage)
        .map_err(|e| Error::internal("cannot encode the disk usage").caused_by(e))?;
    crate::shapes::usage(&mut value, cached, call.version);
    Ok(reply::ok(&value))
}

/// Keys of `GET /events`.
const EVENT_FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// From when, until when, and which events are wanted.
pub(crate) fn wanted(asked: &Asked) -> Result<(Option<Timestamp>, Option<Timestamp>, Filters)> {
    let now = Timestamp::now();
    let time = |key: &str| {
        asked.query.text(key).map(|text| Timestamp::parse_relative(text, now)).transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            asked.query.get("since").unwrap_or(""),
            asked.query.get("until").unwrap_or("")
        )));
    }
    let filters = asked.filters()?;
    filters.only(EVENT_FILTERS)?;
    Ok((since, until, filters))
}

pub(crate) async fn events(call: Call) -> Result<Reply> {
    let (since, until, filters) = wanted(&call)?;
    // Without since, an until in the past ends at once.
    let mut subscription = call.engine.events().subscribe(since, until);
    let (version, names) = (call.version, call.query.flag("gantry"));
    let stream = async_stream(move |sender| async move {
        loop {
            let next = tokio::select! {
                next = subscription.next() => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(Some(stored)) => {
                    if !takes(&filters, &stored.event)
                        || (version < Version(1, 46) && hidden_before_46(&stored.event))
                    {
                        continue;
                    }
                    let mut line = message(&stored.event, version, names).to_string();
                    line.push('\n');
                    if sender.send(Bytes::from(line)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(err) => {
                    tracing::error!(err = err.chain(), "cannot read events");
                    return;
                }
            }
        }
    });
    Ok(reply::channel("application/json", stream))
}

fn async_stream<F, T>(run: F) -> tokio::sync::mpsc::Receiver<Bytes>
where
    F: FnOnce(tokio::sync::mpsc::Sender<Bytes>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    tokio::spawn(run(sender));
    receiver
}

fn hidden_before_46(event: &base::event::Event) -> bool {
    event.kind == "image" && event.action == "create"
}

fn takes(filters: &Filters, event: &base::event::Event) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let object = |kind: &str| {
        filters.any(kind, |value| {
            event.kind == kind
                && (event.id == value
                    || attribute("name") == value
                    || (value.len() >= 3 && event.id.starts_with(value)))
        })
    };
    let action = event.action.split(':').next().unwrap_or("").trim();
    let image = filters.any("image", |value| {
        let named = |text: &str| text == value || text.split(['@', ':']).next() == Some(value);
        if event.kind == "image" {
            named(&event.id) || named(attribute("name"))
        } else {
            named(attribute("image"))
        }
    });
    filters.exact("type", &event.kind)
        && filters.any("event", |value| value == event.action || value == action)
        && filters.exact("scope", "local")
        && filters.labels(|key| event.attributes.get(key).map(String::as_str))
        && image
        && [
            "container",
            "volume",
            "network",
            "daemon",
            "plugin",
            "service",
            "node",
            "secret",
            "config",
        ]
        .into_iter()
        .all(object)
}

fn message(event: &base::event::Event, version: Version, by: bool) -> Value {
    let mut message = serde_json::Map::new();
    if version < Version(1, 52) && matches!(event.kind.as_str(), "container" | "image") {
        message.insert("status".into(), event.action.clone().into());
        message.insert("id".into(), event.id.clone().into());
        if let Some(from) = event.attributes.get("image").filter(|_| event.kind == "container") {
            message.insert("from".into(), from.clone().into());
        }
    }
    message.insert("Type".into(), event.kind.clone().into());
    message.insert("Action".into(), event.action.clone().into());
    message.insert("Actor".into(), json!({ "ID": event.id, "Attributes": event.attributes }));
    message.insert("scope".into(), "local".into());
    message.insert("time".into(), event.at.unix().into());
    message.insert("timeNano".into(), event.at.unix_nanos().into());
    if by {
        message.insert("Gantry".into(), json!({ "By": event.by }));
    }
    Value::Object(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::event::Event;

    #[test]
    fn events_are_filtered_as_docker_does() {
        let event = Event::new("container", "exec_start: sh -c x", "abcdef")
            .with("name", "web")
            .with("image", "nginx:1")
            .with("team", "a");
        let takes = |text: &str| takes(&Filters::parse(text).unwrap(), &event);
        assert!(takes(r#"{"event":["exec_start"]}"#));
        assert!(takes(r#"{"container":["web"],"label":["team=a"],"image":["nginx"]}"#));
        assert!(!takes(r#"{"type":["image"]}"#));
        assert!(!takes(r#"{"container":["other"]}"#));
        assert!(!takes(r#"{"network":["x"]}"#));
    }
}
