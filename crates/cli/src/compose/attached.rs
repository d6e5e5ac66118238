//! `up` with the terminal: output of all containers until they have ended or the user has enough.
//!
//! Threads bring lines, events and signals; they end with the program. Two things end it: no container runs any more,
//! or a signal (the first one stops the containers, the second one kills them).

use super::{
    create::Making,
    engine::Engine,
    output::{Printer, Style, short_name},
    start::{Containers, Events},
};
use crate::{
    client::Query,
    error::{Fail, Result},
};
use api::model::{ContainerSummary, EventMessage};
use compose::{Project, labels};
use rustix::event::{PollFd, PollFlags, poll};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::{Arc, mpsc},
};
use sys::epoll::SignalFd;

/// What ends it before all containers have ended.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub on_exit: bool,
    pub on_failure: bool,
    pub code_from: Option<String>,
    pub timeout: Option<i64>,
}

enum News {
    Event(EventMessage),
    Signal,
    /// Everything was started, or not.
    Started(Result<()>),
    /// The containers were stopped.
    Stopped(Result<()>),
    /// The engine went away.
    Lost(Fail),
}

const INT: i32 = 2;
const TERM: i32 = 15;

pub(crate) fn run(
    engine: Engine,
    project: Project,
    making: &Making,
    attached: &BTreeSet<String>,
    style: Style,
    ends: &Ends,
) -> Result<()> {
    // Before any thread is there: they all inherit that these signals are held back.
    let signals = SignalFd::new(&[INT, TERM])?;
    let containers = engine.create(&project, making)?;
    let shown: Vec<&ContainerSummary> =
        attached.iter().filter_map(|s| containers.get(s)).flatten().collect();
    let names: Vec<String> = shown.iter().map(|c| short_name(c, &project.name)).collect();
    let mut err = std::io::stderr();
    if !shown.is_empty() {
        writeln!(err, "Attaching to {}", names.join(", "))?;
    }
    let (engine, project) = (Arc::new(engine), Arc::new(project));
    let printer = Arc::new(Printer::new(style, names));
    let (tell, news) = mpsc::channel();
    let mut events = Events::of_project(&engine, &project.name)?;
    spawn(&tell, "events", move |tell| {
        loop {
            let news = match events.next(None) {
                Ok(Some(event)) => News::Event(event),
                Ok(None) => News::Lost(Fail::new("the engine's events ended")),
                Err(fail) => News::Lost(fail),
            };
            let last = matches!(news, News::Lost(_));
            if tell.send(news).is_err() || last {
                return;
            }
        }
    })?;
    spawn(&tell, "signals", move |tell| {
        loop {
            let mut fds = [PollFd::new(&signals, PollFlags::IN)];
            if poll(&mut fds, None).is_err() {
                continue;
            }
            while let Ok(Some(_)) = signals.next() {
                if tell.send(News::Signal).is_err() {
                    return;
                }
            }
        }
    })?;
    let mut session = Session {
        engine,
        project,
        printer,
        tell,
        running: BTreeMap::new(),
        streams: Vec::new(),
        attached: attached.clone(),
        ends: ends.clone(),
        code: None,
        stopping: 0,
        pending: 0,
        started: false,
    };
    session.attach(&shown)?;
    session.begin(containers)?;
    session.follow(&news)
}

fn spawn(
    tell: &mpsc::Sender<News>,
    name: &str,
    work: impl FnOnce(mpsc::Sender<News>) + Send + 'static,
) -> Result<std::thread::JoinHandle<()>> {
    let tell = tell.clone();
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(move || work(tell))?)
}

struct Session {
    engine: Arc<Engine>,
    project: Arc<Project>,
    printer: Arc<Printer>,
    tell: mpsc::Sender<News>,
    /// Containers that run or will, by id, with their short names.
    running: BTreeMap<String, String>,
    /// Threads that print output.
    streams: Vec<std::thread::JoinHandle<()>>,
    attached: BTreeSet<String>,
    ends: Ends,
    code: Option<i32>,
    stopping: u32,
    /// Stops under way.
    pending: u32,
    started: bool,
}

impl Session {
    /// Streams begin before the containers do, so that nothing is missed.
    fn attach(&mut self, shown: &[&ContainerSummary]) -> Result<()> {
        for container in shown {
            let id = container.id.clone();
            let Some(inspected) = self.engine.inspect(&id)? else { continue };
            let name = short_name(container, &self.project.name);
            let query = Query::new().flag("stream", true).flag("stdout", true).flag("stderr", true);
            let path = format!("/containers/{id}/attach");
            let (socket, early) = self.engine.client.hijack(&path, &query, Vec::new())?;
            let printer = self.printer.clone();
            let tty = inspected.config.tty;
            let stream = spawn(&self.tell, &name.clone(), move |_| {
                let body = std::io::Read::chain(std::io::Cursor::new(early), socket);
                // Nobody is left to be told of an output that cannot be written.
                let _ = printer.stream(&name, tty, body);
            })?;
            self.streams.push(stream);
        }
        Ok(())
    }

