//! A call of another runtime's program: a copy of the shim makes what the program is to find, and becomes it.
//!
//! Flow: for `create` the copy takes a mount namespace of its own, lays the root and the sources of the
//! mounts into the bundle there, writes `config.json` and runs the program; the container keeps its copies
//! of these mounts, the host never has them. Output of the program is the container's own streams, as the
//! runtimes of Docker have it; what went wrong is in the log file that it is told to write.
//! Invariants: what fails before the program runs is written into that log in the program's own form; the
//! program dies with the shim.
//! Source: runc(8), the runtimes' command line (`runtime-tools` `command-line-interface.md`).
//! Not here: when to call what (`monitor/delegate.rs`).

use super::{Step, Tried, identity, mounts, program, root, stdio::Ends};
use runtime::{
    ExecPlan, oci,
    plan::{MountKind, Plan},
    shim::{Class, StartError, protocol::OciRuntime},
};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};
use sys::{
    mount::{self, propagation},
    process::{self as kernel, Child, Forked, ns},
    root::Root,
};

/// Folders that a program's name is looked for in.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What is read of a log: its end.
const LOG_BYTES: u64 = 64 << 10;

/// What is opened on the host for a container that another runtime makes.
#[derive(Debug)]
pub(crate) struct Ground {
    root: OwnedFd,
    binds: Vec<Option<mounts::Bind>>,
}

impl Ground {
    /// Opens all of it.
    pub(crate) fn new(plan: &Plan) -> Step<Self> {
        if let Some(mount) = plan.mounts.iter().find(|m| matches!(m.kind, MountKind::Overlay(_))) {
            let target = mount.target.display();
            return Err(StartError::setup(format!(
                "another runtime cannot mount the overlay at {target}"
            )));
        }
        if plan.namespaces.user.is_some() {
            return Err(StartError::setup("another runtime cannot map users"));
        }
        // Without users to map no place is needed.
        let place = Path::new("/");
        Ok(Self {
            binds: mounts::clone_sources(plan, None, place)?,
            root: root::make(plan, None, place)?,
        })
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The runtime.
    pub(crate) runtime: &'a OciRuntime,
    /// The container's id.
    pub(crate) id: &'a str,
    /// The container's folder.
    pub(crate) place: &'a Path,
    /// Tells its files from those of other calls.
    pub(crate) number: u64,
    /// What to do.
    pub(crate) command: Command<'a>,
}

/// What a runtime can be asked for.
#[derive(Debug)]
pub(crate) enum Command<'a> {
    /// Make the container.
    Create {
        /// From this.
        plan: &'a Plan,
        /// With this.
        ground: Ground,
        /// Its streams.
        ends: Ends,
    },
    /// Run its program.
    Start,
    /// Run a further process.
    Exec {
        /// This one.
        plan: &'a ExecPlan,
        /// Pid of the container's first process.
        first: u32,
        /// Its streams.
        ends: Ends,
    },
    /// Signal the first process.
    Kill(i32),
    /// Freeze it.
    Pause,
    /// Thaw it.
    Resume,
    /// End and forget it.
    Delete,
}

