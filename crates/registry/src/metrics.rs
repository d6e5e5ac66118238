//! Counters in Prometheus' text format, served on the administrator's address.

use base::{Error, Result};
use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{fmt, time::Duration};

/// Upper bounds of the request times, in seconds.
const TIMES: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    route: &'static str,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Endpoint {
    endpoint: String,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    times: Family<Route, Histogram, fn() -> Histogram>,
    pulled: Counter,
    pushed: Counter,
    pub(crate) collected_blobs: Counter,
    pub(crate) collected_bytes: Counter,
    pub(crate) damaged: Gauge,
    blobs: Gauge,
    bytes: Gauge,
    uploads: Gauge,
    reviews: Gauge,
    trash: Gauge,
    outbox: Family<Endpoint, Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    pub(crate) uploads: u64,
    pub(crate) reviews: u64,
    pub(crate) trash: u64,
    pub(crate) outbox: Vec<(String, u64)>,
}

fn gauge(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("gantry_registry");
        let times: Family<Route, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(TIMES));
        let metrics = Self {
            requests: Family::default(),
            times,
            pulled: Counter::default(),
            pushed: Counter::default(),
            collected_blobs: Counter::default(),
            collected_bytes: Counter::default(),
            damaged: Gauge::default(),
            blobs: Gauge::default(),
            bytes: Gauge::default(),
            uploads: Gauge::default(),
            reviews: Gauge::default(),
            trash: Gauge::default(),
            outbox: Family::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered", metrics.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time until the head of the answer",
            Unit::Seconds,
            metrics.times.clone(),
        );
        let bytes = Unit::Bytes;
        registry.register_with_unit("pulled", "Blobs sent", bytes.clone(), metrics.pulled.clone());
        registry.register_with_unit(
            "pushed",
            "Blobs received",
            bytes.clone(),
            metrics.pushed.clone(),
        );
        registry.register("collected_blobs", "Blobs collected", metrics.collected_blobs.clone());
        registry.register_with_unit(
            "collected",
            "Blobs collected",
            bytes.clone(),
            metrics.collected_bytes.clone(),
        );
        registry.register("damaged", "Damaged objects by the last scrub", metrics.damaged.clone());
        registry.register("blobs", "Blobs stored", metrics.blobs.clone());
        registry.register_with_unit("stored", "Blobs stored", bytes, metrics.bytes.clone());
        registry.register("uploads", "Uploads under way", metrics.uploads.clone());
        registry.register("reviews", "Links that wait for a review", metrics.reviews.clone());
        registry.register("trash", "Objects that wait for deletion", metrics.trash.clone());
        registry.register("outbox", "Notifications that wait", metrics.outbox.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub(crate) fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Duration,
    ) {
        // A client may invent methods without end.
        let known =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        let request = Request { route, method: method.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        self.times.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    pub(crate) fn pulled(&self, bytes: u64) {
        self.pulled.inc_by(bytes);
    }

    pub(crate) fn pushed(&self, bytes: u64) {
        self.pushed.inc_by(bytes);
    }

    /// The text that is served.
    pub(crate) fn text(&self, now: &Snapshot) -> Result<String> {
        self.blobs.set(gauge(now.blobs));
        self.bytes.set(gauge(now.bytes));
        self.uploads.set(gauge(now.uploads));
        self.reviews.set(gauge(now.reviews));
        self.trash.set(gauge(now.trash));
        self.outbox.clear();
        for (endpoint, count) in &now.outbox {
            let endpoint = Endpoint { endpoint: endpoint.clone() };
            self.outbox.get_or_create(&endpoint).set(gauge(*count));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|e| Error::internal("cannot write the metrics").caused_by(e))?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::default();
        metrics.answered("blob", &Method::GET, StatusCode::OK, Duration::from_millis(2));
        let odd = Method::from_bytes(b"BREW").unwrap();
        metrics.answered("blob", &odd, StatusCode::METHOD_NOT_ALLOWED, Duration::ZERO);
        metrics.pulled(10);
        let now = Snapshot { outbox: vec![("hook".into(), 3)], ..Snapshot::default() };
        let text = metrics.text(&now).unwrap();
        for line in [
            r#"gantry_registry_requests_total{route="blob",method="GET",status="200"} 1"#,
            r#"gantry_registry_requests_total{route="blob",method="other",status="405"} 1"#,
            "gantry_registry_pulled_bytes_total 10",
            r#"gantry_registry_outbox{endpoint="hook"} 3"#,
            r#"gantry_registry_request_duration_seconds_bucket{le="0.0025",route="blob"} 2"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
