//! Layers end to end: fidelity, hostile tars, bounds.

use crate::{
    Limits,
    tar::{EntryKind, Segment},
    testing::{Host, Smith, entry, gnu_tar},
};
use base::{Digest, Kind};
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, fs::PermissionsExt as _},
    path::Path,
};
use sys::root::{Dir, Node, Root, Time};

/// A tree with everything that a layer may hold.
fn menagerie(dir: &Path) {
    let root = Root::open(dir).unwrap();
    let d = root.dir().unwrap();
    fs::create_dir_all(dir.join("usr/bin")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::create_dir(dir.join("setgid")).unwrap();
    fs::write(dir.join("usr/bin/tool"), b"#!/bin/sh\n").unwrap();
    fs::write(dir.join("setgid/in"), b"in").unwrap();
    fs::write(dir.join("large"), vec![7; 3 << 20]).unwrap();
    fs::write(dir.join("none"), b"").unwrap();
    fs::hard_link(dir.join("large"), dir.join("usr/large-too")).unwrap();
    root.symlink("usr/bin", "bin").unwrap();
    root.symlink("/nowhere/../..", "dangling").unwrap();
    d.mknod("null", Node::Char(1, 3), 0o666).unwrap();
    d.mknod("disk", Node::Block(254, 70_000), 0o660).unwrap();
    d.mknod("pipe", Node::Fifo, 0o600).unwrap();
    d.chown("usr", 3_000_000_000, 4_000_000_000).unwrap();
    d.chmod("none", 0o4755).unwrap();
    d.chmod("setgid", 0o2775).unwrap();
    d.chmod("empty", 0o1777).unwrap();
    let odd: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
    fs::write(dir.join(OsStr::from_bytes(&odd[..200])), b"odd").unwrap();
    fs::write(dir.join("x".repeat(255)), b"long").unwrap();
    let mut deep = dir.to_owned();
    for _ in 0..60 {
        deep.push("d".repeat(30));
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("bottom"), b"deep").unwrap();
    root.symlink("t".repeat(3000), "far").unwrap();
    let caps = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    d.set_xattr("large", OsStr::new("security.capability"), &caps).unwrap();
    d.set_xattr("none", OsStr::new("user.text"), b"a=b\nc\0d").unwrap();
    d.set_xattr("empty", OsStr::new("trusted.note"), &[0; 2000]).unwrap();
    d.set_xattr("bin", OsStr::new("trusted.link"), b"on a symlink").unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"mid", 30 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    for (name, seconds, nanos) in [
        ("none", -1, 500_000_000),
        ("large", 1_234_567_890, 123_456_789),
        ("bin", 0, 1),
        ("empty", 4_000_000_000, 0),
        ("usr", 1_500_000_000, 999_999_999),
        ("sparse", -2_000_000_000, 0),
    ] {
        d.set_mtime(name, Time { seconds, nanos }).unwrap();
    }
}

fn portrait(dir: &Path) -> std::collections::BTreeMap<Vec<u8>, String> {
    crate::testing::portrait(&Dir::open(dir).unwrap())
}

fn check_same(dir: &Path, host: &Host, layer: &Digest) {
    let (want, have) = (portrait(dir), portrait(&host.layers.path(layer)));
    for (path, text) in &want {
        let found = have.get(path).map_or("missing", |t| t);
        assert_eq!(found, text, "{}", path.escape_ascii());
    }
    assert_eq!(want.len(), have.len());
}

#[test]
fn a_tree_survives_gnu_tar_in_all_its_formats() {
    let host = Host::new();
    let tree = host.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    menagerie(&tree);
    for sparse in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={sparse}");
        let args = ["-S", "--format=pax", &version, "--xattrs", "--xattrs-include=*", "-c", "."];
        let tar = gnu_tar(&tree, &args);
        let layer = host.layer(&[], &tar);
        check_same(&tree, &host, &layer);
        let mut again = Vec::new();
        host.layers.write_tar(&layer, &mut again).unwrap();
        assert!(again == tar, "the tar is not written again byte by byte, sparse {sparse}");
        let disk = fs::metadata(host.layers.path(&layer).join("sparse")).unwrap();
        assert!(disk.blocks() * 512 < 1 << 20, "the sparse file takes {} blocks", disk.blocks());
        host.layers.remove(&layer).unwrap();
    }
    let tar = gnu_tar(&tree, &["-S", "--format=gnu", "-c", "."]);
    let layer = host.layer(&[], &tar);
    let mut again = Vec::new();
    host.layers.write_tar(&layer, &mut again).unwrap();
    assert!(again == tar, "the GNU tar is not written again byte by byte");
    assert_eq!(layer, Digest::sha256(&tar));
}