impl Call<'_> {
    /// Starts it. Returns in the shim only.
    pub(crate) fn start(self) -> io::Result<Child> {
        match kernel::clone(0, None)? {
            Forked::Parent(child) => Ok(child),
            Forked::Child => {
                let log = self.file("log");
                let Err(err) = self.become_it();
                let line = Line { level: "error".into(), msg: err.text, class: Some(err.class) };
                let _ = serde_json::to_vec(&line).map(|bytes| fs::write(log, bytes));
                kernel::exit(1)
            }
        }
    }

    fn bundle(&self) -> PathBuf {
        self.place.join(BUNDLE)
    }

    /// A file of this call's own, in the bundle.
    fn file(&self, kind: &str) -> PathBuf {
        self.bundle().join(call_file(kind, self.number))
    }

    fn become_it(self) -> Step<Infallible> {
        kernel::set_parent_death_signal(9).tried(|| "set parent death signal".into())?;
        let (pid_file, log, bundle) = (self.file("pid"), self.file("log"), self.bundle());
        let process_file = self.file("process");
        // Relative to the bundle, where the program is started: a socket's address is short.
        let console = call_file("console", self.number);
        let mut args = vec![self.runtime.program.clone()];
        args.extend(self.runtime.args.iter().cloned());
        args.extend(["--root".into(), text(&self.place.join("runtime"))]);
        args.extend(["--log".into(), text(&log), "--log-format".into(), "json".into()]);
        let mut signal = None;
        let (words, ends, terminal): (&[&str], _, _) = match self.command {
            Command::Create { plan, ground, ends } => {
                lay_out(&bundle, plan, ground, self.runtime)?;
                (&["create", "--bundle", "."], Some(ends), plan.process.terminal)
            }
            Command::Exec { plan, first, ends } => {
                let root = Root::open(Path::new(&format!("/proc/{first}/root")))
                    .tried(|| "open the container's root".into())?;
                let who = identity::resolve(&root, &plan.process)?;
                write(&process_file, &oci::process(&plan.process, &who))?;
                (&["exec", "--detach"], Some(ends), plan.process.terminal)
            }
            Command::Start => (&["start"], None, false),
            Command::Pause => (&["pause"], None, false),
            Command::Resume => (&["resume"], None, false),
            Command::Delete => (&["delete", "--force"], None, false),
            Command::Kill(number) => {
                signal = Some(number.to_string());
                (&["kill"], None, false)
            }
        };
        args.extend(words.iter().map(|w| (*w).to_owned()));
        if words[0] == "exec" {
            args.extend(["--process".into(), text(&process_file)]);
        }
        if ends.is_some() {
            args.extend(["--pid-file".into(), text(&pid_file)]);
        }
        if terminal {
            args.extend(["--console-socket".into(), console]);
        }
        args.push(self.id.to_owned());
        args.extend(signal);
        run(&bundle, &args, ends)
    }
}

/// Name of the bundle in a container's folder.
pub(crate) const BUNDLE: &str = "bundle";

/// Name of a call's file of some kind.
pub(crate) fn call_file(kind: &str, number: u64) -> String {
    format!("{kind}-{number}")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Mounts the root and the sources into the bundle, and writes its configuration.
fn lay_out(bundle: &Path, plan: &Plan, ground: Ground, runtime: &OciRuntime) -> Step {
    kernel::unshare(ns::MOUNT).tried(|| "make a mount namespace".into())?;
    mount::set_propagation_of_all(propagation::SLAVE)
        .tried(|| "error making the mounts of the host slaves".into())?;
    rustix::process::umask(0o022.into());
    let place = Root::open(bundle).tried(|| format!("open {}", bundle.display()))?;
    let target = mounts::folder(&place, Path::new("/rootfs")).tried(|| "make the root".into())?;
    mount::attach(&ground.root, &target).tried(|| "error attaching root file system".into())?;
    let mut sources = Vec::with_capacity(plan.mounts.len());
    for (number, (mount, bind)) in plan.mounts.iter().zip(ground.binds).enumerate() {
        sources.push(match bind {
            Some(bind) => {
                let inner = format!("sources/{number}");
                let place_of = Path::new("/").join(&inner);
                mounts::attach_source(&place, mount, bind, &place_of)?;
                Some(bundle.join(inner))
            }
            None => None,
        });
    }
    let root = Root::from(ground.root);
    let identity = identity::resolve(&root, &plan.process)?;
    let rootfs = bundle.join("rootfs");
    let made = oci::Made { rootfs: &rootfs, sources: &sources, identity: &identity };
    let config = oci::config(plan, &made, runtime).map_err(|e| StartError::setup(e.chain()))?;
    write(&bundle.join("config.json"), &config)
}

fn write(path: &Path, what: &impl Serialize) -> Step {
    let bytes = serde_json::to_vec(what).map_err(|e| StartError::setup(e.to_string()))?;
    fs::write(path, bytes).tried(|| format!("write {}", path.display()))
}

/// Becomes the program.
fn run(bundle: &Path, args: &[String], ends: Option<Ends>) -> Step<Infallible> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, 0.into())
        .tried(|| "open /dev/null".into())?;
    let (stdin, stdout, stderr) = match ends {
        Some(Ends::Pipes { stdin, stdout, stderr }) => (stdin, Some(stdout), Some(stderr)),
        Some(Ends::Terminal) | None => (None, None, None),
    };
    for (fd, number) in [(&stdin, 0), (&stdout, 1), (&stderr, 2)] {
        let fd = fd.as_ref().unwrap_or(&null);
        kernel::set_stdio(fd.as_fd(), number).tried(|| "set standard streams".into())?;
    }
    rustix::process::chdir(bundle).tried(|| format!("chdir {}", bundle.display()))?;
    let env = [PATH.to_owned()];
    let found = program::lookup(&args[0], &env)?;
    rustix::process::umask(0o022.into());
    kernel::reset_signals();
    let _ = kernel::close_on_exec_from(3);
    let path = std::ffi::CString::new(text(&found))
        .map_err(|_| StartError::setup("the runtime's path contains a null byte"))?;
    let failed = kernel::exec(&path, &program::c_strings(args), &program::c_strings(&env));
    Err(failed).tried(|| format!("fork/exec {}", found.display()))
}

