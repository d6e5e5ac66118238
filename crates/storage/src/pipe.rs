//! A writer and a reader of the same bytes, side by side.

use base::{Error, Result};
use std::io::{Read, Write};

/// Reads what another thread writes meanwhile. What the reader says is the better reason, because the writer then
/// finds its pipe closed.
///
/// # Errors
/// Those of both.
pub fn through<T>(
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    read: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (mut reader, mut writer) =
        std::io::pipe().map_err(|e| Error::io("cannot make a pipe", e))?;
    std::thread::scope(|scope| {
        let writes = scope.spawn(move || write(&mut writer));
        let made = read(&mut reader);
        drop(reader);
        match (writes.join(), made) {
            (Ok(Ok(())), Ok(made)) => Ok(made),
            (_, Err(err)) | (Ok(Err(err)), _) => Err(err),
            (Err(_), _) => Err(Error::internal("what writes into a pipe panicked")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_s_reason_is_told() {
        let long = |out: &mut dyn Write| {
            out.write_all(&vec![0; 1 << 20]).map_err(|e| Error::io("writing", e))
        };
        let all = |tar: &mut dyn Read| {
            std::io::copy(tar, &mut std::io::sink()).map_err(|e| Error::io("reading", e))
        };
        assert_eq!(through(long, all).unwrap(), 1 << 20);
        let refused = through(long, |_| Err::<(), _>(Error::invalid("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
        let broken = through(|_| Err(Error::invalid("gone")), all);
        assert_eq!(broken.unwrap_err().to_string(), "gone");
    }
}
