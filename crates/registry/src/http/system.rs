//! `/v2/`, health and readiness, and the ping of the V1 search.

use super::{Cx, Reply, fail::Fail, json};
use http::HeaderName;

/// `GET /v2/`: this is a registry, and the caller is let in.
pub(crate) async fn base(_: &mut Cx) -> Reply {
    Ok(json(&serde_json::json!({})))
}

/// `GET /v1/_ping`
pub(crate) async fn ping(_: &mut Cx) -> Reply {
    let mut answer = json(&serde_json::json!({"standalone": true}));
    super::set(&mut answer, HeaderName::from_static("x-docker-registry-standalone"), "true");
    Ok(answer)
}

/// `GET /healthz`: the process answers.
pub(crate) async fn health(_: &mut Cx) -> Reply {
    Ok(json(&serde_json::json!({"status": "ok"})))
}

/// `GET /readyz`: database, storage and spool can be used. What is wrong is for the log.
pub(crate) async fn ready(cx: &mut Cx) -> Reply {
    match crate::health::check(&cx.site).await {
        Ok(()) => Ok(json(&serde_json::json!({"status": "ready"}))),
        Err(part) => Err(Fail::unavailable(format!("{part} is not ready"))),
    }
}
