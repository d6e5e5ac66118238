//! Labels files for SELinux: a file, or a folder with all that is in it.
//!
//! Invariants: the tree is the one that was opened, and what the host needs as it is was refused by where that lies, so
//! that no link, also none that is put there meanwhile, leads a label elsewhere; the top is labelled last, so that its
//! label tells that all was done.
//! Source: opencontainers/selinux (which folders are refused; what has no labels is passed over), as Docker uses it.

use crate::{error, walk::walk};
use base::{Error, Result};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};
use sys::root::{self, Dir, Kind};

/// What no container may have relabelled with all that is in it: the host could not work any more.
const KEPT: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// Gives what is at `path`, links followed, and all that is in it the label `label`. Files without labels, as those of
/// other machines, stay without.
///
/// # Errors
/// `Invalid` in docker's words for what the host needs as it is; of the kernel.
pub fn relabel(path: &Path, label: &str) -> Result<()> {
    let fail = |e| error::io(format!("cannot label {}", path.display()), e);
    let (top, place) = open(path).map_err(fail)?;
    if KEPT.iter().any(|kept| place == Path::new(kept)) {
        return Err(Error::invalid(format!(
            "SELinux relabeling of {} is not allowed",
            place.display()
        )));
    }
    if root::stat_open(&top).map_err(fail)?.kind == Kind::Dir {
        let dir = Dir::open(Path::new(&format!("/proc/self/fd/{}", top.as_raw_fd())));
        return dir.and_then(|dir| all_in(dir, label)).map_err(fail);
    }
    has_or_passed(sys::selinux::set_label(&top, label)).map_err(fail)
}

/// Opens `path` as a place alone; gives it with where it lies by the kernel's account.
fn open(path: &Path) -> root::Result<(OwnedFd, PathBuf)> {
    let fail = |call| move |e| root::Error::new(call, path, e);
    let top = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(fail("open"))?;
    let link = format!("/proc/self/fd/{}", top.as_raw_fd());
    let place = std::fs::read_link(link)
        .map_err(|e| fail("readlink")(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    Ok((top, place))
}

/// Labels all that is in `top`, and `top`.
pub(crate) fn all_in(top: Dir, label: &str) -> root::Result<()> {
    walk(top.try_clone()?, |here| {
        if here.dir.label(here.name)?.as_deref() != Some(label) {
            match here.dir.set_label(here.name, label) {
                // It vanished meanwhile.
                Err(e) if e.is_missing() => {}
                done => has_or_passed(done)?,
            }
        }
        Ok::<_, root::Error>(true)
    })?;
    has_or_passed(top.set_own_label(label))
}

fn has_or_passed(done: root::Result<()>) -> root::Result<()> {
    match done {
        Err(e) if e.errno() == Errno::OPNOTSUPP => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_the_host_needs_is_not_relabelled() {
        for kept in ["/", "/usr", "/usr/", "/etc", "/home", "/var/lib", "/usr/../etc"] {
            let err = relabel(Path::new(kept), "u:r:t").unwrap_err();
            assert!(err.to_string().contains("is not allowed"), "{kept}: {err}");
        }
        let missing = relabel(Path::new("/no/such/folder"), "u:r:t").unwrap_err().chain();
        assert!(missing.contains("/no/such/folder"), "{missing}");
    }

    #[test]
    fn a_link_to_what_the_host_needs_is_no_way_round() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink("/usr", &link).unwrap();
        let err = relabel(&link, "u:r:t").unwrap_err().to_string();
        assert_eq!(err, "SELinux relabeling of /usr is not allowed");
    }

    /// Without SELinux anyone may give files any label, as an attribute like others.
    #[test]
    fn a_tree_is_labelled_with_its_links_but_not_what_they_lead_to() {
        let all = tempfile::tempdir().unwrap();
        let (top, outside) = (all.path().join("top"), all.path().join("outside"));
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::fs::write(top.join("a/b/file"), b"").unwrap();
        std::fs::write(&outside, b"").unwrap();
        symlink("../outside", top.join("link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        relabel(&top, label).unwrap();
        let of = |path: &str| {
            let path = all.path().join(path);
            let dir = Dir::open(path.parent().unwrap()).unwrap();
            dir.label(path.file_name().unwrap()).unwrap()
        };
        for path in ["top", "top/a", "top/a/b", "top/a/b/file", "top/link"] {
            assert_eq!(of(path).as_deref(), Some(label), "{path}");
        }
        assert_ne!(of("outside").as_deref(), Some(label));
        relabel(&outside, label).unwrap();
        assert_eq!(of("outside").as_deref(), Some(label), "a file alone");
    }
}
