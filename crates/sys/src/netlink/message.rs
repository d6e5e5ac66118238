//! The bytes of netlink: messages with attributes out, attributes in.

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// The type's bits without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A message being written: header, the family's fixed part, attributes.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a kind (`RTM_...`) with flags (`NLM_F_...`) and the fixed part that the kind asks for.
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        bytes.resize(align(bytes.len()), 0);
        Self { bytes }
    }

    /// Adds an attribute of raw bytes.
    ///
    /// # Panics
    /// Never for values below 64 KiB; longer ones are cut, which the kernel refuses.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// Adds an attribute of raw bytes, in place.
    pub fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(align(self.bytes.len()), 0);
    }

    /// Adds a byte.
    #[must_use]
    pub fn with_u8(self, kind: u16, value: u8) -> Self {
        self.with(kind, &[value])
    }

    /// Adds a number in the machine's order.
    #[must_use]
    pub fn with_u32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network order.
    #[must_use]
    pub fn with_be32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing NUL.
    #[must_use]
    pub fn with_str(mut self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.push(kind, &bytes);
        self
    }

    /// Adds an attribute that holds what `fill` writes.
    #[must_use]
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.push(kind | NESTED, &[]);
        let mut whole = fill(self);
        let length = u16::try_from(whole.bytes.len() - start).unwrap_or(u16::MAX);
        whole.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        whole
    }

    /// Adds bytes without a header, for fixed parts inside attributes; padded to four.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(align(self.bytes.len()), 0);
        self
    }

    /// Length so far, in bytes.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Sets the length and the sequence number and appends the message to `datagram`.
    pub(crate) fn seal(&self, sequence: u32, datagram: &mut Vec<u8>) {
        let start = datagram.len();
        datagram.extend_from_slice(&self.bytes);
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        datagram[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        datagram[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }

    pub(crate) fn add_flags(&mut self, flags: i32) {
        let old = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]);
        self.bytes[6..8].copy_from_slice(&(old | flags as u16).to_ne_bytes());
    }
}

/// One message of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub payload: &'a [u8],
}

/// Cuts a datagram into messages; stops at the first that does not fit.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = read_u32(header)? as usize;
        let payload = rest.get(HEADER..length)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some(Raw {
            kind: read_u16(&header[4..])?,
            flags: read_u16(&header[6..])?,
            sequence: read_u32(&header[8..])?,
            payload,
        })
    })
}

/// The attributes in a piece of a reply; stops at the first that does not fit.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads attributes from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Skips a fixed part of `length` bytes before the attributes.
    pub fn after(bytes: &'a [u8], length: usize) -> Self {
        Self { rest: bytes.get(align(length)..).unwrap_or_default() }
    }

    /// The first attribute of this kind.
    pub fn value(self, kind: u16) -> Option<&'a [u8]> {
        let mut all = self;
        all.find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    /// The attributes inside the first one of this kind.
    pub fn nested(self, kind: u16) -> Self {
        Self { rest: self.value(kind).unwrap_or_default() }
    }

    /// A text, up to its first NUL.
    pub fn text(self, kind: u16) -> Option<String> {
        let value = self.value(kind)?;
        let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    /// A number in the machine's order.
    pub fn number(self, kind: u16) -> Option<u32> {
        read_u32(self.value(kind)?)
    }

    /// A number in network order.
    pub fn number_be(self, kind: u16) -> Option<u32> {
        read_u32(self.value(kind)?).map(u32::from_be)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(read_u16(self.rest)?);
        let kind = read_u16(self.rest.get(2..)?)? & TYPE_MASK;
        let value = self.rest.get(ATTRIBUTE..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(crate) fn read_u16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

pub(crate) fn read_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_reads_back() {
        let message = Message::new(7, 0, &[1, 2, 3])
            .with_str(1, "abc")
            .nest(2, |m| m.with_u32(3, 9).nest(4, |m| m.with_u8(5, 1)))
            .with_be32(6, 10);
        let mut bytes = Vec::new();
        message.seal(5, &mut bytes);
        message.seal(6, &mut bytes);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].kind, all[1].sequence), (7, 6));
        let found = Attributes::after(all[0].payload, 3);
        assert_eq!(found.text(1).unwrap(), "abc");
        assert_eq!(found.nested(2).number(3), Some(9));
        assert_eq!(found.nested(2).nested(4).value(5), Some(&[1][..]));
        assert_eq!(found.number_be(6), Some(10));
        assert_eq!(found.value(9), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_or_endless_loop(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            for message in messages(&bytes).take(1000) {
                for (_, value) in Attributes::after(message.payload, 4).take(1000) {
                    let _ = Attributes::new(value).take(1000).count();
                }
            }
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
            prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / ATTRIBUTE);
        }
    }
}
