//! Numbers that nobody guesses.

use std::{fs::File, io, io::Read as _};

/// So many random bytes in hexadecimal digits.
///
/// # Errors
/// The system gives none.
pub(crate) fn hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(base::hex(&random))
}
