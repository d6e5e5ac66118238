//! A tar reader for archives of images: regular members and links, streamed, bounded.
//!
//! ustar, GNU long names and PAX `path`, `linkpath` and `size` are understood; folders and special files
//! are passed over. Not here: layers, whose tars hold far more (`storage` reads those).

use base::{Error, Result};
use std::io::{self, Read};

const BLOCK: usize = 512;
/// Bytes of a PAX header or long name. Linux paths have at most 4096.
const EXTENSION_BYTES: u64 = 64 << 10;

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Data follows.
    File,
    /// Stands for another member. A symbolic link's target counts from the member's folder.
    Link { target: String, symbolic: bool },
}

/// One member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Bytes of data, 0 for a link.
    pub(super) size: u64,
}

/// Reads members one after another.
pub(super) struct Reader<R> {
    source: R,
    /// Bytes of the member's data not read yet.
    left: u64,
    /// Bytes of padding behind them.
    padding: u64,
    /// Members seen, also those passed over.
    seen: usize,
    most: usize,
}

#[derive(Default)]
struct Extensions {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R, most: usize) -> Self {
        Self { source, left: 0, padding: 0, seen: 0, most }
    }

    /// The next file or link; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Header>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            if !checksum_fits(&block) {
                return Err(Error::invalid("archive/tar: invalid tar header"));
            }
            self.seen += 1;
            if self.seen > self.most {
                return Err(Error::invalid(format!(
                    "the archive has more than {} members",
                    self.most
                )));
            }
            let mut size = number(&block[124..136])?;
            let flag = block[156];
            if matches!(flag, b'L' | b'K' | b'x' | b'g') {
                self.expect(size);
                let data = self.extension(size)?;
                match flag {
                    b'L' => extensions.path = Some(text(&data)),
                    b'K' => extensions.link = Some(text(&data)),
                    b'x' => pax(&data, &mut extensions)?,
                    // Global headers hold comments in all archives seen; they name no member.
                    _ => {}
                }
                continue;
            }
            if let Some(real) = extensions.size {
                size = real;
            }
            let name = extensions.path.take().unwrap_or_else(|| ustar_name(&block));
            let link = extensions.link.take().unwrap_or_else(|| text(&block[157..257]));
            extensions = Extensions::default();
            let kind = match flag {
                b'0' | 0 | b'7' if name.ends_with('/') => {
                    self.expect(size);
                    continue;
                }
                b'0' | 0 | b'7' => Kind::File,
                b'1' => Kind::Link { target: link, symbolic: false },
                b'2' => Kind::Link { target: link, symbolic: true },
                b'S' => {
                    return Err(Error::invalid(format!(
                        "sparse member {name:?} in an image archive"
                    )));
                }
                _ => {
                    // Folders have no data; of anything else the data is passed over.
                    self.expect(if flag == b'5' { 0 } else { size });
                    continue;
                }
            };
            let size = if kind == Kind::File { size } else { 0 };
            self.expect(size);
            return Ok(Some(Header { name, kind, size }));
        }
    }

    /// Reads data of the current member; 0 at its end.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let mut filled = 0;
        while filled < wanted {
            match self.source.read(&mut buf[filled..wanted]) {
                Ok(0) => return Err(truncated()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        self.left -= filled as u64;
        Ok(filled)
    }

    /// Reads what stands behind the end of the archive, so that whoever sends it can finish and the
    /// checks at the end of compressed data are made.
    pub(super) fn finish(mut self) -> Result<()> {
        io::copy(&mut self.source, &mut io::sink()).map(drop).map_err(failed)
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<()> {
        let wanted = self.left.saturating_add(self.padding);
        let found =
            io::copy(&mut (&mut self.source).take(wanted), &mut io::sink()).map_err(failed)?;
        // Some writers leave out the padding of the last member.
        if found < self.left {
            return Err(truncated());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                // A missing end mark is common; half a header is not.
                Ok(0) if filled == 0 && self.seen > 0 => return Ok(None),
                Ok(0) => return Err(truncated()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(Some(block))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION_BYTES {
            return Err(Error::invalid(format!(
                "tar header of {size} bytes, {EXTENSION_BYTES} are allowed"
            )));
        }
        let mut data = vec![0; size as usize];
        self.read(&mut data)?;
        Ok(data)
    }
}

fn truncated() -> Error {
    Error::invalid("cannot read the archive").caused_by("unexpected EOF")
}

fn failed(err: io::Error) -> Error {
    crate::decompress::unwrap("cannot read the archive", err)
}

fn checksum_fits(block: &[u8; BLOCK]) -> bool {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
        .sum();
    number(&block[148..156]).is_ok_and(|stored| stored == sum)
}

/// Whether `head` begins like a tar: a header whose checksum fits, or the end mark of an empty one.
pub(super) fn looks_like_tar(head: &[u8], size: u64) -> bool {
    let Some(block) = head.first_chunk::<BLOCK>() else { return false };
    checksum_fits(block) || (size.is_multiple_of(BLOCK as u64) && head.iter().all(|b| *b == 0))
}

/// Octal digits, or base 256 when the first bit is set.
fn number(field: &[u8]) -> Result<u64> {
    let bad = || Error::invalid("archive/tar: invalid tar header");
    if field[0] & 0x80 != 0 {
        if field[0] & 0x40 != 0 {
            return Err(bad());
        }
        let mut value: u64 = u64::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or_else(bad)? | u64::from(*byte);
        }
        return if value > i64::MAX as u64 { Err(bad()) } else { Ok(value) };
    }
    let digits: Vec<u8> = field.iter().copied().filter(|b| !matches!(b, b' ' | 0)).collect();
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|v| v + u64::from(digit - b'0')).ok_or_else(bad),
        _ => Err(bad()),
    })
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn ustar_name(block: &[u8; BLOCK]) -> String {
    let name = text(&block[..100]);
    let prefix =
        if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// Reads PAX records, `length key=value\n`.
fn pax(mut data: &[u8], extensions: &mut Extensions) -> Result<()> {
    let bad = || Error::invalid("archive/tar: invalid tar header");
    while !data.is_empty() {
        let space = data.iter().position(|b| *b == b' ').filter(|at| *at < 20).ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&data[..space])
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(bad)?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &data[space + 1..length - 1];
        data = &data[length..];
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extensions.path = Some(text(value)),
            b"linkpath" => extensions.link = Some(text(value)),
            b"size" => extensions.size = Some(text(value).parse().map_err(|_| bad())?),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(Error::invalid("sparse member in an image archive"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A member's name in the form it is looked up by: no `.` parts, no slash at either end.
///
/// # Errors
/// `Invalid` for a name with `..`, which would lead outside.
pub(super) fn clean(name: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(Error::invalid(format!("invalid path {name:?} in the archive"))),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// The member that a symbolic link at `name` leads to.
///
/// # Errors
/// `Invalid` when it leads outside of the archive.
pub(super) fn follow(name: &str, target: &str) -> Result<String> {
    let outside =
        || Error::invalid(format!("link {name:?} leads outside of the archive: {target:?}"));
    if target.starts_with('/') {
        return Err(outside());
    }
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(outside)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(data: &[u8]) -> Result<Vec<(Header, Vec<u8>)>> {
        let mut reader = Reader::new(data, 100);
        let mut found = Vec::new();
        while let Some(header) = reader.next()? {
            let mut bytes = Vec::new();
            let mut buf = [0; 700];
            loop {
                match reader.read(&mut buf)? {
                    0 => break,
                    n => bytes.extend_from_slice(&buf[..n]),
                }
            }
            found.push((header, bytes));
        }
        Ok(found)
    }

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        builder.append_data(&mut header.clone(), "a/b", &b"hello"[..]).unwrap();
        builder.append_data(&mut header.clone(), "x".repeat(300), &b"world"[..]).unwrap();
        builder.append_pax_extensions([("path", &b"pax/name"[..])]).unwrap();
        builder.append_data(&mut header, "other", &b"third"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "c/d", "../a/b").unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn all_forms_of_names_are_read() {
        let found = all(&sample()).unwrap();
        let names: Vec<_> = found.iter().map(|(h, _)| h.name.as_str()).collect();
        assert_eq!(names, ["a/b", &"x".repeat(300), "pax/name", "c/d"]);
        assert_eq!(found[1].1, b"world");
        assert_eq!(found[3].0.kind, Kind::Link { target: "../a/b".into(), symbolic: true });
        assert_eq!(follow("c/d", "../a/b").unwrap(), "a/b");
    }

    #[test]
    fn names_and_links_stay_inside() {
        assert_eq!(clean("./a//b/").unwrap(), "a/b");
        assert_eq!(clean("/a").unwrap(), "a");
        assert!(clean("a/../../b").is_err());
        for (name, target) in [("a", "../b"), ("a/b", "../../c"), ("a", "/etc/passwd")] {
            assert!(follow(name, target).is_err(), "{target}");
        }
    }

    #[test]
    fn cut_lying_and_excessive_archives_are_refused() {
        let data = sample();
        assert!(all(b"").is_err());
        assert!(all(&data[..100]).is_err());
        assert!(all(&data[..514]).is_err());
        let mut huge = data.clone();
        // 8 EiB of data announced, a few hundred bytes there.
        huge[124..136].copy_from_slice(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
        fix_checksum(&mut huge);
        assert!(all(&huge).is_err());
        let mut bomb = data;
        bomb[156] = b'L';
        bomb[124..136].copy_from_slice(b"17777777777\0");
        fix_checksum(&mut bomb);
        assert!(all(&bomb).unwrap_err().to_string().contains("tar header of"));
        let mut reader = Reader::new(&sample()[..], 2).next().map(|_| ());
        assert!(reader.is_ok());
        let many = sample();
        let mut bounded = Reader::new(&many[..], 1);
        reader = bounded.next().map(|_| ());
        assert!(reader.is_ok());
        assert!(bounded.next().unwrap_err().to_string().contains("more than 1 members"));
    }

    fn fix_checksum(data: &mut [u8]) {
        let sum: u64 = data[..512]
            .iter()
            .enumerate()
            .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
            .sum();
        data[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(bends in proptest::collection::vec((0_usize..4000, 0_u8..), 1..8), fix in 0..2) {
            let mut data = sample();
            for (at, value) in bends {
                let len = data.len();
                data[at % len] = value;
            }
            if fix == 1 {
                fix_checksum(&mut data);
            }
            let _ = all(&data);
        }
    }
}
