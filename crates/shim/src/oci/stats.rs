//! `events`: what a container uses, in the form that runc prints it.

use super::{
    Cx,
    arguments::Given,
    report::say,
    state::{self, Container, Record, Status},
};
use crate::container::{Step, Tried};
use runtime::shim::StartError;
use serde_json::{Value, json};
use std::time::Duration;
use sys::{
    cgroup::{BlkioEntry, Cgroup},
    epoll::{Interest, Poll},
};

/// `gantry-shim events`.
pub(super) fn events(cx: &Cx, given: &Given) -> Step<i32> {
    let id = given.id()?;
    let (record, status) = Container::look(cx, id)?;
    if status == Status::Stopped {
        return Err(StartError::setup(format!("container with id {id} is not running")));
    }
    let group = state::group(&record)?;
    if given.has("stats") {
        say(&format!("{}\n", stats(&record, &group)));
        return Ok(0);
    }
    let every = interval(given.value("interval").unwrap_or("5s"))?;
    let process = state::process(&record)?;
    let what = || "wait for the container".to_owned();
    let poll = Poll::new().tried(what)?;
    poll.add(&process, 0, Interest::IN).tried(what)?;
    let mut ooms = group.oom_count();
    let mut ready = Vec::new();
    // Ends with the container.
    while ready.is_empty() {
        poll.wait(&mut ready, Some(every)).tried(what)?;
        let now = group.oom_count();
        if now > ooms {
            say(&format!("{}\n", json!({"type": "oom", "id": id})));
            ooms = now;
        }
        if ready.is_empty() {
            say(&format!("{}\n", stats(&record, &group)));
        }
    }
    Ok(0)
}

/// `5s`, `500ms`, `1m`.
fn interval(text: &str) -> Step<Duration> {
    let bad = || StartError::setup("duration interval must be greater than 0");
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().map_err(|_| bad())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.filter(|n| *n > 0).map(Duration::from_millis).ok_or_else(bad)
}

fn stats(record: &Record, group: &Cgroup) -> Value {
    let stats = group.stats();
    let entries = |list: &[BlkioEntry]| -> Vec<Value> {
        list.iter()
            .map(|e| json!({"major": e.major, "minor": e.minor, "op": e.op, "value": e.value}))
            .collect()
    };
    let (cpu, memory) = (&stats.cpu, &stats.memory);
    json!({
        "type": "stats",
        "id": record.id,
        "data": {
            "cpu": {
                "usage": {
                    "total": cpu.total, "percpu": cpu.per_cpu, "kernel": cpu.system, "user": cpu.user,
                },
                "throttling": {
                    "periods": cpu.periods, "throttledPeriods": cpu.throttled_periods,
                    "throttledTime": cpu.throttled,
                },
            },
            "memory": {
                "usage": {
                    "limit": memory.limit, "usage": memory.usage, "max": memory.max_usage,
                    "failcnt": memory.failures,
                },
                "raw": memory.stat,
            },
            "pids": {"current": stats.pids.current, "limit": stats.pids.limit},
            "blkio": {
                "ioServiceBytesRecursive": entries(&stats.blkio_bytes),
                "ioServicedRecursive": entries(&stats.blkio_operations),
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_gos() {
        assert_eq!(interval("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(interval("20ms").unwrap(), Duration::from_millis(20));
        for bad in ["", "0s", "s", "5", "99999999999999999999h", "18446744073709551615h"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
