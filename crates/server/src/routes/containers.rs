//! Containers.

use crate::{
    call::Call,
    hijack,
    reply::{self, Reply},
    router::no_content,
    shapes,
    versions::Version,
};
use api::model;
use base::{Error, Result, Timestamp};
use engine::{
    ChangeKind,
    containers::{AttachOptions, Create, ListOptions, LogOptions, RemoveOptions, StatsOptions},
    images::CommitOptions,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let options = ListOptions {
        all: call.query.flag("all"),
        limit: call.query.number("limit")?.unwrap_or(0),
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    let list = call.engine.containers_list(&options).await?;
    if call.version >= Version(1, 48) {
        return Ok(reply::ok(&list));
    }
    let mut value = serde_json::to_value(list)
        .map_err(|e| Error::internal("cannot encode the containers").caused_by(e))?;
    shapes::containers(&mut value, call.version);
    Ok(reply::ok(&value))
}

/// The body of a create: the configuration, with the rest beside it.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateBody {
    host_config: model::HostConfig,
    networking_config: model::NetworkingConfig,
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let Some(bytes) = call.document().await?.filter(|b| b.trim_ascii() != b"null") else {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    };
    // One document holds both; decoding it twice keeps the field lists that case folding needs.
    let mut config: model::ContainerConfig = api::decode(&bytes)?;
    let body: CreateBody = api::decode(&bytes)?;
    drop(bytes);
    let mut host = body.host_config;
    shapes::create(&mut config, &mut host, call.version)?;
    let endpoints = body.networking_config.endpoints_config.unwrap_or_default();
    if call.version < Version(1, 44) && endpoints.len() > 1 {
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            endpoints.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        )));
    }
    let platform = call.query.text("platform").map(str::parse).transpose()?;
    let request = Create {
        name: call.query.text("name").map(str::to_owned),
        platform,
        config,
        host,
        endpoints,
        overlays: Vec::new(),
        hidden: false,
        step: false,
        secret_env: Vec::new(),
    };
    let created = call.engine.container_create(request, &call.by).await?;
    Ok(reply::json(
        StatusCode::CREATED,
        &json!({ "Id": created.id.to_string(), "Warnings": created.warnings }),
    ))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let shown = call.engine.container_inspect(call.name(0), call.query.flag("size")).await?;
    let mut value = serde_json::to_value(shown)
        .map_err(|e| Error::internal("cannot encode the container").caused_by(e))?;
    shapes::container(&mut value, call.version);
    Ok(reply::ok(&value))
}

pub(crate) async fn top(call: Call) -> Result<Reply> {
    let table =
        call.engine.container_top(call.name(0), call.query.get("ps_args").unwrap_or("")).await?;
    Ok(reply::ok(&model::Top { titles: table.titles, processes: table.processes }))
}