#[test]
fn what_we_pack_is_what_we_unpack_and_what_gnu_tar_unpacks() {
    let host = Host::new();
    let tree = host.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    menagerie(&tree);
    let mut tar = Vec::new();
    let mut sink = crate::pack::Stream(&mut tar);
    crate::pack::pack(&Dir::open(&tree).unwrap(), b"", crate::pack::Tree::Plain, None, &mut sink)
        .unwrap();
    crate::pack::end(&mut sink).unwrap();
    let layer = host.layer(&[], &tar);
    check_same(&tree, &host, &layer);
    let other = host.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(host.dir.path().join("t.tar"), &tar).unwrap();
    let args = ["--xattrs", "--xattrs-include=*", "-p", "--numeric-owner", "-xf"];
    let file = host.dir.path().join("t.tar");
    gnu_tar(&other, &[&args[..], &[file.to_str().unwrap()]].concat());
    let (want, have) = (portrait(&tree), portrait(&other));
    for (path, text) in &want {
        assert_eq!(have.get(path), Some(text), "{}", path.escape_ascii());
    }
}

#[test]
fn whiteouts_become_overlayfs_marks_whatever_the_order() {
    let host = Host::new();
    let base =
        Smith::default().dir("d").file("d/old", b"1").file("gone", b"2").dir("e").file("e/x", b"3");
    let base = host.layer(&[], &base.end());
    let top = Smith::default()
        .file(".wh.gone", b"")
        .dir("d")
        .file("d/new", b"4")
        .file("d/.wh..wh..opq", b"")
        .file(".wh.e", b"")
        .dir("e")
        .file("e/y", b"5")
        .end();
    let top = host.layer(std::slice::from_ref(&base), &top);
    let view = host.snapshots.view(&[base.clone(), top.clone()]).unwrap();
    let names = |path: &str| {
        let list = view.read_dir(path).unwrap();
        list.into_iter().map(|(name, _)| name.into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("/"), ["d", "e"]);
    assert_eq!(names("d"), ["new"]);
    assert_eq!(names("e"), ["y"]);
    let hides_all = Smith::default().file(".wh..wh..opq", b"").file("only", b"6").end();
    let hides_all = host.layer(std::slice::from_ref(&base), &hides_all);
    let view = host.snapshots.view(&[base, top, hides_all]).unwrap();
    let list = view.read_dir("/").unwrap();
    assert_eq!(list.iter().map(|(name, _)| name.to_str().unwrap()).collect::<Vec<_>>(), ["only"]);
}

#[test]
fn implied_folders_and_links_come_from_below_and_bind_the_layer() {
    let host = Host::new();
    let mut dir = entry(EntryKind::Dir, "opt/app", b"");
    (dir.mode, dir.uid) = (0o2750, 77);
    let base = Smith::default().dir("opt").add(&dir, b"").file("opt/app/lib", b"lib").end();
    let base = host.layer(&[], &base);
    let tar = Smith::default().file("opt/app/new", b"n").link("opt/app/lib2", b"opt/app/lib").end();
    let err = host.layers.apply(&[], &mut &tar[..]).unwrap_err();
    assert_eq!(err.kind(), Kind::Invalid, "{}", err.chain());
    let top = host.layers.apply(std::slice::from_ref(&base), &mut &tar[..]).unwrap();
    assert!(top.bound);
    assert_ne!(top.layer, top.diff_id);
    let path = host.layers.path(&top.layer);
    let app = fs::metadata(path.join("opt/app")).unwrap();
    assert_eq!((app.permissions().mode() & 0o7777, app.uid()), (0o2750, 77));
    assert_eq!(app.mtime(), 1_600_000_000);
    assert_eq!(fs::read(path.join("opt/app/lib2")).unwrap(), b"lib");
    let mut again = Vec::new();
    host.layers.write_tar(&top.layer, &mut again).unwrap();
    assert_eq!(again, tar);
    let alone = Smith::default().file("opt/app/new", b"n").end();
    let alone = host.layers.apply(&[], &mut &alone[..]).unwrap();
    assert!(alone.bound && alone.layer != alone.diff_id);
}

#[test]
fn names_that_come_twice_keep_the_last_and_the_tar() {
    let host = Host::new();
    let tar = Smith::default()
        .dir("d")
        .file("d/a", b"first")
        .file("d/a", b"second!")
        .file("d/b", b"inner")
        .file("d", b"now a file")
        .file("e", b"file")
        .dir("e")
        .file("e/a", b"in e")
        .symlink("s", b"e")
        .file("s/b", b"through the link")
        .file("s", b"was a link")
        .end();
    let layer = host.layer(&[], &tar);
    let path = host.layers.path(&layer);
    assert_eq!(fs::read(path.join("d")).unwrap(), b"now a file");
    assert_eq!(fs::read(path.join("e/b")).unwrap(), b"through the link");
    assert_eq!(fs::read(path.join("s")).unwrap(), b"was a link");
    let mut again = Vec::new();
    host.layers.write_tar(&layer, &mut again).unwrap();
    assert!(again == tar);
}

/// Shapes that must be refused, or must stay inside.
fn hostile(canary: &Path) -> Vec<(&'static str, bool, Vec<u8>)> {
    let out = canary.as_os_str().as_bytes();
    let up = "../".repeat(20);
    let inside = |tar| (true, tar);
    let refused = |tar| (false, tar);
    let smith = Smith::default;
    let with_xattr = |key: &str| {
        let mut file = entry(EntryKind::File, "x", b"");
        file.xattrs = vec![(key.into(), b"y".to_vec())];
        smith().add(&file, b"").end()
    };
    let mut lying = entry(EntryKind::File, "lie", b"");
    lying.size = 1 << 40;
    let mut negative = smith().file("n", b"").0;
    negative[124..136].copy_from_slice(&[0xff; 12]);
    resum(&mut negative);
    let mut bad_sum = smith().file("s", b"").end();
    bad_sum[0] ^= 1;
    let mut unknown = smith().file("u", b"").0;
    unknown[156] = b'Z';
    resum(&mut unknown);
    let mut owner = entry(EntryKind::File, "o", b"");
    owner.uid = u32::MAX;
    let pax = |records: &[u8]| {
        let mut block = smith().file("x", b"").0;
        block[156] = b'x';
        block[124..136].copy_from_slice(format!("{:011o}\0", records.len()).as_bytes());
        resum(&mut block);
        let mut block = smith().raw(&block).raw(records).0;
        block.resize(block.len() + crate::tar::padding(records.len() as u64), 0);
        smith().raw(&block).file("f", b"").end()
    };
    let mut huge_pax = smith().file("x", b"").0;
    huge_pax[156] = b'x';
    huge_pax[124..136].copy_from_slice(b"77777777777\0");
    resum(&mut huge_pax);
    let record = |key: &[u8], value: &[u8]| {
        let mut out = Vec::new();
        crate::tar::pax::push(&mut out, key, value);
        out
    };
    let mut sparse = entry(EntryKind::File, "sparse", b"");
    (sparse.size, sparse.sparse) = (8 << 60 >> 1, Some(vec![Segment { offset: 0, length: 1 }]));
    let mut overlap = entry(EntryKind::File, "overlap", b"");
    overlap.size = 10;
    overlap.sparse = Some(vec![Segment { offset: 5, length: 5 }, Segment { offset: 6, length: 4 }]);
    let zero = entry(EntryKind::Char(0, 0), "zero", b"");
    let mut list = vec![
        ("dot dot", refused(smith().file(format!("{up}{}/f", canary.display()), b"x").end())),
        ("dot dot inside", refused(smith().dir("a").file("a/../../f", b"x").end())),
        ("absolute", inside(smith().file([out, b"/f"].concat(), b"x").end())),
        ("link then file", refused(smith().symlink("l", out).file("l/f", b"x").end())),
        (
            "link chain",
            refused(smith().symlink("a", b"b").symlink("b", out).file("a/f", b"x").end()),
        ),
        (
            "link loop",
            refused(smith().symlink("a", b"b").symlink("b", b"a").file("a/f", b"x").end()),
        ),
        ("link up then file", inside(smith().symlink("l", up.as_bytes()).file("l/f", b"x").end())),
        (
            "link as the file",
            inside(smith().symlink("f", &[out, b"/secret"].concat()).file("f", b"x").end()),
        ),
        ("hard link outside", refused(smith().link("h", &[out, b"/secret"].concat()).end())),
        ("hard link up", refused(smith().link("h", format!("{up}etc/passwd").as_bytes()).end())),
        ("hard link through link", refused(smith().symlink("l", out).link("h", b"l/secret").end())),
        (
            "hard link to link then file",
            inside(
                smith()
                    .symlink("l", &[out, b"/secret"].concat())
                    .link("h", b"l")
                    .file("h", b"x")
                    .end(),
            ),
        ),
        ("hard link to a folder", refused(smith().dir("d").link("h", b"d").end())),
        ("hard link to itself", refused(smith().link("h", b"h").end())),
        (
            "folder replaced by link",
            refused(smith().dir("d").symlink("d", out).file("d/f", b"x").end()),
        ),
        ("folder time through link", inside(smith().dir("d").symlink("d", out).end())),
        ("NUL in PAX path", refused(pax(&record(b"path", b"a\0b")))),
        ("PAX path up", refused(pax(&record(b"path", b"../../f")))),
        ("PAX path too long", refused(pax(&record(b"path", &[b'a'; 9000])))),
        ("PAX part too long", refused(pax(&record(b"path", &[b'a'; 300])))),
        ("PAX negative size", refused(pax(&record(b"size", b"-1")))),
        ("PAX size lies", refused(pax(&record(b"size", b"99999999999")))),
        ("PAX bomb", refused(huge_pax)),
        ("PAX garbage", refused(pax(b"999999 path=x\n"))),
        ("trailing slash on a file", inside(smith().file("t/", b"").end())),
        ("whiteout of nothing", refused(smith().file(".wh.", b"").end())),
        ("whiteout of dot", refused(smith().file(".wh..", b"").end())),
        ("whiteout of dot dot", refused(smith().file(".wh...", b"").end())),
        ("whiteout with content", refused(smith().file(".wh.x", b"x").end())),
        (
            "whiteout through link",
            refused(smith().symlink("l", out).file("l/.wh.secret", b"").end()),
        ),
        (
            "opaque through link",
            refused(smith().symlink("l", out).file("l/.wh..wh..opq", b"").end()),
        ),
        ("whiteout as folder", refused(smith().file(".wh.d/f", b"x").end())),
        ("case twins", inside(smith().file("A", b"1").file("a", b"2").end())),
        ("overlay redirect", refused(with_xattr("trusted.overlay.redirect"))),
        ("overlay metacopy", refused(with_xattr("trusted.overlay.metacopy"))),
        ("overlay opaque", refused(with_xattr("trusted.overlay.opaque"))),
        ("device 0:0", refused(smith().add(&zero, b"").end())),
        ("size lies", refused(smith().add(&lying, b"short").end())),
        ("negative size", refused(negative)),
        ("bad checksum", refused(bad_sum)),
        ("unknown type", refused(unknown)),
        ("owner that is none", refused(smith().add(&owner, b"").end())),
        ("sparse of 4 EiB", refused(smith().add(&sparse, b"x").end())),
        ("sparse overlap", refused(smith().add(&overlap, b"123456789").end())),
        ("root as a file", refused(smith().file("./", b"").file(".", b"x").end())),
        ("file as a folder", refused(smith().file("f", b"x").file("f/g", b"x").end())),
        ("cut header", refused(smith().file("f", b"x").0[..700].to_vec())),
        ("not a tar", refused(vec![b'x'; 2000])),
        ("one empty block", refused(smith().raw(&[0; 512]).file("f", b"x").end())),
        ("garbage behind", refused(smith().raw(&[0; 1024]).raw(&[1; 3 << 20]).0)),
        ("empty link", refused(smith().symlink("l", b"").end())),
    ];
    list.drain(..).map(|(name, (fine, tar))| (name, fine, tar)).collect()
}

fn resum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block[..512].iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn hostile_tars_touch_nothing_outside_and_leave_nothing() {
    let host = Host::new();
    let canary = host.dir.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), b"secret").unwrap();
    let before = portrait(host.dir.path().join("canary").as_path());
    let shapes = hostile(&canary);
    assert!(shapes.len() >= 48);
    for (name, fine, tar) in shapes {
        let done = host.layers.apply(&[], &mut &tar[..]);
        match &done {
            Ok(applied) => {
                assert!(fine, "{name} was accepted");
                let mut again = Vec::new();
                host.layers.write_tar(&applied.layer, &mut again).unwrap();
                assert!(again == tar, "{name} is not written again");
                host.layers.remove(&applied.layer).unwrap();
            }
            Err(e) => {
                assert!(!fine, "{name}: {}", e.chain());
                assert_eq!(e.kind(), Kind::Invalid, "{name}: {}", e.chain());
            }
        }
        assert_eq!(portrait(&canary), before, "{name} reached the canary");
        assert!(!canary.join("f").exists(), "{name}");
        assert_eq!(fs::metadata(canary.join("secret")).unwrap().nlink(), 1, "{name}");
        assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new(), "{name}");
    }
    assert_eq!(host.layers.list().unwrap(), []);
}

