//! A tree of odd files comes out of every way through the engine as it went in: commit, save and load, push and pull, cp,
//! export and import, `COPY --from` by both builders.
//!
//! The tree is made and read by this test itself, through `/proc/<pid>/root` of running containers, so that no part of the
//! engine vouches for another. What the disk does not take (large attributes, times beyond its range) is compared as the
//! disk keeps it. Not here: names `.wh.*`, which layers cannot hold (`attacks_layers`).

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};
use testkit::{
    Cx, cases, command,
    cx::skip,
    image::sha256,
    registry::{Options, Registry},
    suite::Case,
};

pub const CASES: &[Case] = cases![
    odd_files_stay_as_they_are_through_images,
    odd_files_stay_as_they_are_through_copies,
    odd_files_stay_as_they_are_through_builds,
];

/// What is compared of a file, as readable text.
type Tree = BTreeMap<String, String>;

const SPARSE_BYTES: u64 = 256 << 20;
/// Files of one large folder.
const MANY: usize = 5000;

fn make(at: &Path) {
    let file = |name: &[u8], text: &str| -> PathBuf {
        let path = at.join(OsStr::from_bytes(name));
        fs::write(&path, text).unwrap();
        path
    };
    fs::create_dir(at).unwrap();
    // Names.
    let long = [b'n'; 255];
    for name in [
        &b"line\nend"[..],
        b"\xff\xfe not unicode",
        b"back\\slash",
        b" blanks ",
        b"-rf",
        b"\"quotes'",
        b"%2e%2e",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"CASE",
        b"case",
        b"\x01\x7f",
        b"...",
        b"wh.not",
        &long,
    ] {
        file(name, "named");
    }
    let mut deep = at.to_owned();
    for _ in 0..14 {
        deep.push(OsStr::from_bytes(&[b'd'; 255]));
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("bottom"), "deep").unwrap();
    let many = at.join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..MANY {
        fs::write(many.join(format!("file-{n}")), "").unwrap();
    }
    // Kinds.
    fs::create_dir(at.join("empty")).unwrap();
    symlink("line\nend", at.join("to a name")).unwrap();
    symlink("/nowhere/at/all", at.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(&[b't'; 4000]), at.join("long target")).unwrap();
    let linked = file(b"linked", "twice");
    fs::hard_link(&linked, at.join("empty/again")).unwrap();
    for (name, kind, device) in [
        ("pipe", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70_000)),
    ] {
        rustix::fs::mknodat(CWD, at.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    let sparse = fs::File::create(at.join("sparse")).unwrap();
    sparse.set_len(SPARSE_BYTES).unwrap();
    sparse.write_all_at(b"middle", SPARSE_BYTES / 2).unwrap();
    // Owners and modes.
    let owned = file(b"owned", "by somebody");
    std::os::unix::fs::chown(&owned, Some(4_000_000_000), Some(65_534)).unwrap();
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2711), ("none", 0o000)] {
        let path = file(name.as_bytes(), "");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let sticky = at.join("sticky");
    fs::create_dir(&sticky).unwrap();
    fs::set_permissions(sticky, fs::Permissions::from_mode(0o3777)).unwrap();
    // Attributes: of users, of the system, rights of a file (cap_net_raw+ep), an access list (user 7: read).
    let rights = file(b"rights", "");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
    };
    let mut net_raw = vec![1, 0, 0, 2, 0, 0x20, 0, 0];
    net_raw.resize(20, 0);
    set(&rights, "security.capability", &net_raw).unwrap();
    let listed = file(b"listed", "");
    let mut access = vec![2, 0, 0, 0];
    for (tag, right, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        access.extend(tag.to_le_bytes());
        access.extend(right.to_le_bytes());
        access.extend(id.to_le_bytes());
    }
    // Not on every disk.
    _ = set(&listed, "system.posix_acl_access", &access);
    let noted = file(b"noted", "");
    _ = set(&noted, "user.binary", b"\0\xff=\n");
    _ = set(&noted, "user.empty", b"");
    _ = set(&noted, "user.large", &vec![b'x'; 60_000]);
    _ = set(&noted, "trusted.own", b"kept");
    _ = set(&at.join("empty"), "user.folder", b"too");
    // Times, the tree's last touch.
    for (name, seconds) in [
        ("old", -86_400 * 365 * 30),
        ("zero", 0),
        ("later", 4_398_046_511),
        ("far", 253_402_300_800),
    ] {
        let path = file(name.as_bytes(), "");
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// What is at `at` and below.
fn read(at: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    let mut queue = vec![at.to_owned()];
    while let Some(path) = queue.pop() {
        let shown = path.strip_prefix(at).unwrap().as_os_str().as_bytes();
        let shown = shown.escape_ascii().to_string();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let mut text =
            format!("{:o} {}:{} at {}", meta.mode(), meta.uid(), meta.gid(), meta.mtime());
        if kind.is_dir() {
            let mut inner: Vec<_> =
                fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).collect();
            inner.sort();
            inner.reverse();
            queue.extend(inner);
        } else if kind.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            text += &format!(" to {}", to.as_os_str().as_bytes().escape_ascii());
        } else if kind.is_file() && meta.len() >= SPARSE_BYTES {
            // Blocks of 512 bytes.
            text += &format!(" {} bytes, sparse: {}", meta.len(), meta.blocks() < 2048);
            let mut middle = [0; 6];
            fs::File::open(&path).unwrap().read_exact_at(&mut middle, SPARSE_BYTES / 2).unwrap();
            text += &String::from_utf8_lossy(&middle);
        } else if kind.is_file() {
            text += &format!(" {}", &sha256(&fs::read(&path).unwrap())[..12]);
        } else {
            text += &format!(" device {:x}", meta.rdev());
        }
        if kind.is_file() && meta.nlink() > 1 {
            let first = links.entry(meta.ino()).or_insert_with(|| shown.clone());
            text += &format!(" same as {first}");
        }
        for (name, value) in attributes(&path) {
            text += &format!(" {name}={}", &sha256(&value)[..12]);
        }
        tree.insert(shown, text);
    }
    tree
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty());
    names
        .map(|name| {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value).unwrap();
            value.truncate(length);
            (name, value)
        })
        .collect()
}