pub(crate) async fn logs(call: Call) -> Result<Reply> {
    let now = Timestamp::now();
    let time = |key: &str| -> Result<Option<Timestamp>> {
        let at = call.query.text(key).map(|t| Timestamp::parse_relative(t, now)).transpose()?;
        Ok(at.filter(|at| *at != Timestamp::from_unix(0, 0)))
    };
    let options = LogOptions {
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        follow: call.query.flag("follow"),
        since: time("since")?,
        until: time("until")?,
        timestamps: call.query.flag("timestamps"),
        tail: call.query.get("tail").and_then(|t| t.parse().ok()),
        details: call.query.flag("details"),
    };
    let mut stream = call.engine.container_logs(call.name(0), options).await?;
    let framed = !stream.tty && call.version >= Version(1, 42);
    let content_type = if framed {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    let tty = stream.tty;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(batch) = stream.next().await {
            let bytes = batch.unwrap_or_else(|err| {
                let text = format!("Error grabbing logs: {}\n", err.chain());
                hijack::error_frame(&text, tty)
            });
            if sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    Ok(reply::channel(content_type, receiver))
}

pub(crate) async fn resize(call: Call) -> Result<Reply> {
    let (height, width) = size(&call)?;
    call.engine.container_resize(call.name(0), height, width).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// Both sizes are required.
pub(crate) fn size(call: &Call) -> Result<(u16, u16)> {
    let one = |key: &str, what: &str| {
        let text = call.query.get(key).unwrap_or("");
        let number = text.parse::<u32>().map_err(|_| {
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let why = if number { "value out of range" } else { "invalid syntax" };
            Error::invalid(format!("invalid resize {what} {text:?}: {why}"))
        })?;
        Ok::<_, Error>(u16::try_from(number).unwrap_or(u16::MAX))
    };
    Ok((one("h", "height")?, one("w", "width")?))
}

pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    // Old clients sent a host configuration here; it is refused since 1.24, an empty object is let pass.
    let body = call.bytes().await?;
    if body.len() > 2 && call.version >= Version(1, 24) && body.as_ref() != b"null" {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    call.engine.container_start(call.name(0), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn stop(call: Call) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    call.engine.container_stop(call.name(0), timeout, call.query.text("signal"), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn restart(call: Call) -> Result<Reply> {
    let timeout = call.query.number("t")?;
    call.engine
        .container_restart(call.name(0), timeout, call.query.text("signal"), &call.by)
        .await?;
    Ok(no_content())
}

pub(crate) async fn kill(call: Call) -> Result<Reply> {
    call.engine
        .container_kill(call.name(0), call.query.get("signal").unwrap_or(""), &call.by)
        .await?;
    Ok(no_content())
}

pub(crate) async fn rename(call: Call) -> Result<Reply> {
    call.engine
        .container_rename(call.name(0), call.query.get("name").unwrap_or(""), &call.by)
        .await?;
    Ok(no_content())
}

pub(crate) async fn pause(call: Call) -> Result<Reply> {
    call.engine.container_pause(call.name(0), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn unpause(call: Call) -> Result<Reply> {
    call.engine.container_unpause(call.name(0), &call.by).await?;
    Ok(no_content())
}

fn attach_options(call: &Call) -> AttachOptions {
    AttachOptions {
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        stream: call.query.flag("stream"),
        logs: call.query.flag("logs"),
        detach_keys: call.query.text("detachKeys").map(str::to_owned),
    }
}

/// `GET /containers/{id}/attach/ws`; below 1.42 all three streams come, whatever was asked for.
pub(crate) async fn attach_ws(mut call: Call) -> Result<Reply> {
    let mut options = attach_options(&call);
    if call.version < Version(1, 42) {
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let handshake = crate::websocket::Handshake::of(&call)?;
    let attached = call.engine.container_attach(call.name(0), options, &call.by).await?;
    handshake.take_over(&mut call, attached)
}

/// `GET /containers/{id}/stats`.
pub(crate) async fn stats(call: Call) -> Result<Reply> {
    let options = StatsOptions {
        stream: call.query.flag_or("stream", true),
        one_shot: call.query.flag("one-shot") && call.version >= Version(1, 41),
    };
    if options.stream && options.one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    let mut stream = call.engine.container_stats(call.name(0), options)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let sample = tokio::select! {
                sample = stream.next() => sample,
                () = sender.closed() => return,
            };
            let Some(mut line) = sample.and_then(|s| serde_json::to_vec(&s).ok()) else { return };
            line.push(b'\n');
            if sender.send(line.into()).await.is_err() {
                return;
            }
        }
    });
    Ok(reply::channel("application/json", receiver))
}

pub(crate) async fn attach(mut call: Call) -> Result<Reply> {
    let options = attach_options(&call);
    let attached = call.engine.container_attach(call.name(0), options, &call.by).await?;
    Ok(hijack::take_over(&mut call, attached))
}

pub(crate) async fn wait(call: Call) -> Result<Reply> {
    let condition = call.query.get("condition").unwrap_or("").parse()?;
    let wait = call.engine.container_wait(call.name(0), condition)?;
    // The head leaves at once: clients start the container only after they have it.
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let ended = tokio::select! {
            ended = wait.ended() => ended,
            () = sender.closed() => return,
        };
        let mut body = json!({ "StatusCode": ended.exit_code });
        if let Some(message) = ended.error {
            body["Error"] = json!({ "Message": message });
        }
        let _ = sender.send(format!("{body}\n").into()).await;
    });
    Ok(reply::channel("application/json", receiver))
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    if call.query.flag("link") {
        return Err(Error::invalid("legacy links are not supported: remove the container itself"));
    }
    let options = RemoveOptions { force: call.query.flag("force"), volumes: call.query.flag("v") };
    call.engine.container_remove(call.name(0), options, &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let pruned = call.engine.containers_prune(&call.filters()?, &call.by).await?;
    let ids: Vec<String> = pruned.deleted.iter().map(ToString::to_string).collect();
    let deleted = (!ids.is_empty()).then_some(ids);
    Ok(reply::ok(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": pruned.reclaimed })))
}

pub(crate) async fn commit(mut call: Call) -> Result<Reply> {
    let config = call.json::<Option<model::ContainerConfig>>().await?;
    let container = call.query.get("container").unwrap_or("").to_owned();
    let options = CommitOptions {
        container: container.clone(),
        repository: call.query.get("repo").unwrap_or("").to_owned(),
        tag: call.query.get("tag").unwrap_or("").to_owned(),
        comment: call.query.get("comment").unwrap_or("").to_owned(),
        author: call.query.get("author").unwrap_or("").to_owned(),
        changes: call.query.all("changes"),
    };
    let pause = call.query.flag_or("pause", true);
    let id = call.engine.container_commit(&container, config, options, pause, &call.by).await?;
    Ok(reply::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}

pub(crate) async fn changes(call: Call) -> Result<Reply> {
    let changes = call.engine.container_changes(call.name(0)).await?;
    let list: Vec<_> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            };
            json!({ "Path": change.path.to_string_lossy(), "Kind": kind })
        })
        .collect();
    // Docker answers null when nothing changed.
    Ok(reply::ok(&(!list.is_empty()).then_some(list)))
}

pub(crate) async fn update(mut call: Call) -> Result<Reply> {
    let mut changes = call.json::<serde_json::Value>().await?;
    if call.version < Version(1, 40)
        && let Some(changes) = changes.as_object_mut()
    {
        changes.retain(|key, _| !key.eq_ignore_ascii_case("PidsLimit"));
    }
    let warnings = call.engine.container_update(call.name(0), changes, &call.by).await?;
    Ok(reply::ok(&json!({ "Warnings": warnings })))
}
