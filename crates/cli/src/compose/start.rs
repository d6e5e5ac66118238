//! Starts what was made, each service when what it waits for has come.
//!
//! Nothing is asked again and again: the engine tells of healths and ends by its events, and a wait is one request
//! that ends with the container.

use super::{
    engine::{Engine, by_labels},
    graph::{self, Before},
};
use crate::{
    client::Query,
    error::{Fail, Result},
    http::{Response, Send},
};
use api::model::{
    ContainerInspect, ContainerSummary, EventMessage, ExecConfig, ExecStart, IdReply,
};
use base::Timestamp;
use compose::{Condition, Hook, Injected, Moment, Need, Project, labels};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::BTreeMap,
    io::Read,
    sync::Mutex,
    time::{Duration, Instant},
};

/// Containers by service.
pub(crate) type Containers = BTreeMap<String, Vec<ContainerSummary>>;

impl Engine {
    /// Starts all services in their order.
    pub(crate) fn start(&self, project: &Project, containers: &Containers) -> Result<()> {
        let before: Before = project
            .service_names()
            .into_iter()
            .map(|s| {
                let needs = project.needs(&s).into_iter().map(|n| n.service).collect();
                (s, needs)
            })
            .collect();
        graph::in_order(&before, self.most, |service| {
            self.wait_for(project, service, &project.needs(service), containers, None)?;
            let mine = containers.get(service).map(Vec::as_slice).unwrap_or_default();
            if mine.is_empty() && project.scale(service) > 0 {
                return Err(Fail::new(format!("service {service:?} has no container to start")));
            }
            let idle: Vec<&ContainerSummary> =
                mine.iter().filter(|c| c.state != "running").collect();
            if idle.is_empty() {
                return Ok(());
            }
            // References to other containers do not matter to what is written into this one.
            let resolved = project.resolved(service, &|_| Some(String::new()))?;
            let files = project.injected(&resolved)?;
            self.each(&idle, |c| self.start_one(project, service, c, &files))
        })
    }

    fn start_one(
        &self,
        project: &Project,
        service: &str,
        container: &ContainerSummary,
        files: &[Injected],
    ) -> Result<()> {
        let subject = format!("Container {}", compose::name_of(container));
        self.progress.say(&subject, "Starting");
        self.inject(&container.id, files)?;
        self.client.post(&format!("/containers/{}/start", container.id), &Query::new())?;
        for hook in project.hooks(service, Moment::PostStart) {
            self.hook(service, &container.id, &hook)?;
        }
        self.progress.say(&subject, "Started");
        Ok(())
    }

    /// Writes files into a container.
    pub(crate) fn inject(&self, id: &str, files: &[Injected]) -> Result<()> {
        for file in files {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(file.content.len() as u64);
            header.set_mode(file.mode);
            header.set_mtime(u64::try_from(Timestamp::now().unix()).unwrap_or_default());
            let (uid, gid) = file.owner.unwrap_or((0, 0));
            header.set_uid(uid);
            header.set_gid(gid);
            let path = file.target.trim_start_matches('/');
            archive.append_data(&mut header, path, file.content.as_bytes())?;
            let bytes = archive.into_inner()?;
            let query = Query::new()
                .text("path", "/")
                .text("noOverwriteDirNonDir", "true")
                .flag("copyUIDGID", file.owner.is_some());
            let send = Send::Stream(
                Box::new(move |out| std::io::Write::write_all(out, &bytes)),
                "application/x-tar",
            );
            self.client.send("PUT", &format!("/containers/{id}/archive"), &query, &[], send)?;
        }
        Ok(())
    }

