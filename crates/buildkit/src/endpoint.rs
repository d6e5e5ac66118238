//! `POST /build?version=2`: builds that are asked for by HTTP, as clients without buildx do, and told as JSON messages.
//!
//! Flow: the parameters become a request to the same `Control.Solve` that gRPC calls ([`solve_request`]); the archive in
//! the body, of this request or of one that follows with the build's name, waits in [`Uploads`] until the source of
//! the context takes it; what is told of the build goes out as `moby.buildkit.trace`, its image as `moby.image.id`.
//! Invariant: a build ends when its request does; a name that is cancelled stops what has it.
//! Source: moby `builder/builder-next` (behaviour).

use crate::{
    BuildKit, control, lock,
    proto::control::{self as wire, control_server::Control as _},
};
use base::{Error, Principal, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::{build::BuildRequest, images::Bytestream};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The host in URLs of archives that came by HTTP.
pub(crate) const BODIES: &str = "http://buildkit-request/";
/// What the name of a build begins with in a request that brings its archive.
const UPLOAD: &str = "upload-request";
/// How long a build waits for its archive, and an archive for its build.
const COMES: Duration = Duration::from_secs(30);
/// Messages on their way to the client.
const QUEUE: usize = 64;

/// What clients give beside the classic parameters.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// `session`: on which files and credentials are asked for.
    pub session: String,
    /// `outputs`: where the result goes; nothing is the store of images.
    pub outputs: Vec<Destination>,
}

/// One of `outputs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Destination {
    /// `local`, `tar`, ...
    pub r#type: String,
    /// As `-o` has them.
    pub attrs: HashMap<String, String>,
}

/// Archives of requests, until somebody takes them; each once.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<String, Upload>>);

/// An archive, and who wants to know that it was taken to its end.
struct Upload {
    body: Bytestream,
    taken: Option<oneshot::Sender<()>>,
}

impl std::fmt::Debug for Uploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Uploads")
    }
}

/// An archive that somebody reads.
pub(crate) struct Reading {
    pub(crate) body: Bytestream,
    _taken: Option<oneshot::Sender<()>>,
}

