//! Front ends that are images (`# syntax=NAME`): a container that speaks the gateway's protocol over its standard
//! input and output, and sees nothing else of the engine.
//!
//! Flow: the image is found, its container started with what the client said in its environment; the gateway is
//! served to it over a pair of pipes with a [`Desk`] of its own; what it returns is the result.
//! Invariants: the container goes whatever happens; its file system is read-only; names that it sends are keys
//! and paths inside states, never paths of the engine.
//! Source: BuildKit `frontend/gateway/gateway.go`.

use super::{Asked, lower::full_name};
use crate::{
    BuildKit, control,
    desk::Desk,
    failure::Failure,
    gateway,
    job::{Job, Outcome},
    progress::Task,
    proto::pb,
    serve,
    solve::{show, source},
};
use base::{Error, Platform, Result};
use build::output::Output;
use engine::build::{Attached, Network, Step, Talk};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

/// Front ends that may stand above one another.
const DEPTH: usize = 8;
/// How long one may take to end after it has returned its result.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes of what it last said that are told when it fails.
const LAST: usize = 1024;
/// Bytes on their way to it and from it.
const PIPE: usize = 64 << 10;
/// What an image says of the front end in it.
const CAPABILITIES: &str = "moby.buildkit.frontend.caps";
const NO_NETWORK: &str = "moby.buildkit.frontend.network.none";

/// Runs the front end in the image called `name`, which `depth` others stand above.
///
/// # Errors
/// What it failed with; when it cannot be had, or ends without a result.
pub(super) async fn run(
    kit: &Arc<BuildKit>,
    job: &Arc<Job>,
    name: &str,
    asked: Asked<'_>,
    depth: usize,
) -> Result<Outcome, Arc<Failure>> {
    let failed = |error: Error| Arc::new(Failure::from(error));
    if depth >= DEPTH {
        return Err(failed(Error::exhausted(format!(
            "front ends stand above one another more than {DEPTH} times: {name} is one too many"
        ))));
    }
    let full = full_name(name).map_err(failed)?;
    let task = job.progress.task(&format!("docker-image://{full}"), None);
    let desk = Desk::new(asked.inputs.clone(), depth + 1);
    let work = async {
        let step = step(kit, job, &full, asked, &task).await.map_err(failed)?;
        let (talk, attached) = job.host.talk(&step, false).await.map_err(failed)?;
        spoken(kit, job, &desk, &full, talk, attached, &task).await
    };
    let done = tokio::select! {
        done = work => done,
        () = job.stop.cancelled() => Err(failed(Error::cancelled("the build was stopped"))),
    };
    desk.clear();
    task.end(&done);
    done
}

/// What is run: the image's own command.
async fn step(
    kit: &Arc<BuildKit>,
    job: &Arc<Job>,
    name: &str,
    asked: Asked<'_>,
    task: &Task,
) -> Result<Step> {
    let Asked { opts, inputs, .. } = asked;
    let (sender, mut messages) = mpsc::channel(64);
    let output = Output::new(sender);
    let found = async {
        let output = output;
        source::image(job, name, Some(Platform::host().short()), false, &output).await
    };
    let shown = async {
        while let Some(message) = messages.recv().await {
            show(&job.progress, task.vertex(), message);
        }
    };
    let (image, ()) = tokio::join!(found, shown);
    let image = image?;
    let config = &image.config.config;
    let label = |key: &str| config.labels.get(key).map_or("", String::as_str);
    able(name, label(CAPABILITIES), opts, inputs)?;
    let mut args = config.entrypoint.clone().unwrap_or_default();
    if args.is_empty() {
        args.push("/run".into());
    }
    let mut env = config.env.clone();
    let opts: BTreeMap<&String, &String> = opts.iter().collect();
    for (index, (key, value)) in opts.into_iter().enumerate() {
        env.push(format!("BUILDKIT_FRONTEND_OPT_{index}={key}={value}"));
    }
    let session = job.session.as_ref().map_or("", |s| s.id.as_str());
    env.push(format!("BUILDKIT_SESSION_ID={session}"));
    env.push(format!("BUILDKIT_WORKERS={}", workers(kit)));
    env.push("BUILDKIT_EXPORTEDPRODUCT=docker".into());
    let alone = matches!(label(NO_NETWORK), "1" | "t" | "T" | "true" | "TRUE" | "True");
    Ok(Step {
        image: image.id.ok_or_else(|| Error::internal("an image has no id"))?,
        args,
        env,
        secret_env: Vec::new(),
        cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
        user: config.user.clone(),
        hostname: "buildkitsandbox".into(),
        mounts: Vec::new(),
        network: if alone { Network::None } else { Network::Bridge },
        privileged: false,
        hosts: Vec::new(),
        ulimits: Vec::new(),
        cgroup_parent: String::new(),
        shm_size: 0,
        readonly: true,
    })
}