#[test]
fn limits_are_kept() {
    let host = Host::limited(Limits { entries: 10, tar_bytes: 1 << 20, reserve: 0 });
    let many = (0..11).fold(Smith::default(), |tar, n| tar.file(format!("f{n}"), b"")).end();
    let large = Smith::default().file("large", &vec![1; 2 << 20]).end();
    for tar in [many, large] {
        let err = host.layers.apply(&[], &mut &tar[..]).unwrap_err();
        assert_eq!(err.kind(), Kind::Exhausted, "{}", err.chain());
        assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    }
    let host = Host::limited(Limits { entries: 10, tar_bytes: 1 << 20, reserve: u64::MAX });
    let err = host.layers.apply(&[], &mut &Smith::default().end()[..]).unwrap_err();
    assert_eq!(err.kind(), Kind::Exhausted);
}

#[test]
fn an_empty_stream_and_an_empty_tar_are_layers() {
    let host = Host::new();
    for tar in [&b""[..], &[0; 1024], &[0; 10_240]] {
        let applied = host.layers.apply(&[], &mut &tar[..]).unwrap();
        assert_eq!(applied.diff_id, Digest::sha256(tar));
        assert_eq!(applied.tar_size, tar.len() as u64);
        let mut again = Vec::new();
        host.layers.write_tar(&applied.layer, &mut again).unwrap();
        assert_eq!(again, tar);
    }
}

