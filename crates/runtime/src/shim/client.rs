//! The daemon's end: starts shims, finds them again, asks them.
//!
//! Every request uses a connection of its own, so nothing is multiplexed and dropping a future simply
//! hangs up. Only the launching connection lives longer: it ties an unreleased container to its daemon.
//! Not here: who decides what to run, and what becomes of an exit (engine).

use super::{
    Attach, AttachOptions, Exit, OciRuntime, Spawned, StartError, State, Stdin, Target,
    protocol::{EXIT_RECORD, Envelope, LaunchRequest, MAX_FRAME, Reply, Request, SOCKET, VERSION},
};
use crate::{ExecPlan, Plan, spec::ConsoleSize};
use base::{Error, Result, Timestamp};
use std::{
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
};

/// The shim's program, held open so that the one that was installed at the daemon's start is the one
/// that runs, and as a read-only mount so that no container can write to it through `/proc/PID/exe`.
#[derive(Clone, Debug)]
pub struct Binary(Arc<OwnedFd>);

impl Binary {
    /// Opens the program at `path`.
    ///
    /// # Errors
    /// `NotFound` and others of the file.
    pub fn open(path: &Path) -> Result<Self> {
        let sealed = sys::mount::readonly_clone(path);
        // Without the right to mount, the shim protects itself by a copy.
        let fd = sealed.or_else(|_| std::fs::File::open(path).map(OwnedFd::from)).map_err(|e| {
            let kind = match e.kind() {
                std::io::ErrorKind::NotFound => base::Kind::NotFound,
                _ => base::Kind::Internal,
            };
            Error::new(kind, format!("cannot open the shim's program {}", path.display()))
                .caused_by(e)
        })?;
        Ok(Self(Arc::new(fd)))
    }

