//! Users and groups of a user namespace beside the host's.
//!
//! Invariants: a number that no range holds has no counterpart; the kernel shows it as [`NOBODY`].
//! Source: user_namespaces(7), mount_setattr(2) (`MOUNT_ATTR_IDMAP`), setfsuid(2).

use crate::caps;
use serde::{Deserialize, Serialize};
use std::{fmt::Write as _, fs, io, path::Path};

/// What the kernel shows for a number that is not mapped (`/proc/sys/kernel/overflowuid`).
pub const NOBODY: u32 = 65534;
/// As many ranges as the kernel takes.
pub const MOST_RANGES: usize = 340;

/// Consecutive numbers. The names are those of the OCI runtime specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first inside.
    #[serde(rename = "containerID")]
    pub inside: u32,
    /// The first outside.
    #[serde(rename = "hostID")]
    pub outside: u32,
    /// How many.
    pub size: u32,
}

impl Range {
    fn out(self, inside: u32) -> Option<u32> {
        let offset = inside.checked_sub(self.inside).filter(|o| *o < self.size)?;
        self.outside.checked_add(offset)
    }

    fn find(self, outside: u32) -> Option<u32> {
        let offset = outside.checked_sub(self.outside).filter(|o| *o < self.size)?;
        self.inside.checked_add(offset)
    }
}

/// The users and groups of one user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    /// Users.
    pub users: Vec<Range>,
    /// Groups.
    pub groups: Vec<Range>,
}

impl Maps {
    /// The host's number of a user inside.
    pub fn user_outside(&self, inside: u32) -> Option<u32> {
        self.users.iter().find_map(|r| r.out(inside))
    }

    /// The host's number of a group inside.
    pub fn group_outside(&self, inside: u32) -> Option<u32> {
        self.groups.iter().find_map(|r| r.out(inside))
    }

    /// The number inside of a user of the host.
    pub fn user_inside(&self, outside: u32) -> u32 {
        self.users.iter().find_map(|r| r.find(outside)).unwrap_or(NOBODY)
    }

    /// The number inside of a group of the host.
    pub fn group_inside(&self, outside: u32) -> u32 {
        self.groups.iter().find_map(|r| r.find(outside)).unwrap_or(NOBODY)
    }

    /// The maps of the namespace that the process `pid` is in; `None` when it is the host's own.
    ///
    /// # Errors
    /// Of reading `/proc`; `InvalidData` for lines that are not the kernel's.
    pub fn of_process(pid: u32) -> io::Result<Option<Self>> {
        let own = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}"));
        if own("user")? == fs::read_link(format!("/proc/{pid}/ns/user"))? {
            return Ok(None);
        }
        let read = |file: &str| parse(&fs::read_to_string(format!("/proc/{pid}/{file}"))?);
        Ok(Some(Self { users: read("uid_map")?, groups: read("gid_map")? }))
    }

    /// Gives them to the new user namespace of the process `pid`, once.
    ///
    /// # Errors
    /// The kernel's: `EPERM` without rights over the numbers, `EINVAL` for ranges that overlap or are too many.
    pub fn write(&self, pid: u32) -> io::Result<()> {
        let folder = Path::new("/proc").join(pid.to_string());
        fs::write(folder.join("uid_map"), text(&self.users))?;
        fs::write(folder.join("gid_map"), text(&self.groups))
    }
}

fn text(ranges: &[Range]) -> String {
    let mut text = String::new();
    for range in ranges {
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.size);
    }
    text
}

fn parse(text: &str) -> io::Result<Vec<Range>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::parse);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(size)), None) => {
                Ok(Range { inside, outside, size })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("bad map line {line:?}"))),
        }
    };
    text.lines().map(line).collect()
}

/// Whether this process is in the user namespace that the machine started with, the only one that has devices.
pub fn in_first() -> bool {
    /// `PROC_USER_INIT_INO`, the same on every machine.
    const FIRST: u64 = 0xEFFF_FFFD;
    // Without /proc no container is made anyway.
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino == FIRST)
}

/// Makes and reads files as this user and group of the host, with all capabilities that this process may have. What
/// is made on mapped mounts has to belong to somebody who is mapped.
///
/// # Errors
/// The kernel's, of setting the capabilities; `EINVAL` when the kernel did not take the numbers.
pub fn act_as(user: u32, group: u32) -> io::Result<()> {
    // The calls tell the old number and no error; asked with an impossible number they tell the one in force.
    // SAFETY: no pointers; the numbers are this thread's alone.
    let now = unsafe {
        libc::syscall(libc::SYS_setfsgid, group);
        libc::syscall(libc::SYS_setfsuid, user);
        (libc::syscall(libc::SYS_setfsuid, -1_i64), libc::syscall(libc::SYS_setfsgid, -1_i64))
    };
    if now != (libc::c_long::from(user), libc::c_long::from(group)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // A user other than root loses what concerns files.
    let own = caps::current()?;
    caps::set(caps::Sets { effective: own.permitted, ..own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps() -> Maps {
        let users = vec![
            Range { inside: 0, outside: 100_000, size: 1000 },
            Range { inside: 1000, outside: 500_000, size: 10 },
        ];
        Maps { groups: vec![Range { inside: 0, outside: 7, size: 1 }], users }
    }

    #[test]
    fn numbers_are_found_in_their_range_both_ways() {
        let maps = maps();
        assert_eq!(maps.user_outside(0), Some(100_000));
        assert_eq!(maps.user_outside(999), Some(100_999));
        assert_eq!(maps.user_outside(1009), Some(500_009));
        assert_eq!(maps.user_outside(1010), None);
        assert_eq!(maps.user_inside(500_001), 1001);
        assert_eq!((maps.user_inside(0), maps.group_inside(8)), (NOBODY, NOBODY));
        assert_eq!((maps.group_outside(0), maps.group_inside(7)), (Some(7), 0));
        let last = Range { inside: 5, outside: u32::MAX, size: 2 };
        assert_eq!((last.out(5), last.out(6)), (Some(u32::MAX), None));
    }

    #[test]
    fn lines_of_the_kernel_are_read_as_they_are_written() {
        let maps = maps();
        assert_eq!(parse(&text(&maps.users)).unwrap(), maps.users);
        assert_eq!(parse("         0     100000      65536\n").unwrap()[0].size, 65536);
        for bad in ["0 1\n", "0 1 2 3\n", "a 1 2\n", "0 -1 2\n"] {
            assert_eq!(parse(bad).unwrap_err().kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
        assert_eq!(Maps::of_process(std::process::id()).unwrap(), None);
    }
}