#[test]
fn the_same_layer_many_times_at_once_is_one() {
    let host = Host::new();
    let tar = (0..300).fold(Smith::default(), |t, n| t.file(format!("f{n}"), &[1; 3000])).end();
    let ids: Vec<Digest> = std::thread::scope(|scope| {
        let run = || host.layers.apply(&[], &mut &tar[..]).unwrap().layer;
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(host.layers.list().unwrap(), [ids[0].clone()]);
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_changed_layer_is_found_out() {
    let host = Host::new();
    let tree = host.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    menagerie(&tree);
    let tar = gnu_tar(&tree, &["--format=pax", "--xattrs", "--xattrs-include=*", "-c", "."]);
    type Change = fn(&Path);
    let changes: [(&str, Change); 7] = [
        ("digest", |p| fs::write(p.join("setgid/in"), b"IN").unwrap()),
        ("mode", |p| {
            fs::set_permissions(p.join("none"), fs::Permissions::from_mode(0o666)).unwrap();
        }),
        ("owner", |p| std::os::unix::fs::lchown(p.join("bin"), Some(5), None).unwrap()),
        ("no such file", |p| fs::remove_file(p.join("pipe")).unwrap()),
        ("target", |p| {
            fs::remove_file(p.join("dangling")).unwrap();
            std::os::unix::fs::symlink("/etc", p.join("dangling")).unwrap();
        }),
        ("too short", |p| drop(fs::File::create(p.join("large")).unwrap())),
        ("record is damaged", |p| fs::write(p.join("../meta"), b"gantry1\nrubbish").unwrap()),
    ];
    for (what, change) in changes {
        let layer = host.layer(&[], &tar);
        host.layers.verify(&layer).unwrap();
        change(&host.layers.path(&layer));
        // A fresh look: trailers are remembered.
        let again = crate::Layers::open(&host.root(), &host.trash, Limits::default()).unwrap();
        let err = again.verify(&layer).unwrap_err();
        assert!(err.chain().contains(what), "{what}: {}", err.chain());
        host.layers.remove(&layer).unwrap();
    }
}

/// A small file system of its own, mounted nowhere.
fn small_disk(size: &str) -> (rustix::fd::OwnedFd, std::path::PathBuf) {
    use std::os::fd::AsRawFd as _;
    let options = [("size".to_owned(), Some(size.to_owned()))];
    let disk = sys::mount::new_fs("tmpfs", "", &options, 0).unwrap();
    let path = format!("/proc/self/fd/{}/data", disk.as_raw_fd()).into();
    (disk, path)
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let (_disk, root) = small_disk("8m");
    let trash = crate::Trash::open(&root).unwrap();
    let limits = Limits { reserve: 0, ..Limits::default() };
    let layers = crate::Layers::open(&root, &trash, limits).unwrap();
    for content in [5 << 20, 9 << 20] {
        let tar = Smith::default().file("a", &vec![1; content]).file("b", &vec![2; content]).end();
        let err = layers.apply(&[], &mut &tar[..]).unwrap_err();
        assert_eq!(err.kind(), Kind::Exhausted, "{}", err.chain());
        trash.settle();
        assert_eq!(fs::read_dir(root.join("layers/tmp")).unwrap().count(), 0);
        assert_eq!(layers.list().unwrap(), []);
    }
    let tar = Smith::default().file("a", &vec![1; 5 << 20]).end();
    let layer = layers.apply(&[], &mut &tar[..]).unwrap().layer;
    layers.verify(&layer).unwrap();
    layers.remove(&layer).unwrap();
    trash.settle();
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing() {
    struct Breaks<'t>(&'t [u8]);
    impl std::io::Read for Breaks<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other(base::Error::cancelled("the client left")));
            }
            self.0.read(out)
        }
    }
    let host = Host::new();
    let tar = Smith::default().file("a", &vec![1; 1 << 20]).file("b", b"x").end();
    for length in [0, 1, 511, 512, 600, 300_000, tar.len() - 1, tar.len()] {
        let err = host.layers.apply(&[], &mut Breaks(&tar[..length])).unwrap_err();
        assert_eq!(err.kind(), Kind::Cancelled, "{length}: {}", err.chain());
        assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn what_a_killed_engine_left_is_swept_at_the_next_start() {
    let host = Host::new();
    let half = host.root().join("layers/tmp/half/fs/deep");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("f"), b"x").unwrap();
    // In one step: the fixture's own trash may be looking at this moment.
    fs::create_dir_all(host.root().join("old/fs")).unwrap();
    fs::rename(host.root().join("old"), host.root().join("trash/old")).unwrap();
    let trash = crate::Trash::open(&host.root()).unwrap();
    crate::Layers::open(&host.root(), &trash, Limits::default()).unwrap();
    trash.settle();
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn many_names_in_one_folder_and_names_at_their_longest() {
    let host = Host::new();
    let mut tar = Smith::default();
    for n in 0..20_000 {
        tar = tar.file(format!("d/{n}"), b"");
    }
    let longest = format!("{}f", "p/".repeat(2047));
    let tar = tar.file(&longest, b"end").file("new\nline", b"1").file([0xff, 0xfe], b"2").end();
    let applied = host.layers.apply(&[], &mut &tar[..]).unwrap();
    host.layers.verify(&applied.layer).unwrap();
    assert_eq!(fs::read_dir(host.layers.path(&applied.layer).join("d")).unwrap().count(), 20_000);
    let mut again = Vec::new();
    host.layers.write_tar(&applied.layer, &mut again).unwrap();
    assert!(again == tar);
}
