//! From the kernel's answers to kinds of error.

use base::{Error, Kind};
use sys::root;

/// Puts a sentence of ours above a failed call; running out of something is recognised.
pub(crate) fn io(message: impl Into<String>, err: root::Error) -> Error {
    use rustix::io::Errno;
    let kind = match err.errno() {
        Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM => Kind::Exhausted,
        _ => Kind::Internal,
    };
    Error::new(kind, message).caused_by(err)
}
