//! The columns of ps(1) by name.

use super::process::{Host, Process, TICKS};

/// One column.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) value: fn(&Process, &Host) -> String,
}

const fn column(
    name: &'static str,
    title: &'static str,
    value: fn(&Process, &Host) -> String,
) -> Column {
    Column { name, title, value }
}

/// Looks a column up by one of its names.
pub(super) fn find(name: &str) -> Option<&'static Column> {
    let known = |name: &str| COLUMNS.iter().find(|c| c.name == name);
    known(name).or_else(|| {
        let (_, name) = SYNONYMS.iter().find(|(other, _)| *other == name)?;
        known(name)
    })
}

/// All names, for messages.
pub(super) fn names() -> String {
    COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
}

const SYNONYMS: &[(&str, &str)] = &[
    ("tgid", "pid"),
    ("%cpu", "pcpu"),
    ("%mem", "pmem"),
    ("uname", "user"),
    ("euser", "user"),
    ("euid", "uid"),
    ("egid", "gid"),
    ("egroup", "group"),
    ("tt", "tty"),
    ("tname", "tty"),
    ("cputime", "time"),
    ("command", "args"),
    ("ucmd", "comm"),
    ("ucomm", "comm"),
    ("state", "s"),
    ("nice", "ni"),
    ("priority", "pri"),
    ("vsize", "vsz"),
    ("rssize", "rss"),
    ("rsz", "rss"),
    ("thcount", "nlwp"),
    ("tid", "lwp"),
    ("spid", "lwp"),
    ("pgrp", "pgid"),
    ("sess", "sid"),
    ("session", "sid"),
    ("flag", "f"),
    ("flags", "f"),
    ("min_flt", "minflt"),
    ("maj_flt", "majflt"),
    ("policy", "cls"),
    ("start_time", "stime"),
    ("bsdstart", "start"),
];

const COLUMNS: &[Column] = &[
    column("pid", "PID", |p, _| p.pid.to_string()),
    column("ppid", "PPID", |p, _| p.ppid.to_string()),
    column("user", "USER", |p, h| h.user(p.uids[1])),
    column("ruser", "RUSER", |p, h| h.user(p.uids[0])),
    column("suser", "SUSER", |p, h| h.user(p.uids[2])),
    column("uid", "UID", |p, _| p.uids[1].to_string()),
    column("ruid", "RUID", |p, _| p.uids[0].to_string()),
    column("gid", "GID", |p, _| p.gids[1].to_string()),
    column("rgid", "RGID", |p, _| p.gids[0].to_string()),
    column("group", "GROUP", |p, h| h.group(p.gids[1])),
    column("rgroup", "RGROUP", |p, h| h.group(p.gids[0])),
    column("c", "C", |p, h| (p.cpu_tenths(h) / 10).to_string()),
    column("pcpu", "%CPU", |p, h| tenths(p.cpu_tenths(h))),
    column("pmem", "%MEM", |p, h| tenths(p.rss_kib * 1000 / h.memory_kib.max(1))),
    column("stime", "STIME", start_time),
    column("start", "STARTED", start_time),
    column("lstart", "STARTED", |p, h| long_time(h.booted + p.started as i64)),
    column("tty", "TTY", |p, _| p.tty.clone()),
    column("time", "TIME", |p, _| clock(p.ticks / TICKS)),
    column("times", "TIME", |p, _| (p.ticks / TICKS).to_string()),
    column("etime", "ELAPSED", |p, h| elapsed(p.alive_seconds(h))),
    column("etimes", "ELAPSED", |p, h| p.alive_seconds(h).to_string()),
    column("cmd", "CMD", |p, _| p.args.clone()),
    column("args", "COMMAND", |p, _| p.args.clone()),
    column("comm", "COMMAND", |p, _| p.comm.clone()),
    column("stat", "STAT", stat),
    column("s", "S", |p, _| p.state.clone()),
    column("ni", "NI", |p, _| p.number(16).to_string()),
    // ps turns the kernel's number round.
    column("pri", "PRI", |p, _| (39 - p.number(15)).to_string()),
    column("rtprio", "RTPRIO", |p, _| dash(p.number(37))),
    column("cls", "CLS", |p, _| class(p.number(38)).to_owned()),
    column("vsz", "VSZ", |p, _| p.vsz_kib.to_string()),
    column("rss", "RSS", |p, _| p.rss_kib.to_string()),
    column("sz", "SZ", |p, _| (p.vsz_kib / 4).to_string()),
    column("nlwp", "NLWP", |p, _| p.threads.to_string()),
    column("lwp", "LWP", |p, _| p.tid.to_string()),
    column("pgid", "PGID", |p, _| p.number(2).to_string()),
    column("sid", "SID", |p, _| p.number(3).to_string()),
    column("tpgid", "TPGID", |p, _| p.number(5).to_string()),
    column("f", "F", |p, _| format!("{:o}", (p.number(6) >> 6) & 7)),
    column("minflt", "MINFLT", |p, _| p.number(7).to_string()),
    column("majflt", "MAJFLT", |p, _| p.number(9).to_string()),
    column("psr", "PSR", |p, _| p.number(36).to_string()),
    column("addr", "ADDR", |_, _| "-".to_owned()),
    column("wchan", "WCHAN", |p, _| match p.wchan.as_str() {
        "" | "0" => "-".to_owned(),
        name => name.to_owned(),
    }),
    column("cgroup", "CGROUP", |p, _| p.cgroup.lines().collect::<Vec<_>>().join(",")),
];

