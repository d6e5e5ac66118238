//! Containers that front ends ask for: over states of the build, with processes that are spoken with.
//!
//! Flow: `NewContainer` notes what there is to be; the first `ExecProcess` makes the container and is its first
//! process, later ones run beside it; `ReleaseContainer`, the end of the first process or of the build end all of them.
//! Invariants: names are keys and nothing else; all is counted.
//! Source: BuildKit `frontend/gateway/gateway.go` (ExecProcess), `frontend/gateway/container/container.go`.

use crate::{
    desk::Desk,
    failure::Failure,
    job::Job,
    proto::{gateway, google, pb},
    solve::{Out, Talking, evaluate, talk},
};
use base::{Error, Result};
use bytes::Bytes;
use engine::{
    build::{Attached, Beside},
    containers::Input,
};
use gateway::exec_message::Input as Word;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::mpsc, task::JoinSet};
use tonic::{Status, Streaming};

/// Containers of one front end.
const CONTAINERS: usize = 64;
/// Processes of one stream.
const PROCESSES: usize = 256;
/// Bytes of a name.
const NAME: usize = 256;
/// The code of a process whose end is not known.
const UNKNOWN: u32 = 255;

/// Those of one front end, by name.
#[derive(Debug, Default)]
pub(crate) struct Containers(Mutex<HashMap<String, Arc<Container>>>);

#[derive(Debug)]
struct Container {
    exec: pb::ExecOp,
    platform: Option<pb::Platform>,
    ins: Vec<Out>,
    /// Its first process, once there is one.
    main: tokio::sync::Mutex<Option<Arc<Talking>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Containers {
    /// Drops all of them.
    pub(crate) fn clear(&self) {
        lock(&self.0).clear();
    }

    fn find(&self, id: &str) -> Result<Arc<Container>> {
        let found = lock(&self.0).get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("container details for {id:?} not found")))
    }

    /// Drops one.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn release(&self, id: &str) -> Result<()> {
        match lock(&self.0).remove(id) {
            Some(_) => Ok(()),
            None => Err(Error::not_found(format!("container details for {id:?} not found"))),
        }
    }

    /// Notes a container that is to be.
    ///
    /// # Errors
    /// `Conflict` for a name that is taken, `Exhausted` for one too many; of the states that it stands on.
    pub(crate) async fn add(
        &self,
        job: &Arc<Job>,
        desk: &Desk,
        request: gateway::NewContainerRequest,
    ) -> Result<(), Arc<Failure>> {
        let refused = |error: Error| Arc::new(Failure::from(error));
        let id = request.container_id.clone();
        if id.is_empty() || id.len() > NAME {
            return Err(refused(Error::invalid(
                "the container has no name of a reasonable length",
            )));
        }
        let (mut mounts, mut ins) = (Vec::new(), Vec::new());
        for mut mount in request.mounts {
            let reference = desk.reference(&mount.result_id).map_err(refused)?;
            mount.input = match evaluate(job, &reference).await? {
                Some(out) => {
                    ins.push(out);
                    i64::try_from(ins.len() - 1).unwrap_or(-1)
                }
                None => -1,
            };
            mount.output = -1;
            mounts.push(mount);
        }
        let meta = pb::Meta {
            extra_hosts: request.extra_hosts,
            hostname: request.hostname,
            ..pb::Meta::default()
        };
        let exec = pb::ExecOp {
            meta: Some(meta),
            mounts,
            network: request.network,
            ..pb::ExecOp::default()
        };
        let (platform, main) = (request.platform, tokio::sync::Mutex::default());
        let mut all = lock(&self.0);
        if all.len() >= CONTAINERS {
            return Err(refused(Error::exhausted(format!(
                "the front end has asked for {CONTAINERS} containers: release some"
            ))));
        }
        if all.contains_key(&id) {
            return Err(refused(Error::conflict(format!("container {id:?} already exists"))));
        }
        all.insert(id, Arc::new(Container { exec, platform, ins, main }));
        Ok(())
    }
}

type Answers = mpsc::Sender<Result<gateway::ExecMessage, Status>>;

/// Serves the processes of one stream; what they say comes from the channel.
pub(crate) fn serve(
    job: &Arc<Job>,
    desk: &Arc<Desk>,
    mut words: Streaming<gateway::ExecMessage>,
) -> mpsc::Receiver<Result<gateway::ExecMessage, Status>> {
    let (answers, receiver) = mpsc::channel(64);
    let (own, desk) = (Arc::clone(job), Arc::clone(desk));
    job.spawn(async move {
        // What runs ends with the stream, because this is dropped.
        let mut running = JoinSet::new();
        let mut processes: HashMap<String, mpsc::Sender<Word>> = HashMap::new();
        while let Ok(Some(gateway::ExecMessage { process_id, input })) = words.message().await {
            match input {
                Some(Word::Init(init)) => {
                    let fits = !process_id.is_empty() && process_id.len() <= NAME;
                    if !fits || processes.contains_key(&process_id) || processes.len() >= PROCESSES
                    {
                        let why = "the process has no name of its own, or is one too many";
                        let answers = Speaker { id: process_id, answers: answers.clone() };
                        answers.end(Err(Error::invalid(why))).await;
                        continue;
                    }
                    let (sender, words) = mpsc::channel(64);
                    processes.insert(process_id.clone(), sender);
                    let speaker = Speaker { id: process_id, answers: answers.clone() };
                    let (job, desk) = (Arc::clone(&own), Arc::clone(&desk));
                    running.spawn(async move {
                        let code = process(&job, &desk, init, words, &speaker).await;
                        speaker.end(code).await;
                    });
                }
                Some(word) => {
                    // A process that has ended hears nothing more.
                    if let Some(process) = processes.get(&process_id) {
                        let _ended = process.send(word).await;
                    }
                }
                None => {}
            }
        }
    });
    receiver
}

