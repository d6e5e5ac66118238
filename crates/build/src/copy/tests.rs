use super::*;
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
};

struct Trees {
    _dir: tempfile::TempDir,
    source: Arc<Root>,
    from: PathBuf,
    target: Root,
    to: PathBuf,
}

fn trees() -> Trees {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(&from).unwrap();
    fs::create_dir_all(to.join("etc")).unwrap();
    fs::write(to.join("etc/passwd"), "root:x:0:0::/:\napp:x:1000:1001::/:\n").unwrap();
    fs::write(to.join("etc/group"), "root:x:0:\napp:x:1001:\nweb:x:33:\n").unwrap();
    let (source, target) = (Arc::new(Root::open(&from).unwrap()), Root::open(&to).unwrap());
    Trees { _dir: dir, source, from, target, to }
}

impl Trees {
    fn write(&self, path: &str, content: &str) {
        let path = self.from.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn gather(&self, pattern: &str) -> Result<Vec<Found>> {
        gather(&self.source, Tree::Context, pattern, Archive::Unpack)
    }

    fn copy(&self, patterns: &[&str], dest: &str, edit: impl FnOnce(&mut Copy)) -> Result<()> {
        let mut copy = Copy {
            name: "ADD",
            sources: Vec::new(),
            dest: dest.into(),
            from: None,
            chown: None,
            chmod: None,
            checksum: None,
            ..Copy::default()
        };
        edit(&mut copy);
        let mut found = Vec::new();
        for pattern in patterns {
            found.extend(self.gather(pattern)?);
        }
        let unpack = |_: File, into: &Root| {
            into.create("unpacked", 0o644).map(|_| ()).map_err(|e| failed("x".into(), e))
        };
        Transfer { copy: &copy, found: &found, working_dir: "/work", unpack: &unpack }
            .run(&self.target)
    }

    fn listing(&self) -> String {
        let mut lines = Vec::new();
        walk::below(&self.target, Path::new(""), |entry| {
            let path = entry.path.display();
            let stat = &entry.stat;
            if !path.to_string().starts_with("etc") {
                lines.push(format!(
                    "{path} {:?} {:o} {}:{}",
                    stat.kind, stat.mode, stat.uid, stat.gid
                ));
            }
            Ok(true)
        })
        .unwrap();
        lines.sort();
        lines.join("\n")
    }
}

fn hash(found: &Result<Vec<Found>>) -> String {
    joint_hash(found.as_ref().unwrap())
}

#[test]
fn content_and_mode_count_but_not_time() {
    let t = trees();
    t.write("d/a", "1");
    t.write("d/b/c", "2");
    let first = hash(&t.gather("d"));
    assert!(first.starts_with("dir:") && hash(&t.gather("d/a")).starts_with("file:"));
    let old = std::time::SystemTime::UNIX_EPOCH;
    File::options().write(true).open(t.from.join("d/a")).unwrap().set_modified(old).unwrap();
    assert_eq!(hash(&t.gather("/d")), first);
    assert_eq!(hash(&t.gather("./d/")), first);
    fs::set_permissions(t.from.join("d/a"), fs::Permissions::from_mode(0o755)).unwrap();
    let second = hash(&t.gather("d"));
    assert_ne!(second, first);
    t.write("d/b/c", "3");
    let third = hash(&t.gather("d"));
    assert_ne!(third, second);
    fs::rename(t.from.join("d/a"), t.from.join("d/z")).unwrap();
    assert_ne!(hash(&t.gather("d")), third);
}

#[test]
fn patterns_find_files_in_order() {
    let t = trees();
    for path in ["b.go", "a.go", "c.txt", "d/e.go", "x y/[z"] {
        t.write(path, path);
    }
    let names = |pattern: &str| -> Vec<String> {
        t.gather(pattern)
            .unwrap()
            .into_iter()
            .map(|f| match f.what {
                What::Tree { path, .. } => path.display().to_string(),
                What::Inline { name, .. } => name,
            })
            .collect()
    };
    assert_eq!(names("*.go"), ["a.go", "b.go"]);
    assert_eq!(names("*/*.go"), ["d/e.go"]);
    assert_eq!(names("?.*"), ["a.go", "b.go", "c.txt"]);
    assert_eq!(names("x*/[[]z"), ["x y/[z"]);
    assert!(names("*.none").is_empty());
    assert!(names("[").is_empty());
}

#[test]
fn what_is_not_there_or_outside_is_refused() {
    let t = trees();
    symlink("/etc/passwd", t.from.join("out")).unwrap();
    let error = |path: &str| t.gather(path).unwrap_err().chain();
    assert_eq!(
        error("nope"),
        "file not found in build context or excluded by .dockerignore: stat nope: file does not exist"
    );
    // A symlink leads to a file of the context, never of the host.
    assert!(error("out").contains("stat out: file does not exist"));
    assert_eq!(error("../x"), "forbidden path outside the build context: ../x ()");
    assert_eq!(
        error("/../../etc/passwd"),
        "forbidden path outside the build context: ../../etc/passwd ()"
    );
    let image = gather(&t.source, Tree::Image, "nope", Archive::Keep).unwrap_err().chain();
    assert_eq!(image, "stat nope: file does not exist");
}

#[test]
fn files_folders_and_destinations() {
    let t = trees();
    t.write("f", "f");
    t.write("d/sub/x", "x");
    fs::set_permissions(t.from.join("d/sub"), fs::Permissions::from_mode(0o2750)).unwrap();
    symlink("x", t.from.join("d/sub/link")).unwrap();
    t.copy(&["f"], "rel", |_| ()).unwrap();
    t.copy(&["f"], "/as/dir/", |_| ()).unwrap();
    t.copy(&["f"], "/as", |_| ()).unwrap();
    t.copy(&["d"], "/tree", |_| ()).unwrap();
    t.copy(&["d", "f"], "/owned/", |c| c.chown = Some("app:web".into())).unwrap();
    t.copy(&["f"], "/mode", |c| c.chmod = Some("4711".into())).unwrap();
    expect_test::expect![[r#"
        as Dir 755 0:0
        as/dir Dir 755 0:0
        as/dir/f File 644 0:0
        as/f File 644 0:0
        mode File 4711 0:0
        owned Dir 755 1000:33
        owned/f File 644 1000:33
        owned/sub Dir 2750 1000:33
        owned/sub/link Symlink 777 1000:33
        owned/sub/x File 644 1000:33
        tree Dir 755 0:0
        tree/sub Dir 2750 0:0
        tree/sub/link Symlink 777 0:0
        tree/sub/x File 644 0:0
        work Dir 755 0:0
        work/rel File 644 0:0"#]]
    .assert_eq(&t.listing());
}

#[test]
fn times_and_holes_and_hard_links_survive() {
    let t = trees();
    let sparse = File::create(t.from.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    t.write("d/one", "1");
    fs::hard_link(t.from.join("d/one"), t.from.join("d/two")).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    File::options().write(true).open(t.from.join("d/one")).unwrap().set_modified(old).unwrap();
    t.copy(&["sparse", "d"], "/", |_| ()).unwrap();
    let sparse = fs::metadata(t.to.join("sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks()), (64 << 20, 0));
    let (one, two) =
        (fs::metadata(t.to.join("one")).unwrap(), fs::metadata(t.to.join("two")).unwrap());
    assert_eq!((one.ino(), one.modified().unwrap()), (two.ino(), old));
}

#[test]
fn symlinks_in_the_destination_stay_inside() {
    let t = trees();
    t.write("f", "f");
    t.write("d/x", "x");
    let outside = t.to.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, t.to.join("abs")).unwrap();
    symlink("../../../outside", t.to.join("up")).unwrap();
    symlink("/made/here", t.to.join("file")).unwrap();
    symlink("loop", t.to.join("loop")).unwrap();
    t.copy(&["f"], "/abs/", |_| ()).unwrap();
    t.copy(&["d"], "/up", |_| ()).unwrap();
    t.copy(&["f"], "/file", |_| ()).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(t.to.join("made/here")).unwrap(), "f");
    assert_eq!(fs::read_to_string(t.to.join("outside/x")).unwrap(), "x");
    assert!(t.copy(&["f"], "/loop/x", |_| ()).unwrap_err().chain().contains("too many levels"));
}

#[test]
fn what_is_in_the_way_is_replaced() {
    let t = trees();
    t.write("d/a/f", "new");
    t.write("d/b", "file");
    fs::create_dir_all(t.to.join("t/b/full")).unwrap();
    fs::write(t.to.join("t/a"), "was a file").unwrap();
    t.copy(&["d"], "/t", |_| ()).unwrap();
    assert_eq!(fs::read_to_string(t.to.join("t/a/f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(t.to.join("t/b")).unwrap(), "file");
}

#[test]
fn archives_are_recognised_by_content() {
    let t = trees();
    let mut tar = tar::Builder::new(File::create(t.from.join("a.txt")).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_cksum();
    tar.append_data(&mut header, "f", &b"x"[..]).unwrap();
    tar.finish().unwrap();
    t.write("b.tar", "not really");
    t.copy(&["a.txt", "b.tar"], "/here/", |_| ()).unwrap();
    assert!(t.to.join("here/unpacked").exists() && t.to.join("here/b.tar").exists());
    assert!(!t.to.join("here/a.txt").exists());
}

#[test]
fn special_files_are_copied_without_being_read() {
    let t = trees();
    t.source.mknod("d", sys::root::Node::Fifo, 0o644).unwrap();
    t.copy(&["d"], "/pipe", |_| ()).unwrap();
    let kind = t.target.lstat("/pipe").unwrap().kind;
    assert_eq!(kind, Kind::Fifo);
}

#[test]
fn owners_are_looked_up_in_the_image() {
    let t = trees();
    let owner = |text: &str| Owner::parse(text, &t.target).map_err(|e| e.chain());
    assert_eq!(owner("app"), Ok(Owner { uid: 1000, gid: 1001 }));
    assert_eq!(owner("7"), Ok(Owner { uid: 7, gid: 7 }));
    assert_eq!(owner("0:web"), Ok(Owner { uid: 0, gid: 33 }));
    assert_eq!(owner("who").unwrap_err(), "can't find uid for user who: no such user: who");
    assert_eq!(owner("0:who").unwrap_err(), "can't find gid for group who: no such group: who");
    assert_eq!(owner("a:b:c").unwrap_err(), "invalid chown string format: a:b:c");
    fs::remove_file(t.to.join("etc/passwd")).unwrap();
    t.target.mknod("/etc/passwd", sys::root::Node::Fifo, 0o644).unwrap();
    assert!(owner("app").unwrap_err().contains("no file of a reasonable size"));
    assert!(owner::parse_mode("8").is_err() && owner::parse_mode("17777").is_err());
}

#[test]
fn changes_of_a_tree_are_transferred() {
    let t = trees();
    let base = t.to.parent().unwrap().join("base");
    for (path, content) in [("same", "1"), ("changed", "1"), ("gone/x", "1"), ("kind", "1")] {
        t.write(path, content);
    }
    let copy = |from: &Path, to: &Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&t.from, &base);
    let work = t.to.parent().unwrap().join("work");
    copy(&t.from, &work);
    let untouched = fs::metadata(work.join("same")).unwrap().ino();
    t.write("changed", "22");
    t.write("new/deep", "3");
    fs::remove_dir_all(t.from.join("gone")).unwrap();
    fs::remove_file(t.from.join("kind")).unwrap();
    t.write("kind/now", "a folder");
    let (from, base) = (Root::open(&t.from).unwrap(), Root::open(&base).unwrap());
    transfer_changes(&from, &base, &Root::open(&work).unwrap()).unwrap();
    let (want, got) = (Root::open(&t.from).unwrap(), Root::open(&work).unwrap());
    let whole = |root: Root| hash::tree(&root, Path::new("")).unwrap();
    assert_eq!(whole(got), whole(want));
    assert_eq!(fs::metadata(work.join("same")).unwrap().ino(), untouched);
}

#[test]
fn attributes_come_along_and_name_the_content() {
    let trees = trees();
    trees.write("d/f", "x");
    let plain = hash(&trees.gather("d"));
    let set = |path: &str, key: &str| {
        let path = trees.from.join(path);
        rustix::fs::lsetxattr(path, key, b"v", rustix::fs::XattrFlags::empty()).unwrap();
    };
    let get = |path: &str, key: &str| {
        let mut value = [0; 8];
        let length = rustix::fs::lgetxattr(trees.to.join(path), key, &mut value);
        length.map(|length| value[..length].to_vec()).ok()
    };
    set("d/f", "user.a");
    let of_file = hash(&trees.gather("d"));
    set("d", "user.b");
    let of_folder = hash(&trees.gather("d"));
    assert!(plain != of_file && of_file != of_folder);
    trees.write("e/d/f", "x");
    set("e/d/f", "user.a");
    set("e/d", "user.b");
    trees.copy(&["e"], "/to/", |_| {}).unwrap();
    assert_eq!(get("to/d/f", "user.a").as_deref(), Some(&b"v"[..]));
    assert_eq!(get("to/d", "user.b").as_deref(), Some(&b"v"[..]));
}

/// Enough files, folders and bytes for several batches; what was there before is replaced, and nothing behind a symlink.
#[test]
fn many_files_in_many_folders_arrive_whole() {
    let t = trees();
    for n in 0..1300 {
        t.write(&format!("d/wide/f{n}"), &format!("wide {n}"));
    }
    for n in 0..60 {
        t.write(&format!("d/deep/{n}/f"), &format!("deep {n}"));
    }
    for n in 0..3 {
        fs::write(t.from.join(format!("d/large{n}")), vec![b'0' + n; 9 << 20]).unwrap();
    }
    fs::set_permissions(t.from.join("d/wide/f700"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::create_dir_all(t.to.join("work/wide/f3")).unwrap();
    fs::write(t.to.join("outside"), "kept").unwrap();
    symlink("../../outside", t.to.join("work/wide/f4")).unwrap();
    fs::write(t.to.join("work/wide/f5"), "a longer text than what is to be there").unwrap();
    t.copy(&["d"], "/work/", |_| {}).unwrap();
    let read = |path: String| fs::read_to_string(t.to.join(path)).unwrap();
    assert!((0..1300).all(|n| read(format!("work/wide/f{n}")) == format!("wide {n}")));
    assert!((0..60).all(|n| read(format!("work/deep/{n}/f")) == format!("deep {n}")));
    for n in 0..3 {
        let bytes = fs::read(t.to.join(format!("work/large{n}"))).unwrap();
        assert!(bytes.len() == 9 << 20 && bytes.iter().all(|b| *b == b'0' + n));
    }
    assert_eq!(read("outside".into()), "kept");
    assert!(!fs::symlink_metadata(t.to.join("work/wide/f4")).unwrap().is_symlink());
    let stat = |path: &str| fs::metadata(t.to.join(path)).unwrap();
    assert_eq!(stat("work/wide/f700").mode() & 0o7777, 0o4751);
    let times = |root: &Path| fs::metadata(root.join("d/wide/f9")).map(|m| m.mtime_nsec());
    assert_eq!(times(&t.from).unwrap(), stat("work/wide/f9").mtime_nsec());
    t.copy(&["d"], "/other/", |copy| copy.chmod = Some("0640".into())).unwrap();
    assert!((0..1300).all(|n| stat(&format!("other/wide/f{n}")).mode() & 0o7777 == 0o640));
}

/// When threads cannot write, the copy says which file it was, and nothing is written any more afterwards.
#[test]
fn a_failure_among_many_files_is_told() {
    let t = trees();
    for n in 0..3000 {
        t.write(&format!("d/{}/f{n}", n / 100), "x");
    }
    let small = t.to.join("work/17");
    fs::create_dir_all(&small).unwrap();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=40k,nr_inodes=8", "none"]).arg(&small);
    if !mount.status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: only root can mount a file system that is full at once");
        return;
    }
    let outcome = t.copy(&["d"], "/work/", |_| {});
    let umount = std::process::Command::new("umount").arg(&small).status();
    assert!(umount.unwrap().success());
    let err = outcome.unwrap_err();
    assert_eq!(err.kind(), base::Kind::Exhausted, "{}", err.chain());
    assert!(err.chain().contains("/work/17/f17"), "{}", err.chain());
}