/// A line of a runtime's log.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    level: String,
    msg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
}

/// What youki's lines have instead.
#[derive(Deserialize)]
struct Fields {
    fields: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

/// The last error in a runtime's log.
pub(crate) fn last_error(log: &Path) -> Option<StartError> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes).ok()?;
    let lines = bytes.split(|b| *b == b'\n').rev();
    lines.filter_map(error_in).next()
}

fn error_in(line: &[u8]) -> Option<StartError> {
    let read: Line = serde_json::from_slice(line).ok()?;
    if !["error", "fatal", "panic"].iter().any(|l| read.level.eq_ignore_ascii_case(l)) {
        return None;
    }
    let text = match read.msg.is_empty() {
        false => read.msg,
        true => serde_json::from_slice::<Fields>(line).ok()?.fields.message,
    };
    let class = read.class.unwrap_or_else(|| class_of(&text));
    let hint = match text.to_lowercase().contains("not a directory") {
        true => HINT,
        false => "",
    };
    Some(StartError { class, text: text + hint })
}

/// What Docker adds to an error about folders.
const HINT: &str = ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";

/// What Docker makes of a runtime's words.
fn class_of(text: &str) -> Class {
    let text = text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| text.contains(w));
    if has(&["executable file not found", "no such file or directory", "not a directory"]) {
        Class::NotFound
    } else if has(&["permission denied", "is a directory"]) {
        Class::NotExecutable
    } else {
        Class::Setup
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Option<(Class, String)> {
        error_in(line.as_bytes()).map(|e| (e.class, e.text))
    }

    #[test]
    fn errors_are_read_from_the_logs_of_all_runtimes() {
        let runc = r#"{"level":"error","msg":"runc create failed: exec: \"x\": executable file not found in $PATH","time":"t"}"#;
        let text = "runc create failed: exec: \"x\": executable file not found in $PATH";
        assert_eq!(error(runc), Some((Class::NotFound, text.into())));
        let crun = r#"{"msg":"open `/x`: Permission denied","level":"error","time":"t"}"#;
        assert_eq!(
            error(crun),
            Some((Class::NotExecutable, "open `/x`: Permission denied".into()))
        );
        let youki =
            r#"{"timestamp":"t","level":"ERROR","fields":{"message":"no"},"target":"youki"}"#;
        assert_eq!(error(youki), Some((Class::Setup, "no".into())));
        assert_eq!(error(r#"{"level":"warning","msg":"x"}"#), None);
        assert_eq!(error("text"), None);
    }

    #[test]
    fn the_last_error_of_a_long_log_counts() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert!(last_error(&log).is_none());
        let mut lines = String::new();
        for n in 0..5000 {
            lines += &format!("{{\"level\":\"error\",\"msg\":\"number {n}\"}}\n");
        }
        lines += "{\"level\":\"info\",\"msg\":\"end\"}\n";
        fs::write(&log, lines).unwrap();
        assert_eq!(last_error(&log).unwrap().text, "number 4999");
    }
}
