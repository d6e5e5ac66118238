//! Writes tar archives: ustar headers, GNU long names, PAX records where a test asks for them.
//!
//! Every field is what the caller says, also where it makes no sense: hostile archives are written with
//! the same few functions. Times are seconds, numbers are octal as in ustar.

use std::io::Write as _;

/// One member's metadata; `data` follows it.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Name as written.
    pub name: &'a [u8],
    /// Type flag: `0` file, `1` hard link, `2` symbolic link, `3` char, `4` block, `5` folder, `6` fifo.
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Target of a link.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            name: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            link: b"",
            device: (0, 0),
        }
    }
}

/// A tar archive that grows in memory.
#[derive(Debug, Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a folder with mode 0755.
    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.entry(
            &Entry { name: name.as_bytes(), kind: b'5', mode: 0o755, ..Entry::default() },
            b"",
        )
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, data: impl AsRef<[u8]>) -> &mut Self {
        self.entry(&Entry { name: name.as_bytes(), mode, ..Entry::default() }, data.as_ref())
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        let entry = Entry {
            name: name.as_bytes(),
            kind: b'2',
            mode: 0o777,
            link: target.as_bytes(),
            ..Entry::default()
        };
        self.entry(&entry, b"")
    }

    /// Adds a hard link to a member named before.
    pub fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        let entry = Entry {
            name: name.as_bytes(),
            kind: b'1',
            mode: 0o755,
            link: target.as_bytes(),
            ..Entry::default()
        };
        self.entry(&entry, b"")
    }

    /// Adds PAX records that hold for the next member.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend(pax_record(key, value));
        }
        self.raw(
            &Entry { name: b"PaxHeaders/x", kind: b'x', ..Entry::default() },
            data.len() as u64,
        );
        self.data(&data)
    }

    /// Adds a member with its data; names beyond 100 bytes go into GNU long-name members.
    pub fn entry(&mut self, entry: &Entry<'_>, data: &[u8]) -> &mut Self {
        for (kind, text) in [(b'L', entry.name), (b'K', entry.link)] {
            if text.len() > 100 {
                let long = Entry { name: b"././@LongLink", kind, mode: 0, ..Entry::default() };
                self.raw(&long, text.len() as u64 + 1);
                self.data(&[text, b"\0"].concat());
            }
        }
        self.raw(entry, data.len() as u64);
        self.data(data)
    }

    /// Writes a header alone, with a size that need not be true.
    pub fn raw(&mut self, entry: &Entry<'_>, size: u64) -> &mut Self {
        let mut block = [0u8; 512];
        put(&mut block[0..100], entry.name);
        octal(&mut block[100..108], u64::from(entry.mode));
        octal(&mut block[108..116], entry.uid);
        octal(&mut block[116..124], entry.gid);
        octal(&mut block[124..136], size);
        octal(&mut block[136..148], entry.mtime);
        block[148..156].fill(b' ');
        block[156] = entry.kind;
        put(&mut block[157..257], entry.link);
        block[257..263].copy_from_slice(b"ustar\0");
        block[263..265].copy_from_slice(b"00");
        octal(&mut block[329..337], u64::from(entry.device.0));
        octal(&mut block[337..345], u64::from(entry.device.1));
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        let text = format!("{sum:06o}\0 ");
        block[148..156].copy_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(&block);
        self
    }

    /// Appends bytes, padded to whole blocks.
    pub fn data(&mut self, data: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(data);
        let rest = self.bytes.len() % 512;
        if rest != 0 {
            self.bytes.resize(self.bytes.len() + 512 - rest, 0);
        }
        self
    }

    /// The archive with its end marker.
    pub fn finish(&self) -> Vec<u8> {
        let mut out = self.bytes.clone();
        out.resize(out.len() + 1024, 0);
        out
    }

    /// The archive without an end marker, cut where the last member ends.
    pub fn unfinished(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// The gzip form of `bytes`.
///
/// # Panics
/// Never: writing to memory does not fail.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes every write")
}

/// The members of an archive: name, type flag, size and where the data begins.
pub fn members(bytes: &[u8]) -> Vec<(String, u8, u64, usize)> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut long: Option<String> = None;
    while at + 512 <= bytes.len() {
        let block = &bytes[at..at + 512];
        if block.iter().all(|b| *b == 0) {
            break;
        }
        let size = u64::from_str_radix(text(&block[124..136]).trim(), 8).unwrap_or(0);
        let kind = block[156];
        let data = at + 512;
        let end = data.saturating_add(size as usize).min(bytes.len());
        match kind {
            b'L' => long = Some(text(&bytes[data..end]).to_owned()),
            b'x' | b'g' | b'K' => {
                for line in text(&bytes[data..end]).lines() {
                    if let Some((_, path)) = line.split_once(" path=") {
                        long = Some(path.to_owned());
                    }
                }
            }
            _ => {
                let prefix = text(&block[345..500]);
                let short = text(&block[0..100]);
                let name = match (long.take(), prefix) {
                    (Some(long), _) => long,
                    (None, "") => short.to_owned(),
                    (None, prefix) => format!("{prefix}/{short}"),
                };
                out.push((name, kind, size, data));
            }
        }
        at = data + (size as usize).div_ceil(512) * 512;
    }
    out
}

/// The data of the member called `name`.
pub fn member<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (_, _, size, at) = members(bytes).into_iter().find(|m| m.0 == name)?;
    bytes.get(at..at + size as usize)
}

fn text(field: &[u8]) -> &str {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).unwrap_or("")
}

fn put(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}

fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let text = format!("{value:0width$o}");
    field[..width].copy_from_slice(text.as_bytes()); // panics for what a tar cannot say
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3; // space, '=', newline
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back_as_written() {
        let long = "d/".to_owned() + &"n".repeat(150);
        let mut tar = Tarball::new();
        tar.dir("d/").file("d/a", 0o600, "abc").file(&long, 0o644, vec![7u8; 700]);
        let bytes = tar.finish();
        let names: Vec<_> = members(&bytes).into_iter().map(|m| (m.0, m.2)).collect();
        assert_eq!(names, [("d/".into(), 0), ("d/a".into(), 3), (long, 700)]);
        assert_eq!(member(&bytes, "d/a"), Some(&b"abc"[..]));
    }

    #[test]
    fn pax_records_count_their_own_length() {
        assert_eq!(pax_record("path", b"x"), b"9 path=x\n");
        assert_eq!(pax_record("path", &[b'a'; 90]).len(), 99);
        assert!(pax_record("path", &[b'a'; 91]).starts_with(b"101 "));
    }
}
