//! Sockets of the API: bound before anything else, so that clients queue while the engine opens.
//!
//! Invariants: a unix socket has mode 0660 from its first moment; a socket on which another daemon answers
//! is never taken away; only sockets that this process made are removed at the end.

use super::hosts::Host;
use base::{Error, Result};
use std::{
    io::ErrorKind,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

/// The group that owns unix sockets when none is given, as with dockerd.
const GROUP: &str = "docker";

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Bound {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Socket files this process made; removed when dropped, unless someone else has replaced them.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<(PathBuf, Mark)>);

/// Tells a file from another one later at its place; numbers of inodes come round again.
type Mark = (u64, u64, i64, i64);

fn mark(path: &Path) -> std::io::Result<Mark> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

impl Drop for Files {
    fn drop(&mut self) {
        for (path, made) in &self.0 {
            let ours = mark(path).is_ok_and(|m| m == *made);
            if ours {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Binds every host. Called while the process has one thread, because the file mode mask is the process's.
///
/// # Errors
/// `Conflict` when another daemon listens there; of the system otherwise.
pub(crate) fn bind(hosts: &[Host], group: Option<&str>) -> Result<(Vec<Bound>, Files)> {
    let mut bound = Vec::new();
    let mut files = Files::default();
    let mut passed: Option<Vec<sys::activation::Socket>> = None;
    for host in hosts {
        match host {
            Host::Unix(path) => bound.push(unix(path, group, &mut files)?),
            Host::Tcp(address) => bound.push(tcp(address)?),
            Host::Passed(which) => {
                let sockets = passed.get_or_insert_with(sys::activation::take);
                bound.extend(activated(sockets, which)?);
            }
        }
    }
    Ok((bound, files))
}

fn unix(path: &Path, group: Option<&str>, files: &mut Files) -> Result<Bound> {
    let shown = path.display();
    let failed = |err| Error::io(format!("cannot listen on unix://{shown}"), err);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    clear_way(path)?;
    let group = match group {
        Some(name) => Some(group_id(name).ok_or_else(|| {
            Error::invalid(format!("cannot listen on unix://{shown}: group {name} not found"))
        })?),
        None => group_id(GROUP),
    };
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener.map_err(failed)?;
    files.0.push((path.to_owned(), mark(path).map_err(failed)?));
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(failed)?;
    }
    // Some file systems apply no mask to sockets.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound::Unix(listener))
}

/// Removes a socket that nobody listens on any more.
fn clear_way(path: &Path) -> Result<()> {
    let shown = path.display();
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(Error::io(format!("cannot look at {shown}"), err)),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::conflict(format!(
            "cannot listen on unix://{shown}: a file that is no socket is there"
        )));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Error::conflict(format!(
            "cannot listen on unix://{shown}: another daemon listens there"
        )));
    }
    std::fs::remove_file(path)
        .map_err(|err| Error::io(format!("cannot remove the old socket {shown}"), err))
}

/// Binds the address of metrics.
///
/// # Errors
/// Of the system.
pub(crate) fn metrics(address: &str) -> Result<TcpListener> {
    let failed = |err| Error::io(format!("cannot serve metrics on {address}"), err);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn tcp(address: &str) -> Result<Bound> {
    let failed = |err| Error::io(format!("cannot listen on tcp://{address}"), err);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Bound::Tcp(listener))
}

fn activated(sockets: &mut Vec<sys::activation::Socket>, which: &str) -> Result<Vec<Bound>> {
    let chosen: Vec<_> = if which.is_empty() || which == "*" {
        std::mem::take(sockets)
    } else {
        let at = sockets.iter().position(|s| s.number.to_string() == which || s.name == which);
        at.map(|at| sockets.remove(at)).into_iter().collect()
    };
    if chosen.is_empty() {
        return Err(Error::invalid(format!(
            "no sockets found via socket activation for fd://{which}: make sure the service was started by systemd"
        )));
    }
    chosen.into_iter().map(|s| adopt(s.fd)).collect()
}

fn adopt(fd: OwnedFd) -> Result<Bound> {
    use rustix::net::{AddressFamily, sockopt};
    let failed = |err: std::io::Error| Error::io("cannot use a socket passed by systemd", err);
    let family = sockopt::socket_domain(&fd).map_err(|e| failed(e.into()))?;
    let listening = sockopt::socket_acceptconn(&fd).map_err(|e| failed(e.into()))?;
    if !listening {
        return Err(Error::invalid("a socket passed by systemd does not listen"));
    }
    if family == AddressFamily::UNIX {
        let listener = UnixListener::from(fd);
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Bound::Unix(listener))
    } else {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Bound::Tcp(listener))
    }
}

/// Number of a group by name or number, from `/etc/group`.
fn group_id(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_for_owner_and_group_and_goes_with_its_maker() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/x.sock");
        let hosts = [Host::Unix(path.clone())];
        let (bound, files) = bind(&hosts, Some("0")).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        // Another daemon must not take a living socket.
        assert_eq!(bind(&hosts, None).unwrap_err().kind(), base::Kind::Conflict);
        drop(bound);
        // A stale one is replaced, and then belongs to the second.
        let (_bound, second) = bind(&hosts, None).unwrap();
        drop(files);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&[Host::Unix(path.clone())], None).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert!(bind(&[Host::Unix(dir.path().join("y"))], Some("no-such-group-here")).is_err());
        assert!(!dir.path().join("y").exists());
    }

    #[test]
    fn without_systemd_there_is_no_passed_socket() {
        assert!(bind(&[Host::Passed(String::new())], None).is_err());
    }
}
