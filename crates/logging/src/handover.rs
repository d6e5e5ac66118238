//! What the shim says to a relay, over a stream socket.
//!
//! First the [`Config`](crate::Config), as JSON after its length (4 bytes, little endian). The relay answers
//! once: one byte, 0 when it is ready, else 1 and the reason until the end. Then chunks of output follow,
//! each after a [`Head`]; the end of the stream is the end of the output.

use crate::Stream;
use base::Timestamp;

/// Bytes of a [`Head`].
pub const HEAD: usize = 13;
/// Longest chunk.
pub const MAX_CHUNK: usize = 1 << 20;
/// Longest configuration: labels and variables of a container may fill megabytes.
pub const MAX_CONFIG: usize = 64 << 20;

/// What comes before a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where it was written; `None` says that output was dropped here.
    pub stream: Option<Stream>,
    /// Bytes that follow.
    pub length: usize,
    /// When it was read.
    pub at: Timestamp,
}

impl Head {
    /// As bytes: kind, length (4 bytes, little endian), nanoseconds since 1970 (8 bytes).
    pub fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0] = match self.stream {
            Some(Stream::Stdout) => 1,
            Some(Stream::Stderr) => 2,
            None => 3,
        };
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        bytes[1..5].copy_from_slice(&length.to_le_bytes());
        bytes[5..].copy_from_slice(&self.at.unix_nanos().to_le_bytes());
        bytes
    }

    /// Reads it back; `None` for nonsense.
    pub fn decode(bytes: &[u8; HEAD]) -> Option<Self> {
        let [kind, a, b, c, d, time @ ..] = *bytes;
        let stream = match kind {
            1 => Some(Stream::Stdout),
            2 => Some(Stream::Stderr),
            3 => None,
            _ => return None,
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let at = Timestamp::from_unix_nanos(i128::from(i64::from_le_bytes(time)));
        (length <= MAX_CHUNK).then_some(Self { stream, length, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        let at = Timestamp::from_unix(1_700_000_000, 5);
        for stream in [Some(Stream::Stdout), Some(Stream::Stderr), None] {
            let head = Head { stream, length: 70_000, at };
            assert_eq!(Head::decode(&head.encode()), Some(head));
        }
        assert_eq!(Head::decode(&[9; HEAD]), None);
    }
}
