//! The program: found as Go's `exec.LookPath` finds it, with its words when it does not, and run.

use super::{Step, errno_text};
use runtime::shim::{Class, StartError};
use rustix::{
    fs::{self, Access, AtFlags, CWD, FileType},
    io::Errno,
};
use std::{
    ffi::CString,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// Exit code of a process whose execve failed after its program was found, as runc's.
const EXEC_FAILED: i32 = 255;

/// Finds the program that `name` means, in the present root, folder and as the present user.
pub(crate) fn lookup(name: &str, env: &[String]) -> Step<PathBuf> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(why) => Err(why.error(name)),
        };
    }
    let path = variable(env, "PATH").unwrap_or_default();
    let found = path.split(':').find_map(|dir| {
        let dir = if dir.is_empty() { "." } else { dir };
        let file = Path::new(dir).join(name);
        executable(&file).is_ok().then_some(file)
    });
    found.ok_or_else(|| {
        let text = format!("exec: {name:?}: executable file not found in $PATH");
        StartError::new(Class::NotFound, text)
    })
}

enum Why {
    Stat(Errno),
    Folder,
    Access(Errno),
}

impl Why {
    fn error(&self, name: &str) -> StartError {
        let (class, text) = match self {
            Self::Stat(errno) => {
                let class = match *errno {
                    Errno::ACCESS => Class::NotExecutable,
                    _ => Class::NotFound,
                };
                (class, format!("stat {name}: {}", errno_text(errno.raw_os_error())))
            }
            Self::Folder => (Class::NotExecutable, "is a directory".to_owned()),
            Self::Access(errno) => (Class::NotExecutable, errno_text(errno.raw_os_error())),
        };
        StartError::new(class, format!("exec: {name:?}: {text}"))
    }
}

fn executable(file: &Path) -> Result<(), Why> {
    let stat = fs::stat(file).map_err(Why::Stat)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Why::Folder);
    }
    let any_bit = if stat.st_mode & 0o111 == 0 { Err(Why::Access(Errno::ACCESS)) } else { Ok(()) };
    match fs::accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS) {
        // A seccomp profile without the call answers so: the bits decide then.
        Ok(()) | Err(Errno::NOSYS | Errno::PERM) => any_bit,
        Err(errno) => Err(Why::Access(errno)),
    }
}

/// The last value of a variable.
pub(crate) fn variable<'e>(env: &'e [String], key: &str) -> Option<&'e str> {
    env.iter().rev().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// The environment as execve takes it.
pub(crate) fn environment(env: &[String], home: &str) -> Vec<CString> {
    c_strings(&runtime::plan::environment(env, home))
}

/// Runs `program`; comes back never. A failure is printed where the container's errors go.
pub(crate) fn run(program: &Path, args: &[CString], env: &[CString]) -> ! {
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
        sys::process::exit(EXEC_FAILED)
    };
    let err = sys::process::exec(&path, args, env);
    failed(program, &err)
}

/// Says that the program could not be run, and ends.
pub(crate) fn failed(program: &Path, err: &std::io::Error) -> ! {
    let why = errno_text(err.raw_os_error().unwrap_or_default());
    let _ = writeln!(std::io::stderr(), "exec {}: {why}", program.display());
    sys::process::exit(EXEC_FAILED)
}

/// Texts as C strings; those with a NUL were refused by the plan.
pub(crate) fn c_strings(texts: &[String]) -> Vec<CString> {
    texts.iter().filter_map(|t| CString::new(t.as_str()).ok()).collect()
}