/// Whether the image can do what the client needs.
fn able(
    name: &str,
    can: &str,
    opts: &HashMap<String, String>,
    inputs: &HashMap<String, pb::Definition>,
) -> Result<()> {
    let list = |text: &str| -> Vec<String> {
        let parts = text.split(',').map(str::trim);
        parts.filter(|p| !p.is_empty()).map(|p| p.trim_end_matches('+').to_owned()).collect()
    };
    let can = list(can);
    let mut needs = list(opts.get("frontend.caps").map_or("", String::as_str));
    if !inputs.is_empty() {
        needs.push("moby.buildkit.frontend.inputs".into());
    }
    match needs.into_iter().find(|need| !can.contains(need)) {
        Some(need) => {
            Err(Error::not_implemented(format!("unsupported frontend capability {need} of {name}")))
        }
        None => Ok(()),
    }
}

/// What the container is told of the engine's one worker, in the words of BuildKit's client.
fn workers(kit: &BuildKit) -> String {
    let worker = control::worker(kit);
    let platform = |p: &pb::Platform| {
        let mut platform = json!({ "architecture": p.architecture, "os": p.os });
        if !p.variant.is_empty() {
            platform["variant"] = p.variant.clone().into();
        }
        platform
    };
    let version = worker.buildkit_version.unwrap_or_default();
    json!([{
        "id": worker.id,
        "labels": worker.labels,
        "platforms": worker.platforms.iter().map(platform).collect::<Vec<_>>(),
        "gcPolicy": null,
        "buildkitVersion": {
            "package": version.package, "version": version.version, "revision": version.revision,
        },
    }])
    .to_string()
}

/// Serves the gateway to the container until it has returned its result and ended.
async fn spoken(
    kit: &Arc<BuildKit>,
    job: &Arc<Job>,
    desk: &Arc<Desk>,
    name: &str,
    talk: Talk,
    mut attached: Attached,
    task: &Task,
) -> Result<Outcome, Arc<Failure>> {
    let (near, far) = tokio::io::duplex(PIPE);
    let (mut answers, mut calls) = tokio::io::split(far);
    let input = attached.input();
    let last = Mutex::new(VecDeque::<u8>::new());
    let hear = async {
        while let Some((error, bytes)) = attached.next().await {
            if error {
                task.log(&bytes);
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.extend(bytes.iter());
                let extra = last.len().saturating_sub(LAST);
                last.drain(..extra);
            } else if calls.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The server sees the end of its connection.
        drop(calls.shutdown().await);
    };
    let say = async {
        let Some(mut input) = input else { return };
        let mut buffer = vec![0; PIPE];
        while let Ok(count @ 1..) = answers.read(&mut buffer).await {
            if input.send(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let bridge = gateway::Service::for_desk(kit, job, desk);
    let serve = serve::bridge(TokioIo::new(near), bridge);
    let ended = async {
        tokio::select! {
            returned = desk.returned() => match tokio::time::timeout(GRACE, talk.ended()).await {
                Ok(code) => (Some(returned), code),
                Err(_) => (Some(returned), Ok(0)),
            },
            code = talk.ended() => (desk.given(), code),
        }
    };
    let speaking = async {
        tokio::join!(hear, say, serve);
        // How it ended is the other's to say.
        std::future::pending::<()>().await;
    };
    let (returned, code) = tokio::select! {
        ended = ended => ended,
        () = speaking => (None, Ok(0)),
    };
    talk.remove().await.map_err(|e| Arc::new(Failure::from(e)))?;
    let wrong = |why: String| Err(Arc::new(Failure::from(Error::invalid(why))));
    let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
    let last = String::from_utf8_lossy(&Vec::from(last)).trim().to_owned();
    match (returned, code) {
        (Some(Err(failure)), _) => Err(failure),
        (_, Err(err)) => Err(Arc::new(err.into())),
        (Some(Ok(outcome)), Ok(0)) => Ok(outcome),
        (Some(Ok(_)), Ok(code)) => {
            wrong(format!("the front end {name} ended with exit code {code}: {last}"))
        }
        (None, Ok(code)) => wrong(format!(
            "the front end {name} ended with exit code {code} and without a result: {last}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_cannot_do_is_named() {
        let opts = |caps: &str| HashMap::from([("frontend.caps".to_owned(), caps.to_owned())]);
        let none = HashMap::new();
        let can = "moby.buildkit.frontend.subrequests, moby.buildkit.frontend.contexts";
        let ask = |caps: &str| able("x", can, &opts(caps), &none);
        ask("moby.buildkit.frontend.contexts+,moby.buildkit.frontend.subrequests").unwrap();
        assert!(ask("moby.buildkit.frontend.odd").unwrap_err().to_string().contains("odd"));
        let given = HashMap::from([("a".to_owned(), pb::Definition::default())]);
        assert!(able("x", can, &HashMap::new(), &given).is_err());
    }
}
