//! The working folder: inside the root, whatever its path says.

use super::{Reason as _, Step, Tried};
use runtime::shim::{Class, StartError};
use rustix::{fs::OFlags, io::Errno};
use sys::root::Root;

/// Makes it when it is missing, as root, as runc does.
pub(crate) fn make(root: &Root, cwd: &str) -> Step {
    match root.open_with(cwd, OFlags::PATH | OFlags::DIRECTORY, 0) {
        Err(e) if e.errno() == Errno::NOENT => {
            root.mkdir_all(cwd, 0o755, None).tried(|| format!("mkdir {cwd}"))?;
            Ok(())
        }
        // What is wrong with it is said when it is entered.
        _ => Ok(()),
    }
}

/// Goes there; `false` when this user may not.
pub(crate) fn enter(root: &Root, cwd: &str) -> Step<bool> {
    let fail = |errno: Errno| {
        let class = match errno {
            Errno::ACCESS => Class::NotExecutable,
            Errno::NOENT => Class::NotFound,
            _ => Class::Setup,
        };
        let why = errno.reason();
        StartError::new(class, format!("chdir to cwd ({cwd:?}) set in config.json failed: {why}"))
    };
    let dir = match root.open_with(cwd, OFlags::PATH | OFlags::DIRECTORY, 0) {
        Ok(dir) => dir,
        Err(e) if e.errno() == Errno::ACCESS => return Ok(false),
        // A link of /proc that leads out of the root is no folder of the container.
        Err(e) => return Err(fail(e.errno())),
    };
    match rustix::process::fchdir(&dir) {
        Ok(()) => inside().map(|()| true),
        Err(Errno::ACCESS) => Ok(false),
        Err(errno) => Err(fail(errno)),
    }
}

/// Goes there at last, or says why not.
pub(crate) fn enter_as_user(root: &Root, cwd: &str) -> Step {
    match enter(root, cwd)? {
        true => Ok(()),
        false => Err(StartError::new(
            Class::NotExecutable,
            format!("chdir to cwd ({cwd:?}) set in config.json failed: permission denied"),
        )),
    }
}

fn inside() -> Step {
    let here = rustix::process::getcwd(Vec::new()).tried(|| "getcwd".into())?;
    match here.as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(StartError::setup(
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
    }
}
