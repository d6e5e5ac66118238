//! `GET /containers/{id}/top`: the container's processes in the columns of ps(1), read from /proc.
//!
//! No `ps` is started: the formats that people use (`-ef`, `aux`, `-o` lists) are answered here; other
//! arguments are refused with their name. Source: ps(1), proc(5).

use super::Status;
use crate::Engine;
use base::{Error, Result};
use std::{collections::HashMap, fs};

/// Kernel ticks per second; fixed at 100 in the user-space ABI of Linux.
const TICKS: u64 = 100;
const PAGE_KIB: u64 = 4;
/// A passwd file beyond this is not read for names.
const PASSWD_MAX: u64 = 1 << 20;

/// The answer: titles and one row per process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Column titles.
    pub titles: Vec<String>,
    /// Rows.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// Lists the processes of container `name` in the form that `arguments` (of ps) ask for.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running; `Invalid` for arguments that are not understood.
    pub async fn container_top(&self, name: &str, arguments: &str) -> Result<Table> {
        let columns = columns(arguments)?;
        let container = self.containers.find(name)?;
        let record = container.record();
        match record.state.status {
            Status::Running | Status::Paused => {}
            Status::Restarting => {
                return Err(Error::conflict(format!(
                    "Container {} is restarting, wait until the container is running",
                    record.id
                )));
            }
            _ => return Err(Error::conflict(format!("container {} is not running", record.id))),
        }
        let mut pids = self.cgroup(&container)?.pids().map_err(|e| {
            Error::internal(format!("cannot list the processes of container {}", record.id))
                .caused_by(e)
        })?;
        pids.sort_unstable();
        let host = Host::read();
        let processes =
            pids.into_iter().filter_map(|pid| Process::read(pid, &host)).collect::<Vec<_>>();
        Ok(Table {
            titles: columns.iter().map(|c| c.title.to_owned()).collect(),
            processes: processes
                .iter()
                .map(|p| columns.iter().map(|c| (c.value)(p, &host)).collect())
                .collect(),
        })
    }
}

/// What is true of the whole host at the time of the call.
struct Host {
    users: HashMap<u32, String>,
    uptime: u64,
    memory_kib: u64,
    /// Unix seconds of the boot.
    booted: i64,
}

impl Host {
    fn read() -> Self {
        let small = fs::metadata("/etc/passwd").is_ok_and(|m| m.len() <= PASSWD_MAX);
        let passwd = if small {
            fs::read_to_string("/etc/passwd").unwrap_or_default()
        } else {
            String::new()
        };
        let users = passwd
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next()?;
                Some((fields.nth(1)?.parse().ok()?, name.to_owned()))
            })
            .collect();
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = uptime.split(['.', ' ']).next().and_then(|s| s.parse().ok()).unwrap_or(0);
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib =
            meminfo.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(1);
        let booted = base::Timestamp::now().unix() - i64::try_from(uptime).unwrap_or(0);
        Self { users, uptime, memory_kib, booted }
    }

    fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

struct Process {
    pid: i32,
    ppid: i32,
    uid: u32,
    gid: u32,
    state: String,
    comm: String,
    args: String,
    tty: String,
    ticks: u64,
    started: u64,
    nice: i64,
    priority: i64,
    vsz_kib: u64,
    rss_kib: u64,
    threads: u64,
    session_leader: bool,
    foreground: bool,
}