    /// Runs a hook to its end; its failure is the service's.
    pub(crate) fn hook(&self, service: &str, id: &str, hook: &Hook) -> Result<()> {
        let config = ExecConfig {
            user: hook.user.clone(),
            privileged: hook.privileged,
            attach_stdout: true,
            attach_stderr: true,
            env: Some(hook.environment.clone()),
            working_dir: hook.working_dir.clone(),
            cmd: Some(hook.command.clone()),
            ..ExecConfig::default()
        };
        let made: IdReply =
            self.client.post_json(&format!("/containers/{id}/exec"), &Query::new(), &config)?;
        let start =
            serde_json::to_vec(&ExecStart::default()).map_err(|e| Fail::new(e.to_string()))?;
        let (mut socket, _) =
            self.client.hijack(&format!("/exec/{}/start", made.id), &Query::new(), start)?;
        std::io::copy(&mut socket, &mut std::io::sink())?;
        let end = self.client.get_value(&format!("/exec/{}/json", made.id), &Query::new())?;
        match end["ExitCode"].as_i64() {
            None | Some(0) => Ok(()),
            Some(code) => Err(Fail::new(format!("{service} hook exited with status {code}"))),
        }
    }

    /// Waits until what `needs` say has come, for all of them at once.
    pub(crate) fn wait_for(
        &self,
        project: &Project,
        service: &str,
        needs: &[Need],
        containers: &Containers,
        until: Option<Instant>,
    ) -> Result<()> {
        let mut waits = Vec::new();
        for need in needs {
            if need.condition == Condition::Started || project.scale(&need.service) == 0 {
                continue;
            }
            let mine = containers.get(&need.service).map(Vec::as_slice).unwrap_or_default();
            if mine.is_empty() {
                let text = format!("{service} is missing dependency {}", need.service);
                if need.required {
                    return Err(Fail::new(text));
                }
                self.progress.warn(&text);
                continue;
            }
            waits.extend(mine.iter().map(|c| (need, c)));
        }
        for (_, container) in &waits {
            self.progress.say(&format!("Container {}", compose::name_of(container)), "Waiting");
        }
        let said = Mutex::new(());
        self.each(&waits, |(need, container)| {
            let subject = format!("Container {}", compose::name_of(container));
            let ended = match need.condition {
                Condition::Completed => self.completed(need, container, until).map(|()| "Exited"),
                condition => self.healthy(condition, container, until).map(|()| "Healthy"),
            };
            let _one_after_another = said.lock();
            match ended {
                Ok(word) => {
                    self.progress.say(&subject, word);
                    Ok(())
                }
                Err(fail) if !need.required => {
                    self.progress.say(&subject, "Skipped");
                    self.progress.warn(&format!(
                        "optional dependency {:?} failed to start: {}",
                        need.service, fail.message
                    ));
                    Ok(())
                }
                Err(fail) => {
                    self.progress.say(&subject, "Error");
                    Err(fail)
                }
            }
        })
    }

    fn completed(
        &self,
        need: &Need,
        container: &ContainerSummary,
        until: Option<Instant>,
    ) -> Result<()> {
        let query = Query::new().text("condition", "not-running");
        let path = format!("/containers/{}/wait", container.id);
        let mut answer = self.client.send("POST", &path, &query, &[], Send::Nothing)?;
        wait_readable(&answer, until)?;
        let body = answer.body.read_all(1 << 20)?;
        let end: api::model::WaitReply = serde_json::from_slice(&body)
            .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")))?;
        match end.status_code {
            0 => Ok(()),
            code => Err(Fail::new(format!(
                "service {:?} didn't complete successfully: exit {code}",
                need.service
            ))),
        }
    }

    fn healthy(
        &self,
        condition: Condition,
        container: &ContainerSummary,
        until: Option<Instant>,
    ) -> Result<()> {
        // Listening begins before looking, so that nothing is missed in between.
        let mut events = Events::of_container(self, &container.id)?;
        loop {
            let state =
                self.inspect(&container.id)?.map_or(Health::Gone, |c| health(&c, condition));
            let name = compose::name_of(container);
            match state {
                Health::Good => return Ok(()),
                Health::Coming => {}
                Health::Gone => return Err(Fail::new(format!("No such container: {name}"))),
                Health::Bad(why) => {
                    let text = format!("container {name} {why}");
                    return Err(Fail::new(if condition == Condition::Healthy {
                        format!("dependency failed to start: {text}")
                    } else {
                        text
                    }));
                }
            }
            if events.next(until)?.is_none() {
                return Err(Fail::new("the engine's events ended"));
            }
        }
    }
}

