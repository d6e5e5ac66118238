//! The file that says which process is the daemon.

use base::{Error, Result};
use std::path::{Path, PathBuf};

/// A written pid file; removed when dropped.
#[derive(Debug)]
pub(crate) struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes our process id.
    ///
    /// # Errors
    /// `Conflict` when the process named by the file there is a daemon that still runs.
    pub(crate) fn write(path: &Path) -> Result<Self> {
        let shown = path.display();
        if let Some(pid) = running(path) {
            return Err(Error::conflict(format!(
                "process with PID {pid} is still running: stop it or remove {shown}"
            )));
        }
        let failed = |err| Error::io(format!("cannot write the pid file {shown}"), err);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        // Written aside and renamed: a reader never sees an empty one.
        let aside = path.with_extension("pid.new");
        std::fs::write(&aside, std::process::id().to_string()).map_err(failed)?;
        std::fs::rename(&aside, path).map_err(failed)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let ours =
            std::fs::read_to_string(&self.0).is_ok_and(|t| t == std::process::id().to_string());
        if ours {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// The process in the file, if it lives and runs the same program (process ids come round again).
fn running(path: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    if pid == std::process::id() {
        return None;
    }
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let other = program(&pid.to_string())?;
    (other.file_name() == program("self")?.file_name()).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_living_daemon_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/pid");
        let file = Pidfile::write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(file);
        assert!(!path.exists());
        // Another program under a number that came round again.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&path, other.id().to_string()).unwrap();
        let file = Pidfile::write(&path).unwrap();
        std::fs::write(&path, "7").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7", "a file of someone else stays");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
