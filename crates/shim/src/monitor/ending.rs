//! The end: of processes, of the container, of the shim.
//!
//! Order for the first process: what it still wrote goes to the log, the exit is recorded in the folder,
//! those who wait are told, streams are closed, the control group is removed. An exit that a client saw
//! is on record already.

use super::{
    Monitor,
    delegate::After,
    process::{Phase, Process},
};
use base::Timestamp;
use runtime::shim::{
    Exit, Target,
    protocol::{EXIT_RECORD, Reply},
};
use std::{
    fs, io,
    time::{Duration, Instant},
};
use sys::process::{self as kernel, Ended};

/// How long a client that does not read may keep an otherwise finished shim.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// Ended execs that can still be asked for.
pub(super) const PAST_EXECS: usize = 64;

/// When a shim that winds up now ends at the latest.
pub(super) fn linger() -> Instant {
    Instant::now() + LINGER
}

impl Monitor {
    /// Children have ended, or a signal came that the shim does not care for.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while self.signals.next()?.is_some() {}
        while let Some((pid, ended)) = kernel::reap()? {
            self.reaped(pid, ended);
        }
        Ok(())
    }

    fn reaped(&mut self, pid: u32, ended: Ended) {
        if self.names_ended(pid) {
            return;
        }
        if self.call_ended(pid, ended) {
            return;
        }
        let living = |p: &Process| p.pid == pid && !matches!(p.phase, Phase::Exited(_));
        let found = self.processes.iter_mut().find(|(_, p)| living(p));
        if let Some((target, process)) = found {
            if process.phase == Phase::Making {
                process.ended_early = Some(ended);
                return;
            }
            let target = target.clone();
            return self.ended(&target, ended);
        }
        // The pid of an exec may be on its way; its helper's is of no interest.
        let nameless = |p: &Process| p.pid == 0 && p.helper != pid;
        if self.processes.values().any(nameless) {
            self.strays.insert(pid, ended);
        }
        if !self.processes.values().any(|p| p.pid == 0) {
            self.strays.clear();
        }
    }

    /// A process has ended.
    pub(super) fn ended(&mut self, target: &Target, ended: Ended) {
        let at = Timestamp::now();
        let (code, signal) = match ended {
            Ended::Exited(code) => (code, None),
            Ended::Signaled(signal) => (128 + signal, Some(signal)),
        };
        let first = *target == Target::Init;
        if first {
            self.stop_names();
            self.end_others();
        }
        self.drain(target);
        let oom = first && self.oom();
        let exit = Exit { code, signal, at, oom, lost: false };
        if first {
            self.record(&exit);
            if self.delegated() {
                return self.delete_by_runtime(After::Ended(exit));
            }
        }
        if first {
            self.after_hooks();
        }
        self.told(target, exit);
    }

    /// The end is on record and all is cleaned up: those who wait hear of it.
    pub(super) fn told(&mut self, target: &Target, exit: Exit) {
        let Some(process) = self.processes.get_mut(target) else { return };
        process.phase = Phase::Exited(exit);
        process.pidfd = None;
        process.terminal = None;
        let input = process.input.take().and_then(|i| i.token);
        let (waiting, attached) =
            (std::mem::take(&mut process.waiting), std::mem::take(&mut process.attached));
        self.source_is_gone(input);
        for token in waiting {
            self.reply(token, &Reply::Exit(exit));
        }
        for token in attached {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.closing = true;
                self.flush(token);
            }
        }
        self.forget_oldest(target);
        if *target == Target::Init {
            self.close_log();
            self.deadline = Some(linger());
        }
    }

    /// With the first process all others end: by themselves in a pid namespace of their own, else here.
    fn end_others(&mut self) {
        let Some(container) = &self.container else { return };
        if !container.own_pids
            && let Some(cgroup) = &container.cgroup
        {
            let _ = cgroup.kill_all();
        }
        self.give_up_making();
        let running: Vec<(Target, u32)> = self
            .processes
            .iter()
            .filter(|(t, p)| **t != Target::Init && p.phase == Phase::Running)
            .map(|(t, p)| (t.clone(), p.pid))
            .collect();
        for (target, _) in running {
            // Killed with the rest; whatever it said it ended with counts if it was reaped before.
            self.ended(&target, Ended::Signaled(9));
        }
    }

    fn oom(&self) -> bool {
        let group = self.container.as_ref().and_then(|c| c.cgroup.as_ref());
        group.is_some_and(|g| g.oom_count() > 0)
    }

    fn record(&self, exit: &Exit) {
        let Some(container) = &self.container else { return };
        let Ok(bytes) = serde_json::to_vec(exit) else { return };
        let (new, place) = (container.file("exit.json.new"), container.file(EXIT_RECORD));
        // Without the folder nobody is left who would read it.
        let _ = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &place));
    }

    /// The last acts: nothing of the container is left.
    pub(super) fn wind_up(&mut self) {
        self.undo();
    }
}