fn dash(number: i64) -> String {
    if number == 0 { "-".to_owned() } else { number.to_string() }
}

fn class(policy: i64) -> &'static str {
    match policy {
        0 => "TS",
        1 => "FF",
        2 => "RR",
        3 => "B",
        5 => "IDL",
        6 => "DLN",
        _ => "?",
    }
}

fn tenths(value: u64) -> String {
    format!("{}.{}", value / 10, value % 10)
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

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Start time: the hour today, else month and day (UTC, as the engine's other times).
fn start_time(p: &Process, host: &Host) -> String {
    let at = base::Timestamp::from_unix(host.booted + i64::try_from(p.started).unwrap_or(0), 0)
        .to_string();
    if p.alive_seconds(host) < 86_400 {
        return at[11..16].to_owned();
    }
    let month = at[5..7].parse::<usize>().unwrap_or(1);
    format!("{}{}", MONTHS[(month - 1) % 12], &at[8..10])
}

/// `Mon Nov 30 04:00:00 2026`.
fn long_time(unix: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let at = base::Timestamp::from_unix(unix, 0).to_string();
    let month = at[5..7].parse::<usize>().unwrap_or(1);
    let day = DAYS[usize::try_from(unix.div_euclid(86_400).rem_euclid(7)).unwrap_or(0)];
    let number = at[8..10].trim_start_matches('0');
    format!("{day} {} {number:>2} {} {}", MONTHS[(month - 1) % 12], &at[11..19], &at[..4])
}

fn stat(p: &Process, _: &Host) -> String {
    let mut text = p.state.clone();
    let nice = p.number(16);
    if nice < 0 {
        text.push('<');
    }
    if nice > 0 {
        text.push('N');
    }
    if p.number(3) == i64::from(p.pid) {
        text.push('s');
    }
    if p.threads > 1 {
        text.push('l');
    }
    if p.number(2) == p.number(5) {
        text.push('+');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_ps_prints_them() {
        assert_eq!(long_time(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(long_time(1_796_000_000), "Mon Nov 30 00:53:20 2026");
        assert_eq!((elapsed(61).as_str(), clock(90_061).as_str()), ("01:01", "1-01:01:01"));
    }

    #[test]
    fn synonyms_lead_somewhere() {
        for (other, name) in SYNONYMS {
            assert!(find(other).is_some_and(|c| c.name == *name), "{other}");
        }
    }
}
