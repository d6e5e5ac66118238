//! Containers.

use crate::{
    call::{Asked, Call},
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
    containers::{
        AttachOptions, Condition, Create, ListOptions, LogOptions, RemoveOptions, StatsOptions,
    },
    images::CommitOptions,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) fn listing(asked: &Asked) -> Result<ListOptions> {
    Ok(ListOptions {
        all: asked.query.flag("all"),
        limit: asked.query.number("limit")?.unwrap_or(0),
        size: asked.query.flag("size"),
        filters: asked.filters()?,
    })
}

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let list = call.engine.containers_list(&listing(&call)?).await?;
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

pub(crate) fn creation(asked: &Asked, body: &[u8]) -> Result<Create> {
    let Some(bytes) = asked.document(body)?.filter(|b| b.trim_ascii() != b"null") else {
        return Err(Error::invalid("config cannot be empty in order to create a container"));
    };
    // One document holds both; decoding it twice keeps the field lists that case folding needs.
    let mut config: model::ContainerConfig = api::decode(bytes)?;
    let body: CreateBody = api::decode(bytes)?;
    let mut host = body.host_config;
    shapes::create(&mut config, &mut host, asked.version)?;
    let endpoints = body.networking_config.endpoints_config.unwrap_or_default();
    if asked.version < Version(1, 44) && endpoints.len() > 1 {
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            endpoints.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        )));
    }
    let platform = asked.query.text("platform").map(str::parse).transpose()?;
    Ok(Create {
        name: asked.query.text("name").map(str::to_owned),
        platform,
        config,
        host,
        endpoints,
        overlays: Vec::new(),
        hidden: false,
        step: false,
        secret_env: Vec::new(),
    })
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let request = call.read(creation).await?;
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

pub(crate) fn lines(asked: &Asked) -> Result<LogOptions> {
    let now = Timestamp::now();
    let time = |key: &str| -> Result<Option<Timestamp>> {
        let at = asked.query.text(key).map(|t| Timestamp::parse_relative(t, now)).transpose()?;
        Ok(at.filter(|at| *at != Timestamp::from_unix(0, 0)))
    };
    Ok(LogOptions {
        stdout: asked.query.flag("stdout"),
        stderr: asked.query.flag("stderr"),
        follow: asked.query.flag("follow"),
        since: time("since")?,
        until: time("until")?,
        timestamps: asked.query.flag("timestamps"),
        tail: asked.query.get("tail").and_then(|t| t.parse().ok()),
        details: asked.query.flag("details"),
    })
}

pub(crate) async fn logs(call: Call) -> Result<Reply> {
    let mut stream = call.engine.container_logs(call.name(0), lines(&call)?).await?;
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
pub(crate) fn size(call: &Asked) -> Result<(u16, u16)> {
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

/// Old clients sent a host configuration here; it is refused since 1.24, an empty object is let pass.
pub(crate) fn no_configuration(asked: &Asked, body: &[u8]) -> Result<()> {
    if body.len() > 2 && asked.version >= Version(1, 24) && body != b"null" {
        return Err(Error::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    Ok(())
}

pub(crate) async fn start(mut call: Call) -> Result<Reply> {
    call.read(no_configuration).await?;
    call.engine.container_start(call.name(0), &call.by).await?;
    Ok(no_content())
}

/// Seconds until a container is killed that does not end.
pub(crate) fn patience(asked: &Asked) -> Result<Option<i64>> {
    asked.query.number("t")
}

pub(crate) async fn stop(call: Call) -> Result<Reply> {
    let timeout = patience(&call)?;
    call.engine.container_stop(call.name(0), timeout, call.query.text("signal"), &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn restart(call: Call) -> Result<Reply> {
    let timeout = patience(&call)?;
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

fn attach_options(call: &Asked) -> AttachOptions {
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

pub(crate) fn samples(asked: &Asked) -> Result<StatsOptions> {
    let options = StatsOptions {
        stream: asked.query.flag_or("stream", true),
        one_shot: asked.query.flag("one-shot") && asked.version >= Version(1, 41),
    };
    if options.stream && options.one_shot {
        return Err(Error::invalid("cannot have stream=true and one-shot=true"));
    }
    Ok(options)
}

/// `GET /containers/{id}/stats`.
pub(crate) async fn stats(call: Call) -> Result<Reply> {
    let mut stream = call.engine.container_stats(call.name(0), samples(&call)?)?;
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

pub(crate) fn condition(asked: &Asked) -> Result<Condition> {
    asked.query.get("condition").unwrap_or("").parse()
}

pub(crate) async fn wait(call: Call) -> Result<Reply> {
    let wait = call.engine.container_wait(call.name(0), condition(&call)?)?;
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

pub(crate) fn removal(asked: &Asked) -> Result<RemoveOptions> {
    if asked.query.flag("link") {
        return Err(Error::invalid("legacy links are not supported: remove the container itself"));
    }
    Ok(RemoveOptions { force: asked.query.flag("force"), volumes: asked.query.flag("v") })
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let options = removal(&call)?;
    call.engine.container_remove(call.name(0), options, &call.by).await?;
    Ok(no_content())
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let pruned = call.engine.containers_prune(&call.filters()?, &call.by).await?;
    let ids: Vec<String> = pruned.deleted.iter().map(ToString::to_string).collect();
    let deleted = (!ids.is_empty()).then_some(ids);
    Ok(reply::ok(&json!({ "ContainersDeleted": deleted, "SpaceReclaimed": pruned.reclaimed })))
}

type Committed = (Option<model::ContainerConfig>, CommitOptions);

pub(crate) fn committed(asked: &Asked, body: &[u8]) -> Result<Committed> {
    let text = |key: &str| asked.query.get(key).unwrap_or("").to_owned();
    let options = CommitOptions {
        container: text("container"),
        repository: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        changes: asked.query.all("changes"),
    };
    Ok((asked.json(body)?, options))
}

pub(crate) async fn commit(mut call: Call) -> Result<Reply> {
    let (config, options) = call.read(committed).await?;
    let container = options.container.clone();
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

pub(crate) fn limits(asked: &Asked, body: &[u8]) -> Result<serde_json::Value> {
    let mut changes = asked.json::<serde_json::Value>(body)?;
    if asked.version < Version(1, 40)
        && let Some(changes) = changes.as_object_mut()
    {
        changes.retain(|key, _| !key.eq_ignore_ascii_case("PidsLimit"));
    }
    Ok(changes)
}

pub(crate) async fn update(mut call: Call) -> Result<Reply> {
    let changes = call.read(limits).await?;
    let warnings = call.engine.container_update(call.name(0), changes, &call.by).await?;
    Ok(reply::ok(&json!({ "Warnings": warnings })))
}
