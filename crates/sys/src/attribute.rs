//! What a thread tells its security module: the files of `/proc/thread-self/attr`.
//!
//! INVARIANT: nothing is read from or written to a file that is not of proc, whatever is mounted at `/proc`: a file
//! that swallows a label would leave a process unconfined without a word.
//! Source: proc(5) (`/proc/pid/attr`).

use crate::mount::{PROC_MAGIC, fs_magic};
use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

fn path(name: &str) -> PathBuf {
    Path::new("/proc/thread-self/attr").join(name)
}

/// Whether the kernel has such a file.
pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Writes `value`, in one call.
///
/// # Errors
/// The kernel's; `InvalidData` for a file that is not of proc.
pub(crate) fn write(name: &str, value: &str) -> io::Result<()> {
    let mut file = of_proc(OpenOptions::new().write(true).open(path(name))?)?;
    file.write_all(value.as_bytes())
}

/// What is in a file, without the NUL at its end.
///
/// # Errors
/// As [`write`].
pub(crate) fn read(name: &str) -> io::Result<String> {
    let mut text = String::new();
    of_proc(File::open(path(name))?)?.read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\0', '\n']).len());
    Ok(text)
}

fn of_proc(file: File) -> io::Result<File> {
    match fs_magic(&file)? {
        PROC_MAGIC => Ok(file),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "/proc/thread-self/attr is not of proc: something else is mounted at /proc",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_proc_are_taken() {
        let own = of_proc(File::open("/proc/self/status").unwrap());
        assert!(own.is_ok());
        let other = of_proc(File::open("/sys/kernel").unwrap()).unwrap_err();
        assert!(other.to_string().contains("not of proc"), "{other}");
    }
}