enum Health {
    Good,
    Coming,
    Bad(String),
    Gone,
}

fn health(container: &ContainerInspect, condition: Condition) -> Health {
    let state = &container.state;
    if state.status == "exited" {
        return Health::Bad(format!("exited ({})", state.exit_code));
    }
    let checked = container
        .config
        .healthcheck
        .as_ref()
        .and_then(|h| h.test.as_ref())
        .is_some_and(|t| t.first().is_some_and(|w| w != "NONE"));
    if !checked && state.health.is_none() {
        return match condition {
            Condition::RunningOrHealthy if state.running => Health::Good,
            Condition::RunningOrHealthy => Health::Coming,
            _ => Health::Bad("has no healthcheck configured".into()),
        };
    }
    match state.health.as_ref().map(|h| h.status.as_str()) {
        Some("healthy") => Health::Good,
        Some("unhealthy") => Health::Bad("is unhealthy".into()),
        _ => Health::Coming,
    }
}

/// Waits until an answer's body has something, or time is up.
fn wait_readable(answer: &Response, until: Option<Instant>) -> Result<()> {
    if answer.body.is_buffered() {
        return Ok(());
    }
    loop {
        let left = until.map(|u| u.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(timeout());
        }
        let timespec = left.and_then(|l| Timespec::try_from(l).ok());
        let mut fds = [PollFd::new(&answer.body, PollFlags::IN)];
        match poll(&mut fds, timespec.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(e) => return Err(std::io::Error::from(e).into()),
        }
    }
}

/// What a wait that was given up is known by.
pub(crate) const TIME_IS_UP: &str = "timeout waiting for dependencies";

fn timeout() -> Fail {
    Fail::new(TIME_IS_UP)
}

/// Events of the engine, as they come.
pub(crate) struct Events {
    answer: Response,
    held: Vec<u8>,
}

impl Events {
    fn of_container(engine: &Engine, id: &str) -> Result<Self> {
        let mut filters = by_labels(&[]);
        filters.clear();
        filters.insert("container".into(), BTreeMap::from([(id.to_owned(), true)]));
        filters.insert("type".into(), BTreeMap::from([("container".to_owned(), true)]));
        Self::open(engine, Query::new().filters(&filters))
    }

    /// Events of a project's containers from now on.
    pub(crate) fn of_project(engine: &Engine, project: &str) -> Result<Self> {
        let mut filters = by_labels(&[format!("{}={project}", labels::PROJECT)]);
        filters.insert("type".into(), BTreeMap::from([("container".to_owned(), true)]));
        Self::open(engine, Query::new().filters(&filters))
    }

    pub(crate) fn open(engine: &Engine, query: Query) -> Result<Self> {
        Ok(Self { answer: engine.client.get_stream("/events", &query)?, held: Vec::new() })
    }

    /// The next one; `None` at the end of the stream.
    pub(crate) fn next(&mut self, until: Option<Instant>) -> Result<Option<EventMessage>> {
        loop {
            if let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| Fail::new(format!("cannot read the daemon's answer: {e}")));
            }
            const LONGEST: usize = 1 << 20;
            if self.held.len() > LONGEST {
                return Err(Fail::new("an event of the daemon is too long"));
            }
            wait_readable(&self.answer, until)?;
            let mut buffer = [0; 8 * 1024];
            match self.answer.body.read(&mut buffer)? {
                0 => return Ok(None),
                n => self.held.extend_from_slice(&buffer[..n]),
            }
        }
    }
}
