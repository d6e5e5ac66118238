//! What is said on the shim's socket.
//!
//! Frames are a little-endian u32 length and that many bytes of JSON. A client sends one [`Request`] and
//! gets one [`Reply`]; it may then send the next. `Attach` (and `Exec` with attach) turns the connection,
//! after its reply, into a byte stream: to the shim go input bytes (end of stream is end of input), from
//! the shim come output bytes exactly as Docker's attach sends them: raw with a terminal, else in frames
//! of stream number, three zero bytes, big-endian u32 length, payload. `Wait` is answered at the exit.
//! The launching connection (the shim's descriptor 0) begins with `Launch`, then `Release`; if it ends
//! between the two, the shim undoes everything.
//! Invariants: a frame is at most [`MAX_FRAME`]; an unknown version or request is answered by an error.

use super::StartError;
use crate::{ExecPlan, Plan};
use base::{Error, Kind, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// Version of this protocol; a shim answers requests of its own version only, but `State` of any.
pub const VERSION: u32 = 1;
/// Longest frame in bytes: a plan with 10 MB of environment fits.
pub const MAX_FRAME: usize = 32 << 20;
/// The socket's name in a container's folder.
pub const SOCKET: &str = "shim.sock";
/// The exit record's name in a container's folder.
pub const EXIT_RECORD: &str = "exit.json";

/// Which process is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// The container's first process.
    Init,
    /// That of an exec id.
    Exec(String),
}

/// What becomes of the first process's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// `/dev/null`.
    #[default]
    Null,
    /// Stays open whoever attaches (`-i` of a detached container).
    Open,
    /// Ends when the first client's input ends (`StdinOnce`).
    Once,
}

/// What an attached client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// To send input.
    pub stdin: bool,
    /// To get standard output (or the terminal's).
    pub stdout: bool,
    /// To get standard error.
    pub stderr: bool,
}

/// An output stream's number in docker's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// 1.
    Stdout = 1,
    /// 2.
    Stderr = 2,
}

/// All a shim is told at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// The container's folder.
    pub dir: PathBuf,
    /// What to run.
    pub plan: Plan,
    /// `logging::Config` as JSON; `None` keeps no log.
    pub log: Option<serde_json::Value>,
    /// What becomes of its input.
    pub stdin: Stdin,
    /// The runtime that carries the plan out, when it is not the shim itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<OciRuntime>,
}

/// Another OCI runtime: its program is called for every step of the container's life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OciRuntime {
    /// The program: a path, or a name that is looked for in the usual folders.
    pub program: String,
    /// Arguments before all others.
    pub args: Vec<String>,
    /// The program that is a container's tiny init, on the host.
    pub init: PathBuf,
    /// `linux.seccomp`: what the plan's compiled filter was made of.
    pub seccomp: Option<serde_json::Value>,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
}

/// A request with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub v: u32,
    /// The request.
    pub request: Request,
}

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one at a time, never in a collection")]
pub enum Request {
    /// Make the container up to its last step; only on the launching connection. `Spawned` or `Failed`.
    Launch(LaunchRequest),
    /// Run it; only on the launching connection. `Started` or `Failed`.
    Release,
    /// `State`.
    State,
    /// Send a signal to one process. `Done`.
    Signal {
        /// To whom.
        target: Target,
        /// Its number.
        signal: i32,
    },
    /// Set the terminal's size. `Done`.
    Resize {
        /// Whose.
        target: Target,
        /// The size.
        size: crate::spec::ConsoleSize,
    },
    /// Start a further process, with the connection as its stream if `attach`. `Started` or `Failed`.
    Exec {
        /// What to run.
        plan: ExecPlan,
        /// Turn the connection into its stream.
        attach: Option<AttachOptions>,
    },
    /// Turn the connection into a stream. `Attached`.
    Attach {
        /// Of whom.
        target: Target,
        /// Which parts.
        options: AttachOptions,
    },
    /// Close its input. `Done`.
    CloseStdin {
        /// Whose.
        target: Target,
    },
    /// `Exit`, when it has ended; at once if it has.
    Wait {
        /// Whose.
        target: Target,
    },
    /// Freeze the container by its own runtime; only for another one. `Done`.
    Pause,
    /// Thaw it. `Done`.
    Resume,
    /// Open the log file anew. `Done`.
    ReopenLog,
    /// Answer questions for names at 127.0.0.11, as the file of settings in the container's folder says; one
    /// that does so already goes on. `Done` when it serves.
    ServeNames,
}

/// What the shim answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The first process exists and waits.
    Spawned(Spawned),
    /// The process runs its program.
    Started {
        /// Its pid on the host.
        pid: u32,
    },
    /// The connection is a stream from here on.
    Attached {
        /// Whether its output is a terminal's.
        terminal: bool,
    },
    /// It did not start.
    Failed(StartError),
    /// The state.
    State(State),
    /// It has ended.
    Exit(Exit),
    /// The request could not be done.
    Error {
        /// What sort.
        kind: Refusal,
        /// The text.
        message: String,
    },
}

/// Kinds of refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No such process.
    NotFound,
    /// Not in its present state.
    Conflict,
    /// The request is wrong.
    Invalid,
    /// It failed.
    Internal,
}

impl Refusal {
    /// The error for a client.
    pub fn error(self, message: String) -> Error {
        let kind = match self {
            Self::NotFound => Kind::NotFound,
            Self::Conflict => Kind::Conflict,
            Self::Invalid => Kind::Invalid,
            Self::Internal => Kind::Internal,
        };
        Error::new(kind, message)
    }
}

/// A first process that waits for its release: its network namespace is `/proc/<pid>/ns/net`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// Its pid on the host.
    pub pid: u32,
    /// Pid of the shim.
    pub shim: u32,
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, waiting for its release.
    Created,
    /// Runs its program.
    Running,
    /// Has ended.
    Exited(Exit),
}

/// What a shim knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of the shim's protocol.
    pub version: u32,
    /// Pid of the shim.
    pub shim: u32,
    /// Pid of the first process.
    pub pid: u32,
    /// How far it is.
    pub phase: Phase,
    /// When its program was started.
    pub started: Option<Timestamp>,
    /// The execs that have not ended: id and pid.
    pub execs: Vec<(String, u32)>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its code, or 128 + the signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Timestamp,
    /// Whether the kernel killed something in the container for want of memory.
    pub oom: bool,
    /// The shim was found dead: code and time are a guess (137, now).
    #[serde(default)]
    pub lost: bool,
}