    /// Whether it asks for no interpreter (`PT_INTERP`): one that does cannot be run inside a container's
    /// root, where `--init` needs it.
    ///
    /// # Errors
    /// `Invalid` for what is no 64-bit little-endian ELF program.
    pub fn is_static(&self) -> Result<bool> {
        /// Program headers of one file: more than linkers write.
        const MOST: usize = 256;
        let bad = || Error::invalid("the shim's program is no 64-bit ELF file");
        let file = std::fs::File::open(self.path())
            .map_err(|e| Error::io("cannot read the shim's program", e))?;
        let bytes = |at: u64, buffer: &mut [u8]| {
            std::os::unix::fs::FileExt::read_exact_at(&file, buffer, at).map_err(|_| bad())
        };
        let mut header = [0; 64];
        bytes(0, &mut header)?;
        if header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
            return Err(bad());
        }
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let offset = u64::from_le_bytes(header[32..40].try_into().map_err(|_| bad())?);
        let (size, count) = (u64::from(short(54)), usize::from(short(56)));
        for n in 0..count.min(MOST) as u64 {
            let mut kind = [0; 4];
            bytes(n.saturating_mul(size).saturating_add(offset), &mut kind)?;
            if u32::from_le_bytes(kind) == PT_INTERP {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

/// The program header that names an interpreter (elf(5)).
const PT_INTERP: u32 = 3;

/// What a shim is started with.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The program.
    pub binary: &'a Binary,
    /// The container's folder, existing and empty (`<exec-root>/containers/<id>`).
    pub dir: &'a Path,
    /// What to run.
    pub plan: Plan,
    /// `logging::Config` as JSON; `None` keeps no log.
    pub log: Option<serde_json::Value>,
    /// What becomes of the first process's input.
    pub stdin: Stdin,
    /// The runtime that carries the plan out, when it is not the shim itself.
    pub runtime: Option<OciRuntime>,
}

/// A started exec.
#[derive(Debug)]
pub struct Running {
    /// Its pid on the host.
    pub pid: u32,
    /// Its stream, if asked for.
    pub attach: Option<Attach>,
}

/// A shim, by its folder.
#[derive(Debug)]
pub struct Shim {
    dir: PathBuf,
    launch: Mutex<Option<UnixStream>>,
    /// Its process.
    process: Option<OwnedFd>,
}

impl Shim {
    /// Starts a shim, which makes the container up to the point where only [`Shim::release`] is missing:
    /// the first process exists with its namespaces, and prepares itself while the caller goes on to wire
    /// its network.
    ///
    /// # Cancel safety
    /// Dropping the future, like dropping the `Shim` before `release`, undoes everything.
    ///
    /// # Errors
    /// Whatever failed, in docker's words.
    pub async fn spawn(launch: Launch<'_>) -> Result<(Self, Spawned), StartError> {
        let lost = |what: &str, e: &dyn std::fmt::Display| {
            StartError::setup(format!("cannot {what} shim: {e}"))
        };
        let (ours, theirs) = StdStream::pair().map_err(|e| lost("make a socket for", &e))?;
        ours.set_nonblocking(true).map_err(|e| lost("set up a socket for", &e))?;
        let mut stream = UnixStream::from_std(ours).map_err(|e| lost("set up a socket for", &e))?;
        let mut command = tokio::process::Command::new(launch.binary.path());
        command.arg0("gantry-shim").arg(&launch.plan.id).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // Dropping the child without waiting leaves it to tokio's reaper: it outlives this future.
        drop(command.spawn().map_err(|e| lost("start", &e))?);
        // It holds the shim's end of the socket: with that open here, a shim that dies would never be noticed.
        drop(command);
        let request = Request::Launch(LaunchRequest {
            dir: launch.dir.to_owned(),
            plan: launch.plan,
            log: launch.log,
            stdin: launch.stdin,
            runtime: launch.runtime,
        });
        match call(&mut stream, request).await.map_err(|e| lost("talk to", &e.chain()))? {
            Reply::Spawned(spawned) => {
                let shim = Self {
                    dir: launch.dir.to_owned(),
                    launch: Mutex::new(Some(stream)),
                    process: sys::process::open(spawned.shim).ok(),
                };
                Ok((shim, spawned))
            }
            Reply::Failed(err) => Err(err),
            other => Err(StartError::setup(unexpected(&other).chain())),
        }
    }

    /// Lets the first process run its program; returns when it does, or with the reason why not (then
    /// all is undone). Attach before this to lose no output.
    ///
    /// # Errors
    /// Docker's words; the class tells the exit code.
    pub async fn release(&self) -> Result<(), StartError> {
        let mut launch = self.launch.lock().await;
        let Some(mut stream) = launch.take() else {
            return Err(StartError::setup("container was released already"));
        };
        match call(&mut stream, Request::Release).await {
            Ok(Reply::Started { .. }) => Ok(()),
            Ok(Reply::Failed(err)) => Err(err),
            Ok(other) => Err(StartError::setup(unexpected(&other).chain())),
            Err(err) => Err(StartError::setup(format!("shim died: {}", err.chain()))),
        }
    }

    /// Finds the shim of the container folder `dir` again. A container that has ended, or whose shim was
    /// killed, has none any more: then [`Shim::exit_record`] says how it ended.
    ///
    /// # Errors
    /// `Unavailable` when there is none.
    pub async fn connect(dir: &Path) -> Result<(Self, State)> {
        let mut shim = Self { dir: dir.to_owned(), launch: Mutex::new(None), process: None };
        let mut stream = shim.open().await?;
        // Whoever listens there.
        let listener = stream.peer_cred().ok().and_then(|who| who.pid()?.try_into().ok());
        shim.process = listener.and_then(|pid| sys::process::open(pid).ok());
        match call(&mut stream, Request::State).await? {
            Reply::State(state) => Ok((shim, state)),
            other => Err(unexpected(&other)),
        }
    }

    /// How the container of folder `dir` ended, if its shim wrote that down.
    pub fn exit_record(dir: &Path) -> Option<Exit> {
        let bytes = std::fs::read(dir.join(EXIT_RECORD)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Waits until its process has ended, `limit` at most: until then it may still be removing the control group.
    pub async fn gone(&self, limit: Duration) {
        let Some(process) = &self.process else { return };
        if let Ok(process) = process.try_clone() {
            let wait = move || sys::process::ends_within(process, limit);
            let _ = tokio::task::spawn_blocking(wait).await;
        }
    }

    /// The container's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the shim knows.
    ///
    /// # Errors
    /// `Unavailable` when it is gone.
    pub async fn state(&self) -> Result<State> {
        match self.ask(Request::State).await? {
            Reply::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a signal to one process.
    ///
    /// # Errors
    /// `NotFound` when it has ended or never was.
    pub async fn signal(&self, target: &Target, signal: i32) -> Result<()> {
        self.done(Request::Signal { target: target.clone(), signal }).await
    }

    /// Sets the size of a terminal; remembered if the process is not there yet.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has no terminal.
    pub async fn resize(&self, target: &Target, size: ConsoleSize) -> Result<()> {
        self.done(Request::Resize { target: target.clone(), size }).await
    }

    /// Starts a further process, attached from its first byte if asked for.
    ///
    /// # Errors
    /// Docker's words; the class tells the exit code.
    pub async fn exec(
        &self,
        plan: ExecPlan,
        attach: Option<AttachOptions>,
    ) -> Result<Running, StartError> {
        let lost = |e: Error| StartError::setup(format!("cannot talk to shim: {}", e.chain()));
        let terminal = plan.process.terminal;
        let mut stream = self.open().await.map_err(lost)?;
        match call(&mut stream, Request::Exec { plan, attach }).await.map_err(lost)? {
            Reply::Started { pid } => {
                Ok(Running { pid, attach: attach.map(|_| Attach::new(stream, terminal)) })
            }
            Reply::Failed(err) => Err(err),
            other => Err(StartError::setup(unexpected(&other).chain())),
        }
    }

    /// Joins a process's streams.
    ///
    /// # Errors
    /// `NotFound` when it has ended or never was.
    pub async fn attach(&self, target: &Target, options: AttachOptions) -> Result<Attach> {
        let mut stream = self.open().await?;
        match call(&mut stream, Request::Attach { target: target.clone(), options }).await? {
            Reply::Attached { terminal } => Ok(Attach::new(stream, terminal)),
            other => Err(unexpected(&other)),
        }
    }

    /// Closes a process's input.
    ///
    /// # Errors
    /// `NotFound` when it has ended or never was.
    pub async fn close_stdin(&self, target: &Target) -> Result<()> {
        self.done(Request::CloseStdin { target: target.clone() }).await
    }

    /// Freezes a container of another runtime by that runtime.
    ///
    /// # Errors
    /// The runtime's.
    pub async fn pause(&self) -> Result<()> {
        self.done(Request::Pause).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// The runtime's.
    pub async fn resume(&self) -> Result<()> {
        self.done(Request::Resume).await
    }

    /// Opens the log file anew.
    ///
    /// # Errors
    /// The failing file operation.
    pub async fn reopen_log(&self) -> Result<()> {
        self.done(Request::ReopenLog).await
    }

    /// Lets the container's questions for names be answered from the files in its folder; returns when they are.
    ///
    /// # Errors
    /// `Internal` with the reason why not.
    pub async fn serve_names(&self) -> Result<()> {
        self.done(Request::ServeNames).await
    }

    /// Waits for the end of a process. A shim that was killed takes its container with it: then the exit
    /// record, or a made-up 137 marked `lost`, is what comes back.
    ///
    /// # Errors
    /// `NotFound` for an exec that is not known (any more).
    pub async fn wait(&self, target: &Target) -> Result<Exit> {
        let answer = self.ask(Request::Wait { target: target.clone() }).await;
        match answer {
            Ok(Reply::Exit(exit)) => Ok(exit),
            Ok(other) => Err(unexpected(&other)),
            Err(err) if err.kind() == base::Kind::Unavailable => Ok(self.lost_exit(target)),
            Err(err) => Err(err),
        }
    }

    fn lost_exit(&self, target: &Target) -> Exit {
        let guess =
            Exit { code: 137, signal: Some(9), at: Timestamp::now(), oom: false, lost: true };
        match target {
            Target::Init => Self::exit_record(&self.dir).unwrap_or(guess),
            Target::Exec(_) => guess,
        }
    }

    async fn done(&self, request: Request) -> Result<()> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply> {
        call(&mut self.open().await?, request).await
    }

    async fn open(&self) -> Result<UnixStream> {
        let gone = |e: std::io::Error| {
            Error::unavailable(format!("cannot reach the shim in {}", self.dir.display()))
                .caused_by(e)
        };
        let dir = std::fs::File::open(&self.dir).map_err(gone)?;
        // Through the descriptor: the folder's own path may be longer than a socket address.
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
            .await
            .map_err(gone)
    }
}

/// One request, one reply.
async fn call(stream: &mut UnixStream, request: Request) -> Result<Reply> {
    let gone = |e: std::io::Error| Error::unavailable("shim hung up").caused_by(e);
    let body = serde_json::to_vec(&Envelope { v: VERSION, request })
        .map_err(|e| Error::invalid("request to shim cannot be written as JSON").caused_by(e))?;
    if body.len() > MAX_FRAME {
        return Err(Error::invalid(format!("request to shim of {} bytes is too long", body.len())));
    }
    let length = u32::try_from(body.len()).expect("below MAX_FRAME").to_le_bytes();
    let whole = [&length[..], &body].concat();
    stream.write_all(&whole).await.map_err(gone)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(gone)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(Error::internal(format!("reply of shim of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(gone)?;
    match serde_json::from_slice(&body) {
        Ok(Reply::Error { kind, message }) => Err(kind.error(message)),
        Ok(reply) => Ok(reply),
        Err(e) => Err(Error::internal("reply of shim cannot be read").caused_by(e)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::internal(format!("shim gave an answer that fits no question: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_interpreter_is_told_from_a_static_one() {
        let check =
            |path: &str| Binary(Arc::new(std::fs::File::open(path).unwrap().into())).is_static();
        assert!(!check("/proc/self/exe").unwrap());
        assert!(check("/bin/busybox").unwrap(), "Debian's busybox-static");
        assert_eq!(check("/etc/passwd").unwrap_err().kind(), base::Kind::Invalid);
    }
}
