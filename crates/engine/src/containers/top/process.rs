//! One process (or thread) as /proc shows it.
//!
//! Source: proc(5); the numbers of `stat` begin behind the name, which may hold anything.

use std::{collections::HashMap, fs};

/// Kernel ticks per second; fixed at 100 in the user-space ABI of Linux.
pub(super) const TICKS: u64 = 100;
const PAGE_KIB: u64 = 4;
/// A passwd or group file beyond this is not read for names.
const NAMES_MAX: u64 = 1 << 20;

/// What is true of the whole host at the time of the call.
pub(super) struct Host {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    pub(super) uptime: u64,
    pub(super) memory_kib: u64,
    /// Unix seconds of the boot.
    pub(super) booted: i64,
}

impl Host {
    pub(super) fn read() -> Self {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = uptime.split(['.', ' ']).next().and_then(|s| s.parse().ok()).unwrap_or(0);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib =
            meminfo.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
        let booted = base::Timestamp::now().unix() - i64::try_from(uptime).unwrap_or(0);
        let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
        Self { users, groups, uptime, memory_kib, booted }
    }

    pub(super) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }

    pub(super) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string())
    }
}

/// Names by number.
fn names(path: &str) -> HashMap<u32, String> {
    if !fs::metadata(path).is_ok_and(|m| m.len() <= NAMES_MAX) {
        return HashMap::new();
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
        })
        .collect()
}

/// A process, or one thread of it.
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) ppid: i32,
    /// Real, effective, saved, of files.
    pub(super) uids: [u32; 4],
    pub(super) gids: [u32; 4],
    pub(super) state: String,
    pub(super) comm: String,
    pub(super) args: String,
    pub(super) tty: String,
    pub(super) ticks: u64,
    /// Seconds after the boot.
    pub(super) started: u64,
    pub(super) vsz_kib: u64,
    pub(super) rss_kib: u64,
    pub(super) threads: u64,
    pub(super) wchan: String,
    pub(super) cgroup: String,
    stat: Vec<i64>,
}

impl Process {
    /// Reads thread `tid` of process `pid`; `None` when it is gone.
    pub(super) fn read(pid: i32, tid: i32) -> Option<Self> {
        let folder = format!("/proc/{pid}/task/{tid}");
        let text = |name: &str| fs::read(format!("{folder}/{name}"));
        let stat = String::from_utf8_lossy(&text("stat").ok()?).into_owned();
        let (head, tail) = stat.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let mut fields = tail.split_whitespace();
        let state = fields.next().unwrap_or("?").to_owned();
        let stat: Vec<i64> = fields
            .map(|f| f.parse().unwrap_or_else(|_| f.parse::<u64>().map_or(0, |n| n as i64)))
            .collect();
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let ids = |key: &str| -> [u32; 4] {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            let mut all = [0; 4];
            for (place, word) in all.iter_mut().zip(line.split_whitespace()) {
                *place = word.parse().unwrap_or(0);
            }
            all
        };
        let cmdline = text("cmdline").unwrap_or_default();
        let args = String::from_utf8_lossy(&cmdline).trim_end_matches('\0').replace('\0', " ");
        let mut process = Self {
            pid,
            tid,
            ppid: 0,
            uids: ids("Uid:"),
            gids: ids("Gid:"),
            state,
            args: if args.is_empty() { format!("[{comm}]") } else { args },
            comm,
            tty: String::new(),
            ticks: 0,
            started: 0,
            vsz_kib: 0,
            rss_kib: 0,
            threads: 0,
            wchan: fs::read_to_string(format!("{folder}/wchan")).unwrap_or_default(),
            cgroup: fs::read_to_string(format!("{folder}/cgroup")).unwrap_or_default(),
            stat,
        };
        let positive = |at: usize| u64::try_from(process.number(at)).unwrap_or(0);
        let ticks = positive(11) + positive(12);
        let (started, vsz, rss, threads) =
            (positive(19) / TICKS, positive(20) / 1024, positive(21) * PAGE_KIB, positive(17));
        process.tty = terminal(positive(4));
        process.ppid = process.number(1) as i32;
        (process.ticks, process.started, process.vsz_kib, process.rss_kib, process.threads) =
            (ticks, started, vsz, rss, threads);
        Some(process)
    }

    /// Number `at` of `stat`, counted from the parent's (1).
    pub(super) fn number(&self, at: usize) -> i64 {
        at.checked_sub(1).and_then(|at| self.stat.get(at)).copied().unwrap_or(0)
    }

    pub(super) fn alive_seconds(&self, host: &Host) -> u64 {
        host.uptime.saturating_sub(self.started)
    }

    /// Tenths of a percent of one processor over its life.
    pub(super) fn cpu_tenths(&self, host: &Host) -> u64 {
        (self.ticks * 1000 / TICKS).checked_div(self.alive_seconds(host).max(1)).unwrap_or(0)
    }
}

fn terminal(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (device, major) {
        (0, _) => "?".to_owned(),
        (_, 136..=143) => format!("pts/{}", (major - 136) * 256 + minor),
        (_, 4) => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let me = std::process::id() as i32;
        let process = Process::read(me, me).unwrap();
        assert!(process.rss_kib > 0 && !process.args.is_empty());
        assert_eq!(
            process.ppid,
            rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get())
        );
        assert!(Process::read(me, 1).is_none());
    }
}
