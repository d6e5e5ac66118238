//! `--chown` and `--chmod`: names are looked up in the image, not on the host.

use crate::limits;
use base::{Error, Result};
use std::{fs::File, io::Read as _, path::Path};
use sys::root::{Kind, Root, stat_open};

/// Who files are to belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// Reads `user[:group]`; a user alone stands for the group of that name or number too.
    ///
    /// # Errors
    /// `Invalid` when the image has no such user or group.
    pub fn parse(text: &str, root: &Root) -> Result<Self> {
        let (user, group) = match text.split(':').collect::<Vec<_>>()[..] {
            [user] => (user, user),
            [user, group] => (user, group),
            _ => return Err(Error::invalid(format!("invalid chown string format: {text}"))),
        };
        let uid = look_up(user, "/etc/passwd", root).map_err(|cause| {
            Error::invalid(format!("can't find uid for user {user}")).caused_by(cause)
        })?;
        let gid = look_up(group, "/etc/group", root).map_err(|cause| {
            Error::invalid(format!("can't find gid for group {group}")).caused_by(cause)
        })?;
        let (Some(uid), Some(gid)) = (uid, gid) else {
            let (kind, name) = if uid.is_none() { ("user", user) } else { ("group", group) };
            let id = if uid.is_none() { "uid" } else { "gid" };
            return Err(Error::invalid(format!("can't find {id} for {kind} {name}"))
                .caused_by(Error::invalid(format!("no such {kind}: {name}"))));
        };
        Ok(Self { uid, gid })
    }
}

/// A number, or the third field of the line that starts with `name`.
fn look_up(name: &str, path: &str, root: &Root) -> Result<Option<u32>> {
    if let Ok(id) = name.parse() {
        return Ok(Some(id));
    }
    let text = match root.open_file(path) {
        Ok(file) => read(file, Path::new(path))?,
        Err(err) => return Err(super::failed(format!("cannot read {path}"), err)),
    };
    let line = text.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == name);
    Ok(line.and_then(|fields| fields.get(2)?.trim().parse().ok()))
}

fn read(file: File, path: &Path) -> Result<String> {
    let fail = |e| Error::io(format!("cannot read {}", path.display()), e);
    let stat = stat_open(&file).map_err(|e| fail(e.into()))?;
    if stat.kind != Kind::File || stat.size > limits::PASSWD_BYTES {
        return Err(Error::invalid(format!("{} is no file of a reasonable size", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(limits::PASSWD_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What `--chmod` makes of a file's mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// These bits.
    Set(u32),
    /// chmod(1)'s words, in order.
    Change(Vec<Clause>),
}

/// One `u+rx` of a symbolic mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Bits of the classes meant, all twelve of them.
    who: u32,
    op: char,
    perms: String,
}

impl Mode {
    /// Reads an octal or symbolic mode (`u=rwX,go-w`).
    ///
    /// # Errors
    /// `Invalid` when it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return parse_mode(text).map(Self::Set);
        }
        let bad = || Error::invalid(format!("invalid chmod parameter: '{text}'"));
        let clauses = text.split(',').map(|part| {
            let at = part.find(['+', '-', '=']).ok_or_else(bad)?;
            let mut who = 0;
            for class in part[..at].chars() {
                who |= match class {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return Err(bad()),
                };
            }
            let perms = part[at + 1..].to_owned();
            if !perms.chars().all(|c| "rwxXst".contains(c)) {
                return Err(bad());
            }
            let op = part[at..].chars().next().ok_or_else(bad)?;
            Ok(Clause { who: if who == 0 { 0o7777 } else { who }, op, perms })
        });
        clauses.collect::<Result<_>>().map(Self::Change)
    }

    /// The mode of a file or folder that has `own`.
    pub fn of(&self, own: u32, folder: bool) -> u32 {
        let clauses = match self {
            Self::Set(mode) => return *mode,
            Self::Change(clauses) => clauses,
        };
        let mut mode = own & 0o7777;
        for clause in clauses {
            let mut bits = 0;
            for perm in clause.perms.chars() {
                bits |= match perm {
                    'r' => 0o444,
                    'w' => 0o222,
                    'X' if !folder && mode & 0o111 == 0 => 0,
                    'x' | 'X' => 0o111,
                    's' => 0o6000,
                    _ => 0o1000,
                };
            }
            bits &= clause.who;
            mode = match clause.op {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(clause.who & 0o777) | bits,
            };
        }
        mode
    }
}

/// Reads an octal mode.
pub(super) fn parse_mode(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Error::invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_does() {
        let of = |text: &str, own, folder| Mode::parse(text).unwrap().of(own, folder);
        assert_eq!(of("0750", 0o644, false), 0o750);
        assert_eq!(of("u+x", 0o644, false), 0o744);
        assert_eq!(of("go-rwx", 0o755, false), 0o700);
        assert_eq!(of("a=rX", 0o600, false), 0o444);
        assert_eq!(of("a=rX", 0o600, true), 0o555);
        assert_eq!(of("u=rwX,go=rX", 0o711, false), 0o755);
        assert_eq!(of("+t,u+s", 0o755, true), 0o5755);
        for bad in ["", "u", "u+q", "z+x", "99"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