impl Process {
    fn read(pid: i32, host: &Host) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let (head, tail) = stat.rsplit_once(')')?;
        let comm = head.split_once('(')?.1.to_owned();
        let f: Vec<&str> = tail.split_whitespace().collect();
        let number = |at: usize| -> i64 { f.get(at).and_then(|s| s.parse().ok()).unwrap_or(0) };
        let positive = |at: usize| u64::try_from(number(at)).unwrap_or(0);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let id = |key: &str| -> u32 {
            let line = status.lines().find_map(|l| l.strip_prefix(key));
            line.and_then(|l| l.split_whitespace().nth(1)).and_then(|s| s.parse().ok()).unwrap_or(0)
        };
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&cmdline).trim_end_matches('\0').replace('\0', " ");
        let device = positive(4);
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        let tty = match (device, major) {
            (0, _) => "?".to_owned(),
            (_, 136..=143) => format!("pts/{}", (major - 136) * 256 + minor),
            (_, 4) => format!("tty{minor}"),
            _ => "?".to_owned(),
        };
        let _ = host;
        Some(Self {
            pid,
            ppid: number(1) as i32,
            uid: id("Uid:"),
            gid: id("Gid:"),
            state: f.first().map_or("?", |s| *s).to_owned(),
            args: if args.is_empty() { format!("[{comm}]") } else { args },
            comm,
            tty,
            ticks: positive(11) + positive(12),
            started: positive(19) / TICKS,
            nice: number(16),
            priority: number(15),
            vsz_kib: positive(20) / 1024,
            rss_kib: positive(21) * PAGE_KIB,
            threads: positive(17),
            session_leader: number(3) == i64::from(pid),
            foreground: number(2) == number(5),
        })
    }

    fn alive_seconds(&self, host: &Host) -> u64 {
        host.uptime.saturating_sub(self.started)
    }

    fn cpu_tenths(&self, host: &Host) -> u64 {
        (self.ticks * 1000 / TICKS).checked_div(self.alive_seconds(host).max(1)).unwrap_or(0)
    }
}

struct Column {
    names: &'static [&'static str],
    title: &'static str,
    value: fn(&Process, &Host) -> String,
}

fn clock(seconds: u64) -> String {
    let (days, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}-{h:02}:{m:02}:{s:02}") } else { format!("{h:02}:{m:02}:{s:02}") }
}

fn elapsed(seconds: u64) -> String {
    match seconds {
        s if s < 3600 => format!("{:02}:{:02}", s / 60, s % 60),
        s => clock(s),
    }
}

/// Start time: the hour today, else month and day (UTC, as the engine's other times).
fn start_time(p: &Process, host: &Host) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = base::Timestamp::from_unix(host.booted + i64::try_from(p.started).unwrap_or(0), 0)
        .to_string();
    if p.alive_seconds(host) < 86_400 {
        return at[11..16].to_owned();
    }
    let month = at[5..7].parse::<usize>().unwrap_or(1);
    format!("{}{}", MONTHS[(month - 1) % 12], &at[8..10])
}

const COLUMNS: &[Column] = &[
    Column { names: &["pid"], title: "PID", value: |p, _| p.pid.to_string() },
    Column { names: &["ppid"], title: "PPID", value: |p, _| p.ppid.to_string() },
    Column {
        names: &["user", "euser", "uname", "ruser"],
        title: "USER",
        value: |p, h| h.user(p.uid),
    },
    Column { names: &["uid", "euid"], title: "UID", value: |p, _| p.uid.to_string() },
    Column { names: &["gid", "egid"], title: "GID", value: |p, _| p.gid.to_string() },
    Column { names: &["c"], title: "C", value: |p, h| (p.cpu_tenths(h) / 10).to_string() },
    Column { names: &["pcpu", "%cpu"], title: "%CPU", value: |p, h| tenths(p.cpu_tenths(h)) },
    Column {
        names: &["pmem", "%mem"],
        title: "%MEM",
        value: |p, h| tenths(p.rss_kib * 1000 / h.memory_kib.max(1)),
    },
    Column {
        names: &["stime", "start", "start_time", "bsdstart"],
        title: "STIME",
        value: start_time,
    },
    Column { names: &["tty", "tt", "tname"], title: "TTY", value: |p, _| p.tty.clone() },
    Column { names: &["time", "cputime"], title: "TIME", value: |p, _| clock(p.ticks / TICKS) },
    Column { names: &["etime"], title: "ELAPSED", value: |p, h| elapsed(p.alive_seconds(h)) },
    Column { names: &["etimes"], title: "ELAPSED", value: |p, h| p.alive_seconds(h).to_string() },
    Column { names: &["cmd", "args", "command"], title: "CMD", value: |p, _| p.args.clone() },
    Column { names: &["comm", "ucmd", "ucomm"], title: "COMMAND", value: |p, _| p.comm.clone() },
    Column { names: &["stat"], title: "STAT", value: stat },
    Column { names: &["s", "state"], title: "S", value: |p, _| p.state.clone() },
    Column { names: &["ni", "nice"], title: "NI", value: |p, _| p.nice.to_string() },
    Column { names: &["pri", "priority"], title: "PRI", value: |p, _| p.priority.to_string() },
    Column { names: &["vsz", "vsize"], title: "VSZ", value: |p, _| p.vsz_kib.to_string() },
    Column { names: &["rss", "rssize", "rsz"], title: "RSS", value: |p, _| p.rss_kib.to_string() },
    Column { names: &["nlwp", "thcount"], title: "NLWP", value: |p, _| p.threads.to_string() },
];

