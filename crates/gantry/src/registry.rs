//! `gantry registry`: gives its place to the program `gantry-registry`, which stands in `../libexec` or beside
//! this one. Object stores, TLS and passwords would weigh the engine down.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const PROGRAM: &str = "gantry-registry";

/// Becomes the registry's program; returns only when that cannot be.
pub(crate) fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let path = program();
    let err = Command::new(&path).arg0(PROGRAM).args(arguments).exec();
    let _ = writeln!(
        std::io::stderr(),
        "gantry registry: cannot start {}: {err}: install {PROGRAM} beside gantry or in ../libexec",
        path.display()
    );
    ExitCode::FAILURE
}

fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/gantry".into());
    let libexec = own.parent().and_then(Path::parent).map(|dir| dir.join("libexec").join(PROGRAM));
    libexec.filter(|path| path.exists()).unwrap_or_else(|| own.with_file_name(PROGRAM))
}
