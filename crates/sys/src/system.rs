//! What the running kernel says of itself.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::OnceLock,
};

/// What the kernel's files hold at first: most fit, and two reads get them.
const USUAL: usize = 4 << 10;
/// More is none of theirs: a mistaken path must not fill memory.
const MOST: u64 = 4 << 20;

/// The text of a file of the kernel's, whose size nobody tells beforehand.
///
/// # Errors
/// Of the file; what is no UTF-8.
pub fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::with_capacity(USUAL);
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

/// What names this boot of the machine; `None` where the kernel does not say.
pub fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || read("/proc/sys/kernel/random/boot_id").ok().map(|t| t.trim_end().to_owned());
    BOOT.get_or_init(read).as_deref()
}

/// Major and minor version of the kernel, (0, 0) when its release says neither. Read once.
pub fn kernel() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| version(&rustix::system::uname().release().to_string_lossy()))
}

/// `6.1.0-57-cloud-amd64` is (6, 1).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(version("6.1.0-57-cloud-amd64"), (6, 1));
        assert_eq!(version("6.18.44-fc-v782"), (6, 18));
        assert_eq!(version("7-rc1"), (7, 0));
        assert_eq!(version(""), (0, 0));
        assert!(kernel() >= (5, 0));
    }
}
