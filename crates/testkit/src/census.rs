//! A census of the host: what exists in the kernel and on disk that a container engine may leave behind.
//!
//! Taken before and after; the difference is readable text, one line per thing. On a machine where
//! other daemons come and go, [`Census::leftovers`] with marks counts only lines that bear one of them
//! (a path, a bridge name, a container's id).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Everything counted, as sorted lines `kind: thing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    lines: BTreeSet<String>,
}

impl Census {
    /// Counts processes, links, network namespaces, mounts, cgroups, packet filter tables, sockets in
    /// the abstract namespace, and all files below `dirs`.
    pub fn take(dirs: &[&Path]) -> Self {
        let mut lines = BTreeSet::new();
        processes(&mut lines);
        links(&mut lines);
        mounts(&mut lines);
        cgroups(Path::new("/sys/fs/cgroup"), &mut lines, 0);
        rules(&mut lines);
        abstract_sockets(&mut lines);
        for dir in dirs {
            files(dir, &mut lines);
        }
        Self { lines }
    }

    /// What is here and was not in `before`; with `marks`, only lines that hold one of them.
    pub fn leftovers(&self, before: &Self, marks: Option<&[String]>) -> Vec<String> {
        self.lines
            .difference(&before.lines)
            .filter(|line| {
                marks.is_none_or(|marks| marks.iter().any(|m| line.contains(m.as_str())))
            })
            .cloned()
            .collect()
    }

    /// All lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

fn processes(lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if command.is_empty() {
            continue; // a kernel thread, or gone already, or a zombie that its parent will fetch
        }
        let cgroup = String::from_utf8_lossy(&read("cgroup")).into_owned();
        let cgroup = cgroup.lines().find(|l| l.contains(":memory:") || l.starts_with("0::"));
        let cgroup = cgroup.and_then(|l| l.rsplit(':').next()).unwrap_or("/").to_owned();
        if let Ok(ns) = fs::read_link(entry.path().join("ns/net")) {
            lines.insert(format!("netns: {}", ns.display()));
        }
        lines.insert(format!("process: {pid} {} in {cgroup}", command.trim_end()));
    }
    for dir in ["/run/netns", "/run/docker/netns", "/var/run/docker/netns"] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            lines.insert(format!("netns file: {}", entry.path().display()));
        }
    }
}

fn links(lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let master = fs::read_link(entry.path().join("master")).unwrap_or_default();
        let master = master.file_name().map_or("-".into(), |n| n.to_string_lossy().into_owned());
        lines.insert(format!("link: {} master {master}", entry.file_name().to_string_lossy()));
    }
}

fn mounts(lines: &mut BTreeSet<String>) {
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        let mut words = line.split(' ').skip(3);
        let (root, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let fs_type = line.split(" - ").nth(1).unwrap_or("");
        lines.insert(format!("mount: {target} of {root} ({fs_type})"));
    }
}

fn cgroups(dir: &Path, lines: &mut BTreeSet<String>, depth: u8) {
    if depth > 12 {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if depth > 0 {
                lines.insert(format!("cgroup: {}", entry.path().display()));
            }
            cgroups(&entry.path(), lines, depth + 1);
        }
    }
}

/// Packet filter tables and chains, through the tool: the census must not trust our own netlink code.
fn rules(lines: &mut BTreeSet<String>) {
    for list in ["tables", "chains"] {
        let Ok(output) = Command::new("nft").args(["list", list]).output() else { continue };
        let mut table = String::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line = line.trim().trim_end_matches(" {");
            if line.starts_with("table") {
                table = line.to_owned();
                lines.insert(format!("nft: {table}"));
            } else if line.starts_with("chain") {
                lines.insert(format!("nft: {table} {line}"));
            }
        }
    }
    let Ok(output) = Command::new("nft").args(["list", "maps"]).output() else { return };
    let (mut table, mut map) = (String::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines().map(str::trim) {
        let head = line.trim_end_matches(" {");
        if line.starts_with("table") {
            table = head.to_owned();
        } else if line.starts_with("map") {
            map = head.to_owned();
        } else if line.contains(" : ") {
            lines.insert(format!("nft: {table} {map}: {line}"));
        }
    }
}

fn abstract_sockets(lines: &mut BTreeSet<String>) {
    for line in fs::read_to_string("/proc/net/unix").unwrap_or_default().lines() {
        if let Some(name) = line.split_whitespace().nth(7).filter(|n| n.starts_with('@')) {
            lines.insert(format!("abstract socket: {name}"));
        }
    }
}

fn files(dir: &Path, lines: &mut BTreeSet<String>) {
    let mut queue: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            lines.insert(format!("file: {}", entry.path().display()));
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                queue.push(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_left_behind_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let before = Census::take(&[dir.path()]);
        fs::write(dir.path().join("left"), "x").unwrap();
        let after = Census::take(&[dir.path()]);
        let mark = [dir.path().display().to_string()];
        let left = after.leftovers(&before, Some(&mark));
        assert_eq!(left, [format!("file: {}/left", dir.path().display())]);
        assert!(after.lines().any(|l| l.starts_with("process: 1 ")));
    }
}
