//! The format: against GNU tar, against ourselves, against noise.

use super::{
    Entry, EntryKind, Segment, header, padding, pax,
    reader::{Raw, Reader},
    writer,
};
use crate::testing::{Smith, entry};
use base::Result;
use proptest::prelude::*;
use std::ffi::OsString;
use sys::root::Time;

/// Entries with their payloads.
type Members = Vec<(Entry, Vec<u8>)>;

/// Reads all; gives the members, and all bytes that passed in their order.
fn read(tar: &[u8], chunk: usize) -> Result<(Members, Vec<u8>)> {
    let mut reader = Reader::new(std::io::BufReader::with_capacity(chunk, tar));
    let (mut entries, mut passed) = (Vec::new(), Vec::new());
    let keep = |reader: &mut Reader<_>, passed: &mut Vec<u8>| {
        for raw in reader.take_raw() {
            match raw {
                Raw::Block(block) => passed.extend_from_slice(&block[..]),
                Raw::Bytes(bytes) => passed.extend_from_slice(&bytes),
            }
        }
    };
    while let Some(entry) = reader.next()? {
        keep(&mut reader, &mut passed);
        let mut content = Vec::new();
        while reader.remaining() > 0 {
            let part = reader.fill()?;
            content.extend_from_slice(part);
            let length = part.len();
            reader.consume(length);
        }
        passed.extend_from_slice(&content);
        entries.push((entry, content));
    }
    keep(&mut reader, &mut passed);
    loop {
        let piece = reader.trailing()?;
        if piece.is_empty() {
            assert_eq!(reader.position(), tar.len() as u64);
            return Ok((entries, passed));
        }
        passed.extend_from_slice(&piece);
    }
}

fn kinds() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        Just(EntryKind::File),
        Just(EntryKind::Dir),
        Just(EntryKind::Symlink),
        Just(EntryKind::Hardlink),
        Just(EntryKind::Fifo),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(a, b)| EntryKind::Char(a, b)),
        (0_u32..4096, 0_u32..1 << 20).prop_map(|(a, b)| EntryKind::Block(a, b)),
    ]
}

fn name(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![8 => 1_u8..=255, 2 => Just(b'/')], 1..most)
}

