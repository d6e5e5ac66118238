//! How long requests took, as far as dockerd tells: a histogram per action of containers.

use super::text::{Text, labels};
use http::Method;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds in seconds: those of Prometheus' client libraries.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which route is which action.
const ACTIONS: [(&str, Method, &str); 5] = [
    ("changes", Method::GET, "/containers/{}/changes"),
    ("commit", Method::POST, "/commit"),
    ("create", Method::POST, "/containers/create"),
    ("delete", Method::DELETE, "/containers/{}"),
    ("start", Method::POST, "/containers/{}/start"),
];

/// The actions' times.
#[derive(Debug, Default)]
pub(crate) struct Actions([Histogram; ACTIONS.len()]);

#[derive(Debug, Default)]
struct Histogram {
    /// Not added up: each observation is in one place.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Actions {
    /// A request was answered well.
    pub(crate) fn observe(&self, method: &Method, pattern: &str, took: Duration) {
        let found = ACTIONS.iter().position(|(_, m, p)| m == method && *p == pattern);
        let Some(histogram) = found.and_then(|at| self.0.get(at)) else { return };
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        histogram.buckets[at].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        histogram.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(super) fn write(&self, text: &mut Text) {
        let name = "engine_daemon_container_actions_seconds";
        text.family(
            name,
            "histogram",
            "The number of seconds it takes to process each container action",
        );
        for ((action, ..), histogram) in ACTIONS.iter().zip(&self.0) {
            let mut sum = 0;
            let mut bucket = |bound: &str, count: u64| {
                sum += count;
                let labels = labels(&[("action", action), ("le", bound)]);
                text.sample(&format!("{name}_bucket"), &labels, sum as f64);
                sum
            };
            let counts = histogram.buckets.each_ref().map(|c| c.load(Ordering::Relaxed));
            for (bound, count) in BOUNDS.iter().zip(counts) {
                bucket(&bound.to_string(), count);
            }
            let all = bucket("+Inf", counts[BOUNDS.len()]);
            let labels = labels(&[("action", action)]);
            let seconds = histogram.nanos.load(Ordering::Relaxed) as f64 / 1e9;
            text.sample(&format!("{name}_sum"), &labels, seconds);
            text.sample(&format!("{name}_count"), &labels, all as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_every_bucket_above_it() {
        let actions = Actions::default();
        let start = |ms| {
            let took = Duration::from_millis(ms);
            actions.observe(&Method::POST, "/containers/{}/start", took);
        };
        start(4);
        start(300);
        start(60_000);
        actions.observe(&Method::GET, "/info", Duration::from_secs(1));
        let mut text = Text::default();
        actions.write(&mut text);
        let text = text.finish();
        let name = "engine_daemon_container_actions_seconds";
        for want in [
            "_bucket{action=\"start\",le=\"0.005\"} 1",
            "_bucket{action=\"start\",le=\"0.25\"} 1",
            "_bucket{action=\"start\",le=\"0.5\"} 2",
            "_bucket{action=\"start\",le=\"10\"} 2",
            "_bucket{action=\"start\",le=\"+Inf\"} 3",
            "_sum{action=\"start\"} 60.304",
            "_count{action=\"start\"} 3",
            "_count{action=\"create\"} 0",
        ] {
            assert!(text.lines().any(|l| l == format!("{name}{want}")), "{want} in {text}");
        }
    }
}