/// Where a running container's `/t` is seen from here.
fn place(cx: &Cx<'_>, name: &str, folder: &str) -> PathBuf {
    let pid = cx.inspect(name)["State"]["Pid"].as_i64().unwrap();
    PathBuf::from(format!("/proc/{pid}/root/{folder}"))
}

/// A container with the tree at `/t`, and what the tree is.
fn original(cx: &Cx<'_>) -> (String, Tree) {
    if !cx.is_gantry() {
        skip("what Docker loses is known");
    }
    if !rustix::process::geteuid().is_root() {
        skip("needs root");
    }
    let name = cx.sleeper("a", &[]);
    let at = place(cx, &name, "t");
    make(&at);
    let tree = read(&at);
    assert!(tree.len() > MANY + 40, "{}", tree.len());
    (name, tree)
}

/// The same, or the first differences.
fn same(way: &str, before: &Tree, after: &Tree) {
    let mut told = Vec::new();
    for name in before.keys().chain(after.keys().filter(|k| !before.contains_key(*k))) {
        let (was, is) = (before.get(name), after.get(name));
        if was != is {
            let short: String = name.chars().take(60).collect();
            told.push(format!("{short}\n    was {was:?}\n    is  {is:?}"));
        }
    }
    told.truncate(12);
    assert!(told.is_empty(), "{way}:\n  {}", told.join("\n  "));
}

/// The tree in a container of `image`.
fn of_image(cx: &Cx<'_>, image: &str, part: &str, folder: &str) -> Tree {
    let name = cx.name(part);
    cx.docker(&["run", "-d", "--name", &name, "-l", &cx.label(), image, "sleep", "600"]).ok();
    let tree = read(&place(cx, &name, folder));
    cx.docker(&["rm", "-f", &name]).ok();
    tree
}

fn odd_files_stay_as_they_are_through_images(cx: &Cx<'_>) {
    let (name, tree) = original(cx);
    let image = cx.name("image");
    cx.docker(&["commit", &name, &image]).ok();
    same("commit", &tree, &of_image(cx, &image, "b", "t"));
    let archive = cx.dir().join("saved.tar").display().to_string();
    cx.docker(&["save", "-o", &archive, &image]).ok();
    cx.docker(&["rmi", &image]).ok();
    cx.docker(&["load", "-q", "-i", &archive]).ok();
    same("save and load", &tree, &of_image(cx, &image, "c", "t"));
    let registry = Registry::gantry(Options::default()).unwrap();
    let remote = format!("{}/{image}:1", registry.host());
    cx.docker(&["tag", &image, &remote]).ok();
    cx.docker(&["push", "-q", &remote]).ok();
    cx.docker(&["rmi", &image, &remote]).ok();
    cx.docker(&["pull", "-q", &remote]).ok();
    same("push and pull", &tree, &of_image(cx, &remote, "d", "t"));
    cx.docker(&["rmi", &remote]).ok();
}

fn odd_files_stay_as_they_are_through_copies(cx: &Cx<'_>) {
    let (name, tree) = original(cx);
    let other = cx.sleeper("b", &[]);
    let still = cx.name("c");
    cx.docker(&["create", "--name", &still, "busybox", "sleep", "600"]).ok();
    let piped = |args: &[&str], to: &Path| {
        let out = fs::File::create(to).unwrap();
        let status = cx.command().args(args).stdout(out).status().unwrap();
        assert!(status.success(), "{args:?}");
    };
    let archive = cx.dir().join("cp.tar");
    piped(&["cp", &format!("{name}:/t"), "-"], &archive);
    for to in [&other, &still] {
        let input = fs::File::open(&archive).unwrap();
        let mut command = cx.command();
        command.args(["cp", "-a", "-", &format!("{to}:/")]).stdin(input);
        assert!(command.status().unwrap().success());
    }
    same("cp", &tree, &read(&place(cx, &other, "t")));
    cx.docker(&["start", &still]).ok();
    same("cp to what did not run", &tree, &read(&place(cx, &still, "t")));
    let exported = cx.dir().join("exported.tar");
    piped(&["export", &name], &exported);
    let image = cx.name("image");
    cx.docker(&["import", &exported.display().to_string(), &image]).ok();
    same("export and import", &tree, &of_image(cx, &image, "d", "t"));
    cx.docker(&["rmi", &image]).ok();
}

fn odd_files_stay_as_they_are_through_builds(cx: &Cx<'_>) {
    let (name, mut tree) = original(cx);
    let (image, built) = (cx.name("image"), cx.name("built"));
    cx.docker(&["commit", &name, &image]).ok();
    cx.write("Dockerfile", format!("FROM {image} AS a\nFROM busybox\nCOPY --from=a /t /t\n"));
    // The classic builder makes the folder itself anew, as Docker's does.
    tree.remove("");
    let copied = |what: &str| {
        let mut copied = of_image(cx, &built, what, "t");
        copied.remove("");
        same(what, &tree, &copied);
        cx.docker(&["rmi", &built]).ok();
    };
    cx.docker(&["build", "-q", "-t", &built, "."]).ok();
    copied("classic");
    command::run(cx.gantry_build().args(["-q", "-t", &built, "."]), b"").ok();
    copied("buildkit");
    cx.docker(&["rmi", &image]).ok();
}
