//! Clients that ask for random things at once and keep what they were told.

use super::{Ask, Record, Status, Told};
use crate::{Dice, http};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a `wait` is waited for.
const PATIENCE: Duration = Duration::from_millis(300);

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The records of each group.
    pub groups: Vec<Vec<Record>>,
    /// Answers that are wrong whatever the order: 5xx, broken connections, hangs.
    pub faults: Vec<String>,
}

/// Runs clients against one daemon.
#[derive(Debug)]
pub struct Recorder {
    api: http::Client,
    prefix: String,
    clock: AtomicU64,
    ids: Mutex<HashMap<String, u32>>,
}

impl Recorder {
    /// Names of containers begin with `prefix`; nobody else may use them.
    pub fn new(api: http::Client, prefix: &str) -> Self {
        let (clock, ids) = (AtomicU64::new(1), Mutex::default());
        Self { api, prefix: prefix.to_owned(), clock, ids }
    }

    /// Lets `clients` do `each` operations on the names of `groups` groups.
    pub fn run(&self, (clients, each, groups): (usize, usize, usize), seed: u64) -> Outcome {
        let records = Mutex::new(vec![Vec::new(); groups]);
        let faults = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for client in 0..clients {
                let (records, faults) = (&records, &faults);
                scope.spawn(move || {
                    // Each keeps to one group, so that few meet there and the search stays small.
                    let group = client % groups;
                    let mut dice = Dice::of_part(seed, client);
                    for _ in 0..each {
                        let ask = random(&mut dice);
                        let began = self.clock.fetch_add(1, Ordering::SeqCst);
                        let told = catch_unwind(AssertUnwindSafe(|| self.ask(group, ask)));
                        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
                        match told {
                            Ok(Ok(Some(told))) => {
                                let record = Record { client, ask, told, began, ended };
                                lock(records)[group].push(record);
                            }
                            Ok(Ok(None)) => {}
                            Ok(Err(text)) => lock(faults).push(format!("{ask:?}: {text}")),
                            Err(_) => lock(faults).push(format!("{ask:?}: no answer")),
                        }
                    }
                });
            }
        });
        let take = |m: Mutex<_>| m.into_inner().unwrap_or_else(PoisonError::into_inner);
        Outcome {
            groups: take(records),
            faults: faults.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Removes all that is left.
    ///
    /// # Errors
    /// The answer to a removal that failed.
    pub fn clean(&self, groups: usize) -> Result<(), String> {
        for group in 0..groups {
            for n in 0..super::model::NAMES as u8 {
                let path = format!("/containers/{}?force=1&v=1", self.name(group, n));
                let answer = self.api.delete(&path);
                if !matches!(answer.status(), 204 | 404) {
                    return Err(format!("{path}: {} {}", answer.status(), answer.text()));
                }
            }
        }
        Ok(())
    }

    fn name(&self, group: usize, n: u8) -> String {
        format!("{}-{group}-{n}", self.prefix)
    }

    fn number(&self, id: &Value) -> Option<u32> {
        let mut ids = lock(&self.ids);
        let next = ids.len() as u32;
        Some(*ids.entry(id.as_str()?.to_owned()).or_insert(next))
    }

    fn ask(&self, group: usize, ask: Ask) -> Result<Option<Told>, String> {
        let name = |n| self.name(group, n);
        let post = |path: String| self.api.post(&path, &Value::Null);
        let answer = match ask {
            Ask::Create(n) => {
                let body = json!({
                    "Image": "busybox", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"},
                });
                self.api.post(&format!("/containers/create?name={}", name(n)), &body)
            }
            Ask::Start(n) => post(format!("/containers/{}/start", name(n))),
            Ask::Stop(n) => post(format!("/containers/{}/stop?t=0", name(n))),
            Ask::Kill(n) => post(format!("/containers/{}/kill", name(n))),
            Ask::Restart(n) => post(format!("/containers/{}/restart?t=0", name(n))),
            Ask::Pause(n) => post(format!("/containers/{}/pause", name(n))),
            Ask::Unpause(n) => post(format!("/containers/{}/unpause", name(n))),
            Ask::Rename(n, to) => post(format!("/containers/{}/rename?name={}", name(n), name(to))),
            Ask::Remove(n) => self.api.delete(&format!("/containers/{}", name(n))),
            Ask::RemoveForced(n) => self.api.delete(&format!("/containers/{}?force=1", name(n))),
            Ask::Inspect(n) => self.api.get(&format!("/containers/{}/json", name(n))),
            Ask::Exec(n) => {
                let body = json!({"Cmd": ["true"]});
                self.api.post(&format!("/containers/{}/exec", name(n)), &body)
            }
            Ask::Wait(n) => return self.wait(&name(n)),
        };
        let text = answer.message();
        let wrong = || Err(format!("{} {text}", answer.status()));
        Ok(Some(match (answer.status(), ask) {
            (200, Ask::Inspect(_)) => {
                let shown = answer.json();
                let status = match shown["State"]["Status"].as_str() {
                    Some("created") => Status::Created,
                    Some("running") => Status::Running,
                    Some("paused") => Status::Paused,
                    Some("exited") => Status::Exited,
                    Some("removing") => Status::Removing,
                    other => return Err(format!("status {other:?}")),
                };
                match self.number(&shown["Id"]) {
                    Some(id) => Told::Seen(id, status),
                    None => return Err("no id".into()),
                }
            }
            (201, Ask::Create(_)) => Told::Done(self.number(&answer.json()["Id"])),
            (201, Ask::Exec(_)) => {
                let id = answer.json()["Id"].as_str().unwrap_or_default().to_owned();
                return self.run_exec(&id).map(|()| Some(Told::Done(None)));
            }
            (204, _) => Told::Done(None),
            (304, Ask::Start(_) | Ask::Stop(_)) => Told::Already,
            // Another has renamed it to this meanwhile.
            (400, Ask::Rename(..)) if text.contains("same name") => Told::Conflict,
            (404, _) => Told::Missing,
            // As in Docker.
            (500, Ask::Unpause(_)) if text.contains("is not paused") => Told::Conflict,
            (409, _) if text.contains("in progress") || text.contains("marked for removal") => {
                Told::BeingRemoved
            }
            (409, _) => Told::Conflict,
            _ => return wrong(),
        }))
    }

    /// Starts an exec; what becomes of it depends on what others do to the container.
    fn run_exec(&self, id: &str) -> Result<(), String> {
        let answer = self.api.post(&format!("/exec/{id}/start"), &json!({"Detach": true}));
        match answer.status() {
            200 | 400 | 404 | 409 => Ok(()),
            status => Err(format!("exec start: {status} {}", answer.text())),
        }
    }

    fn wait(&self, name: &str) -> Result<Option<Told>, String> {
        use std::io::Read as _;
        let mut socket = self.api.connect().map_err(|e| e.to_string())?;
        let head = format!(
            "POST /containers/{name}/wait HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        // The head comes at once, the end of the body with the end of the container.
        let mut text = Vec::new();
        if socket.read_to_end(&mut text).is_err() {
            return Ok(None);
        }
        match String::from_utf8_lossy(&text).split(' ').nth(1) {
            Some("200") => Ok(Some(Told::Done(None))),
            Some("404") => Ok(Some(Told::Missing)),
            _ => Err(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random(dice: &mut Dice) -> Ask {
    let n = dice.below(super::model::NAMES as u64) as u8;
    match dice.below(30) {
        0..=4 => Ask::Create(n),
        5..=9 => Ask::Start(n),
        10..=11 => Ask::Stop(n),
        12..=13 => Ask::Kill(n),
        14..=15 => Ask::Restart(n),
        16..=18 => Ask::Pause(n),
        19..=20 => Ask::Unpause(n),
        21..=22 => Ask::Rename(n, 1 - n),
        23 => Ask::Remove(n),
        24..=25 => Ask::RemoveForced(n),
        26..=27 => Ask::Inspect(n),
        28 => Ask::Exec(n),
        _ => Ask::Wait(n),
    }
}