    fn begin(&mut self, containers: Containers) -> Result<()> {
        // All of them will run, and each will end with an event.
        for container in containers.values().flatten() {
            let name = short_name(container, &self.project.name);
            self.running.insert(container.id.clone(), name);
        }
        let (engine, project) = (self.engine.clone(), self.project.clone());
        spawn(&self.tell, "start", move |tell| {
            let done = engine.start(&project, &containers);
            let _ = tell.send(News::Started(done));
        })
        .map(drop)
    }

    fn follow(&mut self, news: &mpsc::Receiver<News>) -> Result<()> {
        let mut failed: Option<Fail> = None;
        while let Ok(news) = news.recv() {
            match news {
                News::Event(event) => self.event(&event)?,
                News::Signal if self.stopping == 0 => {
                    writeln!(
                        std::io::stderr(),
                        "Gracefully Stopping... press Ctrl+C again to force"
                    )?;
                    self.code.get_or_insert(130);
                    self.stop()?;
                }
                News::Signal => self.kill(),
                // What was started after the others had been stopped.
                News::Started(_) if self.stopping > 0 => {
                    self.started = true;
                    self.stop()?;
                }
                News::Started(done) => {
                    done?;
                    self.started = true;
                }
                News::Stopped(done) => {
                    self.pending -= 1;
                    if let Err(fail) = done {
                        failed.get_or_insert(fail);
                    }
                    // Unless it is done again when everything was started.
                    if self.started && self.pending == 0 {
                        break;
                    }
                }
                News::Lost(fail) => return Err(fail),
            }
            if self.started && self.running.is_empty() && self.stopping == 0 {
                break;
            }
        }
        if let Some(fail) = failed {
            return Err(fail);
        }
        // What they said last is still on its way.
        for stream in self.streams.drain(..) {
            let _ = stream.join();
        }
        match self.code {
            None | Some(0) => Ok(()),
            Some(code) => Err(Fail::code(code)),
        }
    }

    fn event(&mut self, event: &EventMessage) -> Result<()> {
        let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
        let service = attribute(labels::SERVICE).unwrap_or_default().to_owned();
        if attribute(labels::ONE_OFF) == Some("True")
            || !self.project.service_names().contains(&service)
        {
            return Ok(());
        }
        let id = event.actor.id.clone();
        let full = attribute("name").unwrap_or(&id);
        let rest = full.strip_prefix(self.project.name.as_str());
        let name = rest.and_then(|r| r.strip_prefix(['-', '_'])).unwrap_or(full).to_owned();
        match event.action.as_str() {
            "start" => {
                self.running.insert(id, name);
            }
            "die" => {
                let code: i32 =
                    attribute("exitCode").and_then(|c| c.parse().ok()).unwrap_or_default();
                let restarts = self
                    .engine
                    .inspect(&id)?
                    .is_some_and(|c| c.state.restarting || c.state.running);
                if self.attached.contains(&service) {
                    let word = if restarts { " (restarting)" } else { "" };
                    self.printer.status(&name, &format!("exited with code {code}{word}"))?;
                }
                if restarts {
                    return Ok(());
                }
                self.running.remove(&id);
                self.ended(&service, code)?;
            }
            "destroy" => drop(self.running.remove(&id)),
            _ => {}
        }
        Ok(())
    }

    fn ended(&mut self, service: &str, code: i32) -> Result<()> {
        let asked = self.ends.code_from.as_deref();
        if asked == Some(service) && (self.stopping == 0 || self.code.is_none()) {
            self.code = Some(code);
        }
        if self.stopping > 0 {
            return Ok(());
        }
        let ends = self.ends.on_exit || self.ends.on_failure && code != 0;
        if !ends {
            return Ok(());
        }
        if asked.is_none() {
            self.code = Some(code);
        }
        writeln!(std::io::stderr(), "Aborting on container exit...")?;
        self.stop()
    }

    /// Stops everything in the opposite order, by a thread of its own.
    fn stop(&mut self) -> Result<()> {
        self.stopping += 1;
        self.pending += 1;
        let (engine, project) = (self.engine.clone(), self.project.clone());
        let timeout = self.ends.timeout;
        spawn(&self.tell, "stop", move |tell| {
            let done = engine.stop_project(&project, timeout);
            let _ = tell.send(News::Stopped(done));
        })
        .map(drop)
    }

    fn kill(&self) {
        for id in self.running.keys() {
            // It may have ended meanwhile.
            let _ = self.engine.client.post(&format!("/containers/{id}/kill"), &Query::new());
        }
    }
}
