//! Detached overlay mounts: made by descriptor, attached nowhere, gone when the last descriptor is.
//!
//! Flow: fsopen("overlay"), one `lowerdir+` per layer (Linux 6.8; older kernels get one `lowerdir` text),
//! fsconfig(CREATE), fsmount. Settings are pinned, whatever the kernel was built with: no redirects, no metacopy, no index, so that an upper folder holds whole files that can become a layer.
//! Invariants: nothing appears in any mount table; `upper` and `work` are on one file system.
//! Source: Documentation/filesystems/overlayfs.rst, fsopen(2).

use crate::dir::{Dir, Error, Result};
use rustix::{
    fd::{AsRawFd as _, OwnedFd},
    fs::{Mode, OFlags},
    io::Errno,
    mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags},
};
use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// The folder that takes changes.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'p> {
    /// Where changed and new files go.
    pub upper: &'p Path,
    /// overlayfs's own scratch folder, empty.
    pub work: &'p Path,
    /// Skip all syncing (`volatile`): for trees that are thrown away after a crash anyway. Saves the
    /// sync of the whole file system that an unmount costs otherwise.
    pub volatile: bool,
}

/// Mounts `lower` (topmost first), with changes going to `upper` or read-only without, and gives the
/// root of the mount. With a `label` every file has this one of SELinux, whatever is stored.
///
/// # Errors
/// The kernel's, with its own words from the mount's log where it gave any in the subject.
pub fn mount(
    lower: &[impl AsRef<Path>],
    upper: Option<Upper<'_>>,
    label: Option<&str>,
) -> Result<OwnedFd> {
    let lower: Vec<&Path> = lower.iter().map(AsRef::as_ref).collect();
    // Below 6.5 overlayfs takes any option and says only in the end, with a line in the kernel's log, which
    // it does not know.
    if crate::system::kernel() < (6, 8) {
        return mount_joined(&lower, upper, label);
    }
    match mount_as(&lower, upper, label, Style::Single) {
        Err(e) if e.call() == NO_SINGLE => mount_joined(&lower, upper, label),
        done => done,
    }
}

/// How the lower folders are told to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// One by one, `lowerdir+`: Linux 6.8.
    Single,
    /// All in one text, relative to `/proc/self/fd`.
    Joined,
}

/// The call that fails on kernels without the single style.
const NO_SINGLE: &str = "fsconfig lowerdir+";

/// Before Linux 6.8: one text with `:` between, so the folders are named by descriptor numbers, relative
/// to `/proc/self/fd`. Some sixty layers fit. The working folder is changed for all of it: before 6.5 the
/// names are looked up by the last call.
fn mount_joined(lower: &[&Path], upper: Option<Upper<'_>>, label: Option<&str>) -> Result<OwnedFd> {
    let there = || {
        let dir = "/proc/self/fd";
        rustix::process::chdir(dir).map_err(|e| Error::new("chdir", dir, e))?;
        mount_as(lower, upper, label, Style::Joined)
    };
    // A process of one thread, such as the shim, must stay one: a thread is seen for a moment after its end.
    if crate::process::alone().is_ok() {
        let back = handle(Path::new("."))?;
        let done = there();
        rustix::process::fchdir(&back).map_err(|e| Error::new("fchdir", "working folder", e))?;
        return done;
    }
    let aside = || {
        let fail = |e| Error::new("unshare", "working folder", e);
        // SAFETY: unsharing the working folder affects this thread alone, which ends after the call.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }
            .map_err(fail)?;
        there()
    };
    let done = std::thread::scope(|scope| scope.spawn(aside).join());
    done.unwrap_or_else(|_| Err(Error::new("mount", "overlay", Errno::IO)))
}

fn mount_as(
    lower: &[&Path],
    upper: Option<Upper<'_>>,
    label: Option<&str>,
    style: Style,
) -> Result<OwnedFd> {
    let fail = |call| move |e| Error::new(call, "overlay", e);
    let fs = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
    let mut open = Vec::new();
    match style {
        Style::Single => {
            for path in lower {
                let path = short(path, &mut open)?;
                mount::fsconfig_set_string(&fs, "lowerdir+", path.as_path())
                    .map_err(|e| Error::new(NO_SINGLE, &path, e))?;
            }
        }
        Style::Joined => {
            let mut names = Vec::new();
            for path in lower {
                let fd = handle(path)?;
                names.push(fd.as_raw_fd().to_string());
                open.push(fd);
            }
            let joined = names.join(":");
            let fail = |e| Error::new("fsconfig lowerdir", format!("{} layers", lower.len()), e);
            if joined.len() > TEXT {
                return Err(fail(Errno::TOOBIG));
            }
            mount::fsconfig_set_string(&fs, "lowerdir", joined.as_str()).map_err(fail)?;
        }
    }
    for (key, value) in SETTINGS {
        match mount::fsconfig_set_string(&fs, key, value) {
            // A kernel without the option has it off.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(e) => return Err(Error::new("fsconfig", key, e)),
        }
    }
    if let Some(Upper { upper, work, volatile }) = upper {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let path = short(path, &mut open)?;
            mount::fsconfig_set_string(&fs, key, path.as_path())
                .map_err(|e| Error::new("fsconfig", &path, e))?;
        }
        if volatile {
            mount::fsconfig_set_flag(&fs, "volatile").map_err(fail("fsconfig volatile"))?;
        }
    }
    if let Some(label) = label {
        mount::fsconfig_set_string(&fs, "context", label)
            .map_err(|e| Error::new("fsconfig context", label, e))?;
    }
    mount::fsconfig_create(&fs).map_err(|e| Error::new("mount", describe(&fs), e))?;
    let flags =
        if upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let root =
        mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(fail("fsmount"))?;
    match upper {
        Some(upper) if is_read_only(&root) => {
            Err(Error::new("mount", upper.work, no_scratch(upper)))
        }
        _ => Ok(root),
    }
}

