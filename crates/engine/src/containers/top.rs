//! `GET /containers/{id}/top`: the container's processes in the columns of ps(1), read from /proc.
//!
//! No `ps` is started: its arguments are read ([`arguments`]), its columns filled ([`columns`]) here; what is not
//! understood is refused by name. Source: ps(1), proc(5).

mod arguments;
mod columns;
mod process;

use super::Status;
use crate::{Engine, images::blocking};
use arguments::{Only, Wanted};
use base::{Error, Result};
use process::{Host, Process};
use std::{cmp::Ordering, fs};

/// The answer: titles and one row per process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Column titles.
    pub titles: Vec<String>,
    /// Rows.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// Lists the processes of container `name` in the form that `arguments` (of ps) ask for.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running; `Invalid` for arguments that are not understood.
    pub async fn container_top(&self, name: &str, arguments: &str) -> Result<Table> {
        let wanted = arguments::read(arguments)?;
        let container = self.containers.find(name)?;
        let record = container.record();
        match record.state.status {
            Status::Running | Status::Paused => {}
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => return Err(Error::conflict(format!("container {} is not running", record.id))),
        }
        let cgroup = self.cgroup(&container)?;
        blocking(move || {
            let pids = cgroup.pids().map_err(|e| {
                Error::internal(format!("cannot list the processes of container {}", record.id))
                    .caused_by(e)
            })?;
            Ok(table(pids, &wanted))
        })
        .await
    }
}

fn table(mut pids: Vec<i32>, wanted: &Wanted) -> Table {
    pids.sort_unstable();
    let host = Host::read();
    let read = |pid: i32| match wanted.threads {
        true => threads(pid).into_iter().filter_map(|tid| Process::read(pid, tid)).collect(),
        false => Process::read(pid, pid).into_iter().collect::<Vec<_>>(),
    };
    let mut processes: Vec<Process> = pids.into_iter().flat_map(read).collect();
    processes.retain(|p| wanted.only.is_empty() || wanted.only.iter().any(|o| fits(o, p, &host)));
    processes.sort_by(|a, b| order(a, b, wanted, &host));
    let rows = match wanted.forest {
        true => forest(&processes),
        false => processes.iter().map(|p| (p, String::new())).collect(),
    };
    let row = |(process, branch): &(&Process, String)| {
        let cell = |c: &arguments::Chosen| {
            let value = (c.column.value)(process, &host);
            match c.column.name {
                "cmd" | "args" | "comm" => format!("{branch}{value}"),
                _ => value,
            }
        };
        wanted.columns.iter().map(cell).collect()
    };
    Table {
        titles: wanted.columns.iter().map(|c| c.title.clone()).collect(),
        processes: rows.iter().map(row).collect(),
    }
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut all: Vec<i32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

fn fits(only: &Only, process: &Process, host: &Host) -> bool {
    match only {
        Only::Pid(pid) => process.pid == *pid,
        Only::Parent(pid) => process.ppid == *pid,
        Only::User(name) => {
            host.user(process.uids[1]) == *name || process.uids[1].to_string() == *name
        }
        Only::Command(name) => process.comm == *name,
    }
}

fn order(a: &Process, b: &Process, wanted: &Wanted, host: &Host) -> Ordering {
    for (column, down) in &wanted.sort {
        let (left, right) = ((column.value)(a, host), (column.value)(b, host));
        let ordering = match (left.parse::<f64>(), right.parse::<f64>()) {
            (Ok(left), Ok(right)) => left.total_cmp(&right),
            _ => left.cmp(&right),
        };
        let ordering = if *down { ordering.reverse() } else { ordering };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}

/// Children below their parents, each with what is drawn before its command.
fn forest(processes: &[Process]) -> Vec<(&Process, String)> {
    let parent = |p: &Process| processes.iter().any(|o| o.pid == p.ppid && o.pid != p.pid);
    let mut rows = Vec::with_capacity(processes.len());
    let mut waiting: Vec<(&Process, usize)> =
        processes.iter().filter(|p| !parent(p)).rev().map(|p| (p, 0)).collect();
    while let Some((process, depth)) = waiting.pop() {
        let branch = match depth {
            0 => String::new(),
            depth => format!("{} \\_ ", "    ".repeat(depth - 1)),
        };
        rows.push((process, branch));
        // Threads after the first have no children of their own here.
        if process.tid == process.pid {
            let children = processes.iter().filter(|p| p.ppid == process.pid && p.pid != p.ppid);
            waiting.extend(children.rev().map(|p| (p, depth + 1)));
        }
    }
    rows
}
