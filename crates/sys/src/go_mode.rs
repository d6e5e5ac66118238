//! Modes of files as Go's `fs.FileMode` has them: what Docker's API and BuildKit's file transfer put on the wire.
//!
//! Source: Go's `io/fs` (bits).

use crate::dir::Kind;
use rustix::fs::FileType;

/// A folder.
pub const DIR: u32 = 1 << 31;
/// A symbolic link.
pub const SYMLINK: u32 = 1 << 27;
/// A device; with [`CHAR`] a character device.
pub const DEVICE: u32 = 1 << 26;
/// A named pipe.
pub const PIPE: u32 = 1 << 25;
/// A socket.
pub const SOCKET: u32 = 1 << 24;
/// Beside [`DEVICE`]: a character device.
pub const CHAR: u32 = 1 << 21;
/// Something that Go has no word for.
pub const IRREGULAR: u32 = 1 << 19;
/// What is no type: permissions, set-user, set-group and sticky bits.
pub const PERMISSIONS: u32 = 0o777 | 1 << 23 | 1 << 22 | 1 << 20;

/// Go's bits of the three above the permissions, and the kernel's.
const SPECIAL: [(u32, u32); 3] = [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)];

/// The mode of something with the permissions, set-id and sticky bits of `mode`.
pub fn of(kind: Kind, mode: u32) -> u32 {
    let kind = match kind {
        Kind::File => 0,
        Kind::Dir => DIR,
        Kind::Symlink => SYMLINK,
        Kind::Block => DEVICE,
        Kind::Char => DEVICE | CHAR,
        Kind::Fifo => PIPE,
        Kind::Socket => SOCKET,
    };
    let special = SPECIAL.iter().filter(|(_, unix)| mode & unix != 0).map(|(go, _)| go);
    kind | special.sum::<u32>() | mode & 0o777
}

/// The mode of something with `st_mode`.
pub fn of_raw(st_mode: u32) -> u32 {
    of(Kind::from_type(FileType::from_raw_mode(st_mode)), st_mode)
}

/// The permissions, set-id and sticky bits in a mode, as the kernel has them.
pub fn permissions(mode: u32) -> u32 {
    let special = SPECIAL.iter().filter(|(go, _)| mode & go != 0).map(|(_, unix)| unix);
    mode & 0o777 | special.sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(of(Kind::Dir, 0o755), 2_147_484_141);
        assert_eq!(of(Kind::File, 0o4755), 1 << 23 | 0o755);
        assert_eq!(of(Kind::Dir, 0o1777), 1 << 31 | 1 << 20 | 0o777);
        assert_eq!(of_raw(0o02_0644), 1 << 26 | 1 << 21 | 0o644);
        for mode in [0o755, 0o4755, 0o2711, 0o1777, 0o7777] {
            assert_eq!(permissions(of(Kind::File, mode)), mode);
        }
    }
}