impl Uploads {
    fn put(&self, id: &str, upload: Upload) -> Result<()> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.contains_key(id) {
            true => Err(Error::conflict(format!("the build {id} has its archive already"))),
            false => {
                all.insert(id.to_owned(), upload);
                Ok(())
            }
        }
    }

    fn drop(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The archive called `id`, which may be about to come.
    ///
    /// # Errors
    /// `NotFound` when it does not, or was taken.
    pub(crate) async fn take(&self, id: &str) -> Result<Reading> {
        const LOOK: Duration = Duration::from_millis(20);
        let until = tokio::time::Instant::now() + COMES;
        loop {
            let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            if let Some(Upload { body, taken }) = found {
                return Ok(Reading { body, _taken: taken });
            }
            if tokio::time::Instant::now() > until {
                return Err(Error::not_found("the archive of the build's context did not come"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Messages of a build; dropping it ends the build.
#[derive(Debug)]
pub struct Told {
    messages: mpsc::Receiver<Value>,
    _work: AbortOnDropHandle<()>,
}

impl Told {
    /// The next message; nothing when the build is over.
    pub async fn next(&mut self) -> Option<Value> {
        self.messages.recv().await
    }
}

impl BuildKit {
    /// Builds what is asked for; `body` is the context's archive where the request has one. Nothing is told to a request that
    /// only brings the archive of another.
    ///
    /// # Errors
    /// `Invalid` for parameters that cannot be; what stops the build later is its last message.
    pub async fn build_by_http(
        self: &Arc<Self>,
        request: BuildRequest,
        extra: Extra,
        body: Bytestream,
        by: &Principal,
    ) -> Result<Option<Told>> {
        if let Some(of) = request.build_id.strip_prefix(UPLOAD).and_then(|r| r.strip_prefix(':')) {
            self.bring(of, body).await?;
            return Ok(None);
        }
        let id = base::hex(&{
            let random = base::ContainerId::random().to_string();
            <sha2::Sha256 as sha2::Digest>::digest(random)
        })[..25]
            .to_owned();
        let archive = match request.remote.as_str() {
            "client-session" => None,
            UPLOAD if request.build_id.is_empty() => {
                return Err(Error::invalid("a build whose archive follows needs a buildid"));
            }
            UPLOAD => Some(request.build_id.clone()),
            "" => {
                self.site.uploads.put(&id, Upload { body, taken: None })?;
                Some(id.clone())
            }
            _ => None,
        };
        let solve = solve_request(&request, &extra, &id, archive.as_deref())?;
        let (sender, messages) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        if !request.build_id.is_empty() {
            lock(&self.named).insert(request.build_id.clone(), stop.clone());
        }
        let (kit, by, quiet) = (Arc::clone(self), by.clone(), request.quiet);
        let name = request.build_id;
        let work = tokio::spawn(async move {
            let _named = Named { kit: Arc::clone(&kit), name, archive };
            tokio::select! {
                () = work(&kit, solve, by, quiet, &sender) => {}
                () = stop.cancelled() => {
                    drop(sender.send(failure("context canceled")).await);
                }
            }
        });
        Ok(Some(Told { messages, _work: AbortOnDropHandle::new(work) }))
    }

    /// Keeps an archive for the build called `id` until it was read.
    async fn bring(&self, id: &str, body: Bytestream) -> Result<()> {
        let (sender, taken) = oneshot::channel();
        self.site.uploads.put(id, Upload { body, taken: Some(sender) })?;
        // Whoever takes it drops the sender in the end, whatever comes of it.
        let waited = tokio::time::timeout(COMES * 20, taken).await;
        self.site.uploads.drop(id);
        match waited {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::not_found(format!("no build {id} took its archive"))),
        }
    }

    /// Stops the build that its client named `id`; one that is over is fine.
    pub fn cancel(&self, id: &str) {
        if let Some(stop) = lock(&self.named).get(id) {
            stop.cancel();
        }
    }
}

/// What is known of a build by name, which goes when the build does.
struct Named {
    kit: Arc<BuildKit>,
    name: String,
    archive: Option<String>,
}

impl Drop for Named {
    fn drop(&mut self) {
        lock(&self.kit.named).remove(&self.name);
        if let Some(archive) = &self.archive {
            self.kit.site.uploads.drop(archive);
        }
    }
}

fn failure(why: &str) -> Value {
    json!({ "errorDetail": { "message": why }, "error": why })
}

/// Builds, and tells of it.
async fn work(
    kit: &Arc<BuildKit>,
    solve: wire::SolveRequest,
    by: Principal,
    quiet: bool,
    to: &mpsc::Sender<Value>,
) {
    let mut follow = kit.progress(&solve.r#ref).follow();
    let service = control::Service { kit: Arc::clone(kit), by };
    let solving = service.solve(tonic::Request::new(solve));
    let mut solving = std::pin::pin!(solving);
    let mut done = None;
    loop {
        let told = tokio::select! {
            biased;
            told = follow.next() => told,
            answer = solving.as_mut(), if done.is_none() => {
                let begun = follow.has_begun();
                done = Some(answer);
                match begun {
                    true => continue,
                    // What was refused has no story that ends.
                    false => None,
                }
            }
        };
        let Some(told) = told else { break };
        if !quiet {
            let aux = STANDARD.encode(told.encode_to_vec());
            if to.send(json!({ "id": "moby.buildkit.trace", "aux": aux })).await.is_err() {
                return;
            }
        }
    }
    let answer = match done {
        Some(answer) => answer,
        None => solving.await,
    };
    let last = match answer {
        Err(status) => Some(failure(&format!("failed to solve: {}", status.message()))),
        Ok(answer) => {
            let response = answer.into_inner().exporter_response;
            let id = response.get("containerimage.config.digest");
            let id = id.or_else(|| response.get("containerimage.digest"));
            id.map(|id| match quiet {
                true => json!({ "stream": format!("{id}\n") }),
                false => json!({ "id": "moby.image.id", "aux": { "ID": id } }),
            })
        }
    };
    if let Some(last) = last {
        // Nobody may be left to hear it.
        drop(to.send(last).await);
    }
}

/// The request that means what the parameters say.
fn solve_request(
    request: &BuildRequest,
    extra: &Extra,
    id: &str,
    archive: Option<&str>,
) -> Result<wire::SolveRequest> {
    let mut attrs: HashMap<String, String> = HashMap::new();
    let mut set = |key: &str, value: String| drop(attrs.insert(key.to_owned(), value));
    if !matches!(request.dockerfile.as_str(), "" | ".") {
        set("filename", request.dockerfile.clone());
    }
    match (archive, request.remote.as_str()) {
        (Some(archive), _) => set("context", format!("{BODIES}{archive}")),
        (None, "client-session") => {}
        (None, remote) => set("context", remote.to_owned()),
    }
    if !request.target.is_empty() {
        set("target", request.target.clone());
    }
    if request.no_cache {
        set("no-cache", String::new());
    }
    if request.pull {
        set("image-resolve-mode", "pull".into());
    }
    if let Some(platform) = &request.platform {
        set("platform", platform.to_string());
    }
    match request.network_mode.as_str() {
        "" | "default" => {}
        "host" | "none" => set("force-network-mode", request.network_mode.clone()),
        other => {
            return Err(Error::invalid(format!(
                "network mode {other:?} not supported by buildkit"
            )));
        }
    }
    if !request.extra_hosts.is_empty() {
        let hosts = request.extra_hosts.iter().map(|host| match host.split_once([':', '=']) {
            Some((name, address)) => Ok(format!("{name}={address}")),
            None => Err(Error::invalid(format!("invalid host {host:?}"))),
        });
        set("add-hosts", hosts.collect::<Result<Vec<_>>>()?.join(","));
    }
    if request.shm_size > 0 {
        set("shm-size", request.shm_size.to_string());
    }
    if !request.cgroup_parent.is_empty() {
        set("cgroup-parent", request.cgroup_parent.clone());
    }
    let limits = request.ulimits.iter().map(|u| format!("{}={}:{}", u.name, u.soft, u.hard));
    let limits: Vec<String> = limits.collect();
    if !limits.is_empty() {
        set("ulimit", limits.join(","));
    }
    for (name, value) in &request.build_args {
        if let Some(value) = value {
            set(&format!("build-arg:{name}"), value.clone());
        }
    }
    for (name, value) in &request.labels {
        set(&format!("label:{name}"), value.clone());
    }
    let mut exporters = Vec::new();
    let destination = match extra.outputs.as_slice() {
        [] => Some(Destination { r#type: "moby".into(), attrs: HashMap::new() }),
        [one] if one.r#type == "cacheonly" => None,
        [one] => Some(one.clone()),
        _ => return Err(Error::invalid("multiple outputs not supported")),
    };
    if let Some(Destination { r#type, mut attrs }) = destination {
        if matches!(r#type.as_str(), "moby" | "image") && !request.tags.is_empty() {
            attrs.insert("name".into(), request.tags.join(","));
        }
        exporters.push(wire::Exporter { r#type, attrs });
    }
    let entry = |kind: &str, attrs: HashMap<String, String>| wire::CacheOptionsEntry {
        r#type: kind.to_owned(),
        attrs,
    };
    let inline = request.build_args.get("BUILDKIT_INLINE_CACHE").cloned().flatten();
    let inline =
        inline.is_some_and(|v| matches!(v.as_str(), "1" | "t" | "T" | "true" | "True" | "TRUE"));
    let cache = wire::CacheOptions {
        exports: inline.then(|| entry("inline", HashMap::new())).into_iter().collect(),
        imports: request
            .cache_from
            .iter()
            .map(|name| entry("registry", HashMap::from([("ref".to_owned(), name.clone())])))
            .collect(),
        ..wire::CacheOptions::default()
    };
    Ok(wire::SolveRequest {
        r#ref: id.to_owned(),
        session: extra.session.clone(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: attrs,
        exporters,
        cache: Some(cache),
        ..wire::SolveRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: BuildRequest) -> Result<wire::SolveRequest> {
        solve_request(&request, &Extra::default(), "id", None)
    }

    #[test]
    fn parameters_become_what_they_mean() {
        let request = BuildRequest {
            remote: "client-session".into(),
            dockerfile: "sub/Dockerfile".into(),
            tags: vec!["a:1".into(), "b:2".into()],
            no_cache: true,
            extra_hosts: vec!["h:1.2.3.4".into()],
            build_args: [("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)].into(),
            cache_from: vec!["r/c".into()],
            ..BuildRequest::default()
        };
        let solve = asked(request).unwrap();
        let attr = |key: &str| solve.frontend_attrs.get(key).map(String::as_str);
        assert_eq!(attr("filename"), Some("sub/Dockerfile"));
        assert_eq!(attr("context"), None);
        assert_eq!(attr("no-cache"), Some(""));
        assert_eq!(attr("add-hosts"), Some("h=1.2.3.4"));
        assert_eq!((attr("build-arg:A"), attr("build-arg:B")), (Some("1"), None));
        assert_eq!(solve.exporters[0].r#type, "moby");
        assert_eq!(solve.exporters[0].attrs["name"], "a:1,b:2");
        assert_eq!(solve.cache.unwrap().imports[0].attrs["ref"], "r/c");
        let bad = BuildRequest { network_mode: "bridge".into(), ..BuildRequest::default() };
        assert!(asked(bad).is_err());
        let archive = solve_request(&BuildRequest::default(), &Extra::default(), "id", Some("x"));
        assert_eq!(archive.unwrap().frontend_attrs["context"], format!("{BODIES}x"));
        let two = Extra { outputs: vec![Destination::default(); 2], ..Extra::default() };
        assert!(solve_request(&BuildRequest::default(), &two, "id", None).is_err());
    }
}
