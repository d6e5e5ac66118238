//! Standard input, output and error of a process: pipes, `/dev/null`, or a terminal.

use super::{Step, Tried, terminal};
use runtime::shim::StartError;
use rustix::{
    fs::{FileType, OFlags},
    pipe::{PipeFlags, pipe_with},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};
use sys::root::Root;

/// Whether a process gets an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// `/dev/null`.
    Null,
    /// A pipe.
    Pipe,
}

/// The shim's ends of the pipes; none with a terminal, whose near end comes later.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Where input is written.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where output is read.
    pub(crate) stdout: Option<OwnedFd>,
    /// Where errors are read.
    pub(crate) stderr: Option<OwnedFd>,
}

/// The child's ends.
#[derive(Debug)]
pub(crate) enum Ends {
    /// Three descriptors; without input `/dev/null` is opened inside the root.
    Pipes {
        /// Input.
        stdin: Option<OwnedFd>,
        /// Output.
        stdout: OwnedFd,
        /// Errors.
        stderr: OwnedFd,
    },
    /// A terminal, opened inside the root.
    Terminal,
}

/// Makes both sides. The shim's are non-blocking, the container's are not: they are two descriptions.
pub(crate) fn pipes(input: Input) -> io::Result<(Streams, Ends)> {
    let output = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
        Ok((read, write))
    };
    let (out_read, out_write) = output()?;
    let (err_read, err_write) = output()?;
    let (theirs, ours) = match input {
        Input::Null => (None, None),
        Input::Pipe => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&write, OFlags::WRONLY | OFlags::NONBLOCK)?;
            (Some(read), Some(write))
        }
    };
    let streams = Streams { stdin: ours, stdout: Some(out_read), stderr: Some(err_read) };
    Ok((streams, Ends::Pipes { stdin: theirs, stdout: out_write, stderr: err_write }))
}

/// The three descriptors of a child.
#[derive(Debug)]
pub(crate) struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: Option<OwnedFd>,
}

impl Ends {
    /// Completes the ends inside the container's root.
    pub(crate) fn complete(self, root: &Root, terminal: Option<terminal::Pair>) -> Step<Stdio> {
        match (self, terminal) {
            (Self::Pipes { stdin, stdout, stderr }, _) => {
                let stdin = match stdin {
                    Some(stdin) => own_null(root, stdin)?,
                    None => null(root)?,
                };
                let (stdout, stderr) = (own_null(root, stdout)?, own_null(root, stderr)?);
                Ok(Stdio { stdin, stdout, stderr, terminal: None })
            }
            (Self::Terminal, Some(pair)) => {
                let copy = || {
                    rustix::io::fcntl_dupfd_cloexec(&pair.far, 3).tried(|| "copy terminal".into())
                };
                let (stdin, stdout, stderr) = (copy()?, copy()?, copy()?);
                Ok(Stdio { stdin, stdout, stderr, terminal: Some(pair.far) })
            }
            (Self::Terminal, None) => Err(StartError::setup("terminal was not made")),
        }
    }
}

impl Stdio {
    /// Gives them to `uid`, so that it may open `/dev/stdout` anew.
    pub(crate) fn give(&self, uid: u32) -> Step {
        for fd in [&self.stdin, &self.stdout, &self.stderr] {
            let stat = rustix::fs::fstat(fd).tried(|| "stat standard stream".into())?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let null = kind == FileType::CharacterDevice && is_null(&stat);
            if !null && stat.st_uid != uid {
                let owner = Some(rustix::fs::Uid::from_raw(uid));
                match rustix::fs::fchown(fd, owner, None) {
                    Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::ROFS) => {}
                    Err(err) => return Err(err).tried(|| "change owner of standard stream".into()),
                }
            }
        }
        Ok(())
    }

    /// Starts a session, with the terminal if there is one.
    pub(crate) fn new_session(&self) -> Step {
        match &self.terminal {
            Some(terminal) => {
                sys::pty::take(terminal.as_fd()).tried(|| "set controlling terminal".into())
            }
            None => rustix::process::setsid().map(drop).tried(|| "setsid".into()),
        }
    }

    /// The terminal, if it is one.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// Makes them 0, 1 and 2.
    pub(crate) fn install(&self) -> Step {
        for (fd, number) in [(&self.stdin, 0), (&self.stdout, 1), (&self.stderr, 2)] {
            sys::process::set_stdio(fd.as_fd(), number).tried(|| "set standard streams".into())?;
        }
        Ok(())
    }
}

/// Whether `stat` is the null device.
pub(crate) fn is_null(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) == (1, 3)
}

/// The container's null device in place of the host's, whose owner and mode are not the container's to change.
fn own_null(root: &Root, fd: OwnedFd) -> Step<OwnedFd> {
    let stat = rustix::fs::fstat(&fd).tried(|| "stat standard stream".into())?;
    // A root without one keeps what it was given.
    Ok(if is_null(&stat) { null(root).unwrap_or(fd) } else { fd })
}

/// Opens the container's null device, if it is one.
fn null(root: &Root) -> Step<OwnedFd> {
    let what = || "open /dev/null in the container".to_owned();
    let file = root.open_with("/dev/null", OFlags::RDWR, 0).tried(what)?;
    let stat = rustix::fs::fstat(&file).tried(what)?;
    if !is_null(&stat) {
        return Err(StartError::setup("/dev/null in the container is not the null device"));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::RDWR).tried(what)?;
    Ok(file.into())
}
