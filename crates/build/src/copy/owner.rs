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

/// Reads an octal mode.
pub(super) fn parse_mode(text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Error::invalid(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
    })
}