prop_compose! {
    fn entries()(
        kind in kinds(),
        name in name(400),
        link in name(400),
        mode in 0_u32..0o10000,
        uid in 0..u32::MAX,
        gid in 0..u32::MAX,
        seconds in -(1_i64 << 40)..1 << 40,
        nanos in prop_oneof![Just(0), 0_u32..1_000_000_000],
        content in prop::collection::vec(any::<u8>(), 0..2000),
        xattrs in prop::collection::btree_map("[a-z.]{1,20}", prop::collection::vec(any::<u8>(), 0..99), 0..3),
        hole in prop::option::of(0_u64..1 << 40),
    ) -> (Entry, Vec<u8>) {
        let mut made = entry(kind.clone(), name, b"");
        if matches!(kind, EntryKind::Symlink | EntryKind::Hardlink) {
            made.link = link;
        }
        if kind == EntryKind::Dir && !made.name.ends_with(b"/") {
            made.name.push(b'/');
        }
        (made.mode, made.uid, made.gid, made.mtime) = (mode, uid, gid, Time { seconds, nanos });
        made.xattrs = xattrs.into_iter().map(|(key, value)| (OsString::from(key), value)).collect();
        if kind != EntryKind::File {
            return (made, Vec::new());
        }
        made.size = content.len() as u64;
        if let Some(hole) = hole && !content.is_empty() {
            made.sparse = Some(vec![Segment { offset: hole, length: made.size }]);
            made.size += hole * 2;
        }
        (made, content)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_and_every_byte_passes(
        list in prop::collection::vec(entries(), 0..6),
        chunk in 1_usize..3000,
        tail in 0_usize..2000,
    ) {
        let made = list.iter().fold(Smith::default(), |tar, (entry, content)| tar.add(entry, content));
        let mut tar = made.end();
        tar.resize(tar.len() + tail, 0);
        let (found, passed) = read(&tar, chunk).unwrap();
        prop_assert!(passed == tar);
        prop_assert_eq!(found, list);
    }

    #[test]
    fn noise_is_an_error_or_an_archive_never_a_panic(
        mut tar in prop::collection::vec(entries(), 1..4)
            .prop_map(|list| list.iter().fold(Smith::default(), |t, (e, c)| t.add(e, c)).end()),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        sums in any::<bool>(),
    ) {
        for (at, byte) in noise {
            let at = at.index(tar.len());
            tar[at] = byte;
            if sums {
                // A right checksum gets the noise further in.
                let block = at / 512 * 512;
                if block + 512 <= tar.len() {
                    resum(&mut tar[block..block + 512]);
                }
            }
        }
        if let Some(cut) = cut {
            let length = cut.index(tar.len());
            tar.truncate(length);
        }
        if let Ok((_, passed)) = read(&tar, 700) {
            prop_assert!(passed == tar);
        }
    }

    #[test]
    fn extended_headers_never_panic(data in prop::collection::vec(any::<u8>(), 0..300), text in "[0-9]{1,2} [a-zA-Z.]{0,20}=[^\n]{0,40}\n") {
        let _ = pax::Pax::parse(&data);
        let _ = pax::Pax::parse(text.as_bytes());
    }

    #[test]
    fn records_and_times_survive(key in "[a-z.]{1,120}", value in prop::collection::vec(any::<u8>(), 0..2000), seconds in any::<i32>(), nanos in 0_u32..1_000_000_000) {
        let mut out = Vec::new();
        pax::push(&mut out, format!("SCHILY.xattr.{key}").as_bytes(), &value);
        let text = pax::time_text(Time { seconds: seconds.into(), nanos });
        pax::push(&mut out, b"mtime", text.as_bytes());
        let pax = pax::Pax::parse(&out).unwrap();
        prop_assert_eq!(pax.mtime, Some(Time { seconds: seconds.into(), nanos }));
        prop_assert_eq!(&pax.xattrs, &[(OsString::from(&key), value)]);
    }

    #[test]
    fn numbers_of_both_kinds_are_read(value in any::<i64>(), octal in 0_u64..1 << 33) {
        let mut field = [if value < 0 { 0xff } else { 0 }; 12];
        field[4..].copy_from_slice(&value.to_be_bytes());
        field[0] |= 0x80;
        prop_assert_eq!(header::number(&field), Some(value));
        prop_assert_eq!(header::number(format!("{octal:011o}\0").as_bytes()), Some(octal as i64));
        let _ = header::number(&value.to_be_bytes());
    }
}

fn resum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn old_dialects_are_understood() {
    let mut v7 = Smith::default().file("folder/", b"").0;
    v7[257..265].fill(0);
    v7[156] = 0;
    resum(&mut v7[..512]);
    let (found, _) = read(&v7, 512).unwrap();
    assert_eq!(found[0].0.kind, EntryKind::Dir);

    let mut prefixed = Smith::default().file("name", b"").0;
    prefixed[345..351].copy_from_slice(b"prefix");
    resum(&mut prefixed[..512]);
    let (found, _) = read(&prefixed, 512).unwrap();
    assert_eq!(found[0].0.name, b"prefix/name");

    let long = [&[b'n'; 300][..], b"\0"].concat();
    let mut head = Smith::default().file("././@LongLink", &long).0;
    head[156] = b'L';
    resum(&mut head[..512]);
    let tar = Smith(head).file("short", b"x").end();
    let (found, passed) = read(&tar, 512).unwrap();
    assert_eq!((found.len(), &found[0].0.name[..], &found[0].1[..]), (1, &long[..300], &b"x"[..]));
    assert_eq!(passed, tar);
}

#[test]
fn a_global_header_changes_nothing() {
    let mut records = Vec::new();
    pax::push(&mut records, b"uid", b"77");
    pax::push(&mut records, b"comment", b"made by git");
    let mut global = Smith::default().file("pax_global_header", &records).0;
    global[156] = b'g';
    resum(&mut global[..512]);
    let (found, _) = read(&Smith(global).file("f", b"x").end(), 512).unwrap();
    assert_eq!((found.len(), found[0].0.uid), (1, 0));
}

#[test]
fn header_bombs_cost_little() {
    let mut map = entry(EntryKind::File, "s", b"");
    map.sparse = Some(vec![]);
    let mut block = writer::head(&map).block.0;
    block[156] = b'S';
    block[482] = 1;
    resum(&mut block);
    let mut endless = block.to_vec();
    for _ in 0..20_000 {
        let mut more = [0; 512];
        more[504] = 1;
        endless.extend_from_slice(&more);
    }
    assert!(read(&endless, 4096).is_err());

    let mut many = Vec::new();
    for _ in 0..1000 {
        let mut one = Smith::default().file("x", &[0; 4096]).0;
        one[156] = b'x';
        resum(&mut one[..512]);
        many.extend_from_slice(&one);
    }
    assert!(read(&many, 4096).unwrap_err().chain().contains("too large"));
    assert_eq!(padding(513), 511);
}