/// Speaks for one process.
struct Speaker {
    id: String,
    answers: Answers,
}

impl Speaker {
    async fn say(&self, word: Word) {
        let message = gateway::ExecMessage { process_id: self.id.clone(), input: Some(word) };
        // Who does not listen is not told.
        let _gone = self.answers.send(Ok(message)).await;
    }

    async fn output(&self, fd: u32, data: Bytes) {
        self.say(Word::File(gateway::FdMessage { fd, eof: false, data: data.to_vec() })).await;
    }

    async fn end(&self, code: Result<i64>) {
        let status = |message: String| google::rpc::Status {
            code: tonic::Code::Unknown as i32,
            message,
            details: Vec::new(),
        };
        let exit = match code {
            Ok(0) => gateway::ExitMessage { code: 0, error: None },
            Ok(code) => gateway::ExitMessage {
                code: u32::try_from(code).unwrap_or(UNKNOWN),
                error: Some(status(format!("exit code: {code}"))),
            },
            Err(err) => gateway::ExitMessage { code: UNKNOWN, error: Some(status(err.chain())) },
        };
        self.say(Word::Exit(exit)).await;
        self.say(Word::Done(gateway::DoneMessage {})).await;
    }
}

/// A process that runs.
struct Process {
    main: Arc<Talking>,
    /// Its id when it runs beside the first.
    beside: Option<String>,
    first: bool,
}

/// Runs a process to its end; gives its exit code.
async fn process(
    job: &Arc<Job>,
    desk: &Desk,
    init: gateway::InitMessage,
    words: mpsc::Receiver<Word>,
    speaker: &Speaker,
) -> Result<i64> {
    let container = desk.containers.find(&init.container_id)?;
    let fds = init.fds.clone();
    let (process, mut attached) = start(job, &container, init).await?;
    speaker.say(Word::Started(gateway::StartedMessage {})).await;
    let input = attached.input();
    let hear = async {
        while let Some((error, bytes)) = attached.next().await {
            speaker.output(if error { 2 } else { 1 }, bytes).await;
        }
    };
    tokio::select! {
        () = hear => {}
        () = obey(&process, words, input) => {}
    }
    for fd in fds.into_iter().filter(|fd| matches!(fd, 1 | 2)) {
        speaker.say(Word::File(gateway::FdMessage { fd, eof: true, data: Vec::new() })).await;
    }
    let code = match &process.beside {
        Some(id) => process.main.talk.beside_ended(id),
        None => process.main.talk.ended().await,
    };
    if process.first {
        // The container ends with its first process.
        container.main.lock().await.take();
    }
    code
}

/// Does what the front end says to a process, until it does not speak any more; then what runs, runs on.
async fn obey(process: &Process, mut words: mpsc::Receiver<Word>, mut input: Option<Input>) {
    let size = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    while let Some(word) = words.recv().await {
        let done = match word {
            Word::File(file) => {
                let mut done = Ok(());
                if let Some(input) = &mut input
                    && !file.data.is_empty()
                {
                    done = input.send(&file.data).await;
                }
                if file.eof
                    && let Some(input) = input.take()
                {
                    input.close().await;
                }
                done
            }
            Word::Resize(to) => match &process.beside {
                Some(id) => process.main.talk.beside_resize(id, size(to.rows), size(to.cols)).await,
                None => process.main.talk.resize(size(to.rows), size(to.cols)).await,
            },
            Word::Signal(signal) if process.beside.is_none() => {
                process.main.talk.signal(&signal.name).await
            }
            _ => Ok(()),
        };
        if let Err(err) = done {
            tracing::debug!(err = err.chain(), "a word to a process of a front end is lost");
        }
    }
    std::future::pending::<()>().await;
}

async fn start(
    job: &Arc<Job>,
    container: &Container,
    init: gateway::InitMessage,
) -> Result<(Process, Attached)> {
    let mut own = init.meta.unwrap_or_default();
    if own.args.is_empty() {
        return Err(Error::invalid("the process has no words"));
    }
    let mut main = container.main.lock().await;
    if let Some(main) = main.as_ref() {
        let what =
            Beside { args: own.args, env: own.env, cwd: own.cwd, user: own.user, tty: init.tty };
        let (id, attached) = main.talk.beside(what).await?;
        let process = Process { main: Arc::clone(main), beside: Some(id), first: false };
        return Ok((process, attached));
    }
    let mut exec = container.exec.clone();
    let given = exec.meta.take().unwrap_or_default();
    own.extra_hosts = given.extra_hosts;
    if !given.hostname.is_empty() {
        own.hostname = given.hostname;
    }
    exec.meta = Some(own);
    exec.security = init.security;
    exec.secretenv = init.secretenv;
    let platform = container.platform.clone();
    let (talking, attached) = talk(job, &exec, platform, container.ins.clone(), init.tty).await?;
    let talking = Arc::new(talking);
    *main = Some(Arc::clone(&talking));
    Ok((Process { main: talking, beside: None, first: true }, attached))
}
