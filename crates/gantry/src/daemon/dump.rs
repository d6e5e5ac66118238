//! What `SIGUSR1` writes: where the daemon's threads are and what it holds, for a look from outside.

use base::Timestamp;
use std::{fmt::Write as _, path::Path};

/// Writes `<exec-root>/dump-<time>.txt`.
pub(crate) fn write(exec_root: &Path, engine: &engine::Engine) {
    let at = Timestamp::now();
    let path = exec_root.join(format!("dump-{}.txt", at.unix()));
    match std::fs::write(&path, text(at, engine)) {
        Ok(()) => tracing::info!(path = path.display().to_string(), "state written"),
        Err(err) => tracing::error!(err = err.to_string(), "state not written"),
    }
}

fn text(at: Timestamp, engine: &engine::Engine) -> String {
    let mut text = format!("{at}\n{engine:?}\n\n");
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    for line in read("/proc/self/status").lines() {
        if ["VmRSS", "VmHWM", "Threads", "FDSize"].iter().any(|k| line.starts_with(k)) {
            let _ = writeln!(text, "{line}");
        }
    }
    let open = std::fs::read_dir("/proc/self/fd").map(Iterator::count).unwrap_or(0);
    let _ = writeln!(text, "open descriptors: {open}\n");
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let dir = task.path().display().to_string();
        let (name, place) = (read(&format!("{dir}/comm")), read(&format!("{dir}/wchan")));
        let _ = writeln!(text, "thread {} {name}: {place}", task.file_name().to_string_lossy());
        let _ = writeln!(text, "{}\n", read(&format!("{dir}/syscall")));
    }
    text
}
