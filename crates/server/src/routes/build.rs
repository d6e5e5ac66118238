//! Building images: the classic builder's endpoints.

use crate::{
    call::{Asked, Call},
    incoming::incoming,
    reply::{self, Reply},
};
use api::model;
use base::{Error, Result, Timestamp};
use buildkit::{BuildKit, Extra};
use bytes::Bytes;
use engine::{
    build::{BuildRequest, CachePolicy},
    images::{Bytestream, KnownCredentials},
};
use serde::de::DeserializeOwned;
use std::sync::Arc;

pub(crate) async fn build(mut call: Call) -> Result<Reply> {
    let body = incoming(&mut call);
    let (request, extra) = request(&call)?;
    if call.query.get("version") == Some("2") {
        return by_buildkit(&call, request, extra, body).await;
    }
    let stream = call.engine.image_build(request, Some(body), &call.by).await?;
    let lines = futures_util::stream::unfold(stream, |mut stream| async move {
        let message = stream.next().await?;
        Some((Ok(Bytes::from(format!("{message}\r\n"))), stream))
    });
    Ok(reply::stream("application/json", lines))
}

/// The same with the builder of BuildKit's clients.
async fn by_buildkit(
    call: &Call,
    request: BuildRequest,
    extra: Extra,
    body: Bytestream,
) -> Result<Reply> {
    let Some(told) = builder(call)?.build_by_http(request, extra, body, &call.by).await? else {
        return Ok(reply::empty(http::StatusCode::OK));
    };
    let lines = futures_util::stream::unfold(told, |mut told| async move {
        let message = told.next().await?;
        Some((Ok(Bytes::from(format!("{message}\r\n"))), told))
    });
    Ok(reply::stream("application/json", lines))
}

/// What is to be built, and what BuildKit's clients say besides.
pub(crate) fn request(asked: &Asked) -> Result<(BuildRequest, Extra)> {
    let request = parameters(asked)?;
    request.check()?;
    let mut extra = Extra::default();
    if asked.query.get("version") == Some("2") {
        asked.query.get("session").unwrap_or_default().clone_into(&mut extra.session);
        extra.outputs = decoded(asked, "outputs", "error reading outputs")?;
    }
    Ok((request, extra))
}

fn parameters(call: &Asked) -> Result<BuildRequest> {
    let query = &call.query;
    let text = |key: &str| query.get(key).unwrap_or_default().to_owned();
    let number = |key: &str| query.number(key).map(Option::unwrap_or_default);
    let force_remove = query.flag("forcerm");
    if let Some(version) = query.text("version").filter(|v| !matches!(*v, "1" | "2")) {
        return Err(Error::invalid(format!("invalid version {version}")));
    }
    let isolation = text("isolation");
    if !matches!(isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(Error::invalid(format!("Unsupported isolation: {isolation:?}")));
    }
    if !query.all("securityopt").is_empty() {
        return Err(Error::invalid(
            "The daemon on this platform does not support setting security options on build",
        ));
    }
    Ok(BuildRequest {
        dockerfile: text("dockerfile"),
        tags: query.all("t"),
        remote: text("remote"),
        extra_hosts: query.all("extrahosts").into_iter().filter(|h| !h.is_empty()).collect(),
        quiet: query.flag("q"),
        no_cache: query.flag("nocache"),
        cache_from: decoded(call, "cachefrom", "error reading cache-from")?,
        pull: query.flag("pull"),
        remove: force_remove || query.flag_or("rm", true),
        force_remove,
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cgroup_parent: text("cgroupparent"),
        build_args: decoded(call, "buildargs", "error reading build args")?,
        labels: decoded(call, "labels", "error reading labels")?,
        shm_size: number("shmsize")?,
        ulimits: decoded(call, "ulimits", "error reading ulimit settings")?,
        network_mode: text("networkmode"),
        squash: query.flag("squash"),
        target: text("target"),
        platform: query.text("platform").map(str::parse).transpose()?,
        security_opt: Vec::new(),
        build_id: text("buildid"),
        credentials: KnownCredentials::from_header(
            call.headers.get("x-registry-config").and_then(|v| v.to_str().ok()),
        ),
    })
}

/// A parameter that is JSON.
fn decoded<T: DeserializeOwned + Default>(call: &Asked, key: &str, what: &str) -> Result<T> {
    match call.query.text(key) {
        None | Some("null") => Ok(T::default()),
        Some(json) => {
            api::decode(json.as_bytes()).map_err(|cause| Error::invalid(what).caused_by(cause))
        }
    }
}

fn builder(call: &Call) -> Result<&Arc<BuildKit>> {
    call.builder.as_ref().ok_or_else(|| {
        Error::internal("the builder is off: its folder could not be made (see the log)")
    })
}

/// What the build cache takes, entry by entry.
pub(super) async fn usage(call: &Call) -> Result<Vec<model::BuildCache>> {
    let shown = |entry: buildkit::Usage| model::BuildCache {
        id: entry.id,
        parents: Some(entry.parents).filter(|p| !p.is_empty()),
        r#type: entry.kind,
        description: entry.description,
        in_use: entry.in_use,
        shared: entry.shared,
        size: entry.bytes,
        created_at: entry.created.to_string(),
        last_used_at: Some(entry.used.to_string()),
        usage_count: entry.uses,
    };
    Ok(builder(call)?.disk_usage().await?.into_iter().map(shown).collect())
}

/// Why the steps of a build were done.
pub(crate) async fn explain(call: Call) -> Result<Reply> {
    let name = call.query.get("ref").unwrap_or_default();
    Ok(reply::ok(&builder(&call)?.explain(name).await?))
}

pub(crate) fn pruning(asked: &Asked) -> Result<CachePolicy> {
    let query = &asked.query;
    let bytes = |key: &str| {
        let given: i64 = query.number(key)?.unwrap_or_default();
        u64::try_from(given).map_err(|_| Error::invalid(format!("{key} is negative: {given}")))
    };
    let keep = bytes("keep-storage")?;
    Ok(CachePolicy {
        all: query.flag("all"),
        reserved: bytes("reserved-space")?.max(keep),
        max_used: bytes("max-used-space")?,
        min_free: bytes("min-free-space")?,
        ..CachePolicy::filtered(&asked.filters()?, Timestamp::now())?
    })
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    let policy = pruning(&call)?;
    let gone = builder(&call)?.reclaim(policy).await?;
    Ok(reply::ok(&model::BuildCachePruned {
        caches_deleted: Some(gone.entries),
        space_reclaimed: gone.bytes,
    }))
}

pub(crate) fn cancelled(asked: &Asked) -> Result<&str> {
    asked.query.text("id").ok_or_else(|| Error::invalid("build ID not provided"))
}

pub(crate) async fn cancel(call: Call) -> Result<Reply> {
    let id = cancelled(&call)?;
    call.engine.build_cancel(id);
    if let Some(builder) = &call.builder {
        builder.cancel(id);
    }
    Ok(reply::empty(http::StatusCode::OK))
}