fn tenths(value: u64) -> String {
    format!("{}.{}", value / 10, value % 10)
}

fn stat(p: &Process, _: &Host) -> String {
    let mut text = p.state.clone();
    if p.nice < 0 {
        text.push('<');
    }
    if p.nice > 0 {
        text.push('N');
    }
    if p.session_leader {
        text.push('s');
    }
    if p.threads > 1 {
        text.push('l');
    }
    if p.foreground {
        text.push('+');
    }
    text
}

struct Chosen {
    title: String,
    value: fn(&Process, &Host) -> String,
}

/// The columns that ps arguments mean.
fn columns(arguments: &str) -> Result<Vec<Chosen>> {
    let unknown = |what: &str| {
        Error::invalid(format!(
            "unsupported ps argument {what:?}: use -ef, aux, or -o with {}",
            COLUMNS.iter().map(|c| c.names[0]).collect::<Vec<_>>().join(", ")
        ))
    };
    let mut chosen: Vec<Chosen> = Vec::new();
    let named = |list: &[(&str, &str)]| -> Vec<Chosen> {
        list.iter()
            .filter_map(|(name, title)| {
                let column = COLUMNS.iter().find(|c| c.names.contains(name))?;
                Some(Chosen { title: (*title).to_owned(), value: column.value })
            })
            .collect()
    };
    let full = [
        ("user", "UID"),
        ("pid", "PID"),
        ("ppid", "PPID"),
        ("c", "C"),
        ("stime", "STIME"),
        ("tty", "TTY"),
        ("time", "TIME"),
        ("cmd", "CMD"),
    ];
    let bsd = [
        ("user", "USER"),
        ("pid", "PID"),
        ("pcpu", "%CPU"),
        ("pmem", "%MEM"),
        ("vsz", "VSZ"),
        ("rss", "RSS"),
        ("tty", "TTY"),
        ("stat", "STAT"),
        ("stime", "START"),
        ("time", "TIME"),
        ("cmd", "COMMAND"),
    ];
    let short = [("pid", "PID"), ("tty", "TTY"), ("time", "TIME"), ("comm", "CMD")];
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        let list = match word {
            "-o" | "o" | "-eo" | "-Ao" | "--format" | "-axo" | "axo" => {
                words.next().ok_or_else(|| unknown(word))?
            }
            word => match word
                .strip_prefix("-eo")
                .or(word.strip_prefix("-o"))
                .or(word.strip_prefix("--format="))
            {
                Some(list) => list,
                None => {
                    chosen = match word.trim_start_matches('-') {
                        "ef" | "f" | "fe" | "Af" => named(&full),
                        "aux" | "u" | "auxww" | "axu" | "uax" => named(&bsd),
                        "e" | "A" | "a" | "x" | "ax" => named(&short),
                        _ => return Err(unknown(word)),
                    };
                    continue;
                }
            },
        };
        for item in list.split(',') {
            let (name, title) = item.split_once('=').unwrap_or((item, ""));
            let column =
                COLUMNS.iter().find(|c| c.names.contains(&name)).ok_or_else(|| unknown(item))?;
            let title = if title.is_empty() { column.title } else { title };
            chosen.push(Chosen { title: title.to_owned(), value: column.value });
        }
    }
    if chosen.is_empty() {
        chosen = named(&full);
    }
    // Docker matches processes by this column and refuses formats without it.
    if !chosen.iter().any(|c| c.title == "PID") {
        return Err(Error::invalid("Couldn't find PID field in ps output"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_formats_have_the_usual_titles() {
        let titles = |text: &str| {
            columns(text).unwrap().into_iter().map(|c| c.title).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(titles(""), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles("-ef"), titles(""));
        assert!(titles("aux").starts_with("USER PID %CPU %MEM"));
        assert_eq!(titles("-o pid,comm=NAME,etime"), "PID NAME ELAPSED");
        assert!(columns("-o comm").is_err());
        assert!(columns("--bogus").is_err());
    }

    #[test]
    fn this_process_can_be_read() {
        let host = Host::read();
        let me = Process::read(std::process::id() as i32, &host).unwrap();
        assert!(me.rss_kib > 0 && !me.args.is_empty());
    }
}
