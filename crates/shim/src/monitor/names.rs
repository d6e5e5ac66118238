//! The process that answers questions for names: started when the daemon asks for it, again when it ends
//! before the container does.

use super::{Monitor, Source};
use crate::names;
use runtime::shim::{
    Target,
    protocol::{Refusal, Reply},
};
use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};
use sys::{epoll::Interest, process as kernel};

/// One that ends sooner is not started again until somebody asks: it would end again.
const LIVED: Duration = Duration::from_secs(1);
/// `SIGKILL`.
const KILL: i32 = 9;

/// The process.
#[derive(Debug)]
pub(super) struct Names {
    pid: u32,
    /// Where it says that it serves, with its number in the poll set; `None` when it has said so.
    saying: Option<(u64, UnixStream)>,
    /// Who waits for that.
    waiting: Vec<u64>,
    since: Instant,
}

impl Monitor {
    /// Starts it unless it is there, and answers when it serves.
    pub(super) fn serve_names(&mut self, token: u64) {
        if self.names.is_none()
            && let Err(err) = self.start_names()
        {
            let message = format!("cannot serve names: {err}");
            return self.reply(token, &Reply::Error { kind: Refusal::Internal, message });
        }
        match &mut self.names {
            Some(names) if names.saying.is_some() => names.waiting.push(token),
            _ => self.reply(token, &Reply::Done),
        }
    }

    fn start_names(&mut self) -> std::io::Result<()> {
        let gone = || std::io::Error::other("the container has ended");
        let container = self.container.as_ref().ok_or_else(gone)?;
        let first = self.processes.get(&Target::Init).filter(|p| p.pidfd.is_some());
        let first = first.ok_or_else(gone)?;
        let (pid, near) = names::start(&container.dir, first.pid)?;
        let token = self.token(Source::Names);
        self.poll.add(&near, token, Interest::IN)?;
        self.names = Some(Names {
            pid,
            saying: Some((token, near)),
            waiting: Vec::new(),
            since: Instant::now(),
        });
        Ok(())
    }

    /// It said something, or ended.
    pub(super) fn names_ready(&mut self) {
        let Some(names) = &mut self.names else { return };
        let Some((token, mut near)) = names.saying.take() else { return };
        let waiting = std::mem::take(&mut names.waiting);
        self.sources.remove(&token);
        let _ = self.poll.remove(&near);
        let mut said = [0; 512];
        // What it says fits into one message.
        let length = near.read(&mut said).unwrap_or(0);
        let reply = if said[..length] == [names::READY] {
            Reply::Done
        } else {
            let text = String::from_utf8_lossy(&said[..length]);
            let message = format!("cannot serve names: {text}");
            Reply::Error { kind: Refusal::Internal, message }
        };
        for token in waiting {
            self.reply(token, &reply);
        }
    }

    /// Whether the process that ended is this one; it is started again.
    pub(super) fn names_ended(&mut self, pid: u32) -> bool {
        if self.names.as_ref().is_none_or(|names| names.pid != pid) {
            return false;
        }
        self.names_ready();
        let lived = self.names.take().is_some_and(|names| names.since.elapsed() >= LIVED);
        if lived && self.deadline.is_none() {
            // The next one who asks is told if it does not work.
            let _ = self.start_names();
        }
        true
    }

    /// The container has ended: nobody asks any more.
    pub(super) fn stop_names(&mut self) {
        if let Some(names) = self.names.take() {
            // It is this process's child until it is reaped; the kernel ends it with the shim at the latest.
            let _ = kernel::kill_pid(names.pid, KILL);
        }
    }
}