/// Whether the kernel mounted it read-only, as it does without an error when it cannot make its scratch folder.
fn is_read_only(root: &OwnedFd) -> bool {
    let read_only = rustix::fs::StatVfsMountFlags::RDONLY;
    rustix::fs::fstatvfs(root).is_ok_and(|stat| stat.f_flag.contains(read_only))
}

/// Why no folder can be made in the scratch folder: there is no space, as a rule.
fn no_scratch(upper: Upper<'_>) -> Errno {
    let probe = upper.work.join("probe");
    match rustix::fs::mkdir(&probe, Mode::RWXU) {
        Ok(()) => {
            let _ = rustix::fs::rmdir(&probe);
            Errno::ROFS
        }
        Err(err) => err,
    }
}

/// Pinned settings of every mount.
const SETTINGS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("xino", "off")];

/// The longest text that fsconfig(2) takes.
const TEXT: usize = 255;

/// A path that fits, through a descriptor if need be; it stays open in `open`.
fn short(path: &Path, open: &mut Vec<OwnedFd>) -> Result<PathBuf> {
    if path.as_os_str().len() <= TEXT {
        return Ok(path.to_owned());
    }
    let fd = handle(path)?;
    let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open.push(fd);
    Ok(text.into())
}

fn handle(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::new("open", path, e))
}

/// Removes the mark that a volatile mount leaves in its scratch folder and that forbids the next mount:
/// for trees that no crash of the machine has touched since, or that are worth nothing after one.
///
/// # Errors
/// The kernel's.
pub fn forget_volatile(work: &Path) -> Result<()> {
    match Dir::open(&work.join("work/incompat")) {
        Ok(marks) => marks.remove_all("volatile"),
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(e) => Err(e),
    }
}

/// What the kernel wrote into the mount's own log, one message a read.
fn describe(fs: &OwnedFd) -> OsString {
    let mut text = b"overlay".to_vec();
    let mut line = [0_u8; 1024];
    for _ in 0..8 {
        match rustix::io::read(fs, &mut line) {
            Ok(length) if length > 0 => {
                text.extend(b" (");
                text.extend(line[..length].trim_ascii());
                text.push(b')');
            }
            _ => break,
        }
    }
    OsString::from_vec(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::Root;
    use std::fs;

    #[test]
    fn both_styles_mount_the_same_tree_with_paths_of_any_length() {
        let dir = std::env::temp_dir().join(format!("gantry-overlay-{}", std::process::id()));
        let long = dir.join("l".repeat(200)).join("m".repeat(200));
        let mut lower = Vec::new();
        for n in 0..40 {
            let path = if n % 2 == 0 { dir.join(n.to_string()) } else { long.join(n.to_string()) };
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(format!("f{n}")), b"").unwrap();
            lower.push(path);
        }
        let (upper, work) = (long.join("upper"), long.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
        for style in [Style::Single, Style::Joined] {
            if style == Style::Single && crate::system::kernel() < (6, 8) {
                continue;
            }
            let top = Upper { upper: &upper, work: &work, volatile: style == Style::Joined };
            let mount = |upper| match style {
                Style::Single => mount_as(&lower, upper, None, style).unwrap(),
                Style::Joined => mount_joined(&lower, upper, None).unwrap(),
            };
            let root = Root::from(mount(Some(top)));
            assert_eq!(root.read_dir("/").unwrap().len(), 40, "{style:?}");
            drop(root.create("new", 0o600).unwrap());
            drop(root);
            fs::remove_file(upper.join("new")).unwrap();
            forget_volatile(&work).unwrap();
            let view = Root::from(mount(None));
            assert_eq!(view.mkdir("x", 0o700).unwrap_err().errno(), Errno::ROFS);
        }
        let missing = mount(&[dir.join("none"), dir.clone()], None, None).unwrap_err();
        assert_eq!(missing.errno(), Errno::NOENT);
        fs::remove_dir_all(&dir).unwrap();
    }
}
