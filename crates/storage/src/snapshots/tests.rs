//! Containers' trees end to end, through real overlays.

use crate::{
    Active, ChangeKind, Commit,
    tar::EntryKind,
    testing::{Host, Smith, entry, gnu_tar},
};
use base::{Digest, Kind};
use std::{ffi::OsStr, fs, io::Write as _, os::unix::fs::MetadataExt as _, path::Path};
use sys::root::{Node, Root};

fn base(host: &Host) -> Digest {
    let mut etc = entry(EntryKind::Dir, "etc", b"");
    (etc.mode, etc.uid) = (0o750, 9);
    let tar = Smith::default()
        .add(&etc, b"")
        .file("etc/a", b"a")
        .file("etc/b", b"b")
        .dir("srv")
        .dir("srv/deep")
        .file("srv/deep/f", b"f")
        .dir("tmp")
        .file("tmp/x", b"x")
        .dir("same")
        .file("same/f", b"f")
        .end();
    host.layer(&[], &tar)
}

fn active(host: &Host) -> Active {
    let base = base(host);
    host.snapshots.prepare("c1", &[base], None).unwrap()
}

fn write(root: &Root, path: &str, content: &[u8]) {
    root.create(path, 0o644).unwrap().write_all(content).unwrap();
}

/// What a container may do to its tree.
fn work(root: &Root) {
    write(root, "/etc/a", b"changed");
    root.unlink("/etc/b").unwrap();
    root.mkdir("/new", 0o711).unwrap();
    write(root, "/new/f", b"new");
    root.link("/new/f", "/new/g").unwrap();
    root.remove_all("/srv").unwrap();
    root.mkdir("/srv", 0o755).unwrap();
    write(root, "/srv/again", b"again");
    root.remove_all("/tmp/x").unwrap();
    root.mkdir("/tmp/x", 0o700).unwrap();
    root.chmod("/same/f", 0o600).unwrap();
    root.mknod("/new/socket", Node::Socket, 0o600).unwrap();
    write(root, "/new/.wh.trap", b"");
}

fn lines(host: &Host, active: &Active) -> Vec<String> {
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let changes = host.snapshots.changes(active).unwrap();
    changes.iter().map(|c| format!("{} {}", letter(c.kind), c.path.display())).collect()
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    let host = Host::new();
    let active = active(&host);
    assert_eq!(lines(&host, &active), Vec::<String>::new());
    work(&host.snapshots.mount(&active).unwrap());
    expect_test::expect![[r#"
        C /etc
        C /etc/a
        D /etc/b
        A /new
        A /new/.wh.trap
        A /new/f
        A /new/g
        A /new/socket
        C /same/f
        D /srv
        A /srv/again
        C /tmp
        C /tmp/x
    "#]]
    .assert_eq(&(lines(&host, &active).join("\n") + "\n"));
    assert_eq!(host.snapshots.usage(&active).unwrap().bytes, 16);
}

#[test]
fn a_commit_is_the_tree_and_its_tar() {
    for how in [Commit::Copy, Commit::Take] {
        let host = Host::new();
        let active = active(&host);
        work(&host.snapshots.mount(&active).unwrap());
        let mut diff = Vec::new();
        host.snapshots.diff(&active, &mut diff).unwrap();
        let layer = host.snapshots.commit(&active, how).unwrap();
        assert!(!layer.bound);
        assert_eq!(layer.diff_id, Digest::sha256(&diff));
        assert_eq!(layer.tar_size, diff.len() as u64);
        let mut tar = Vec::new();
        host.layers.write_tar(&layer.layer, &mut tar).unwrap();
        assert!(tar == diff, "{how:?}");
        // The same tar, unpacked from scratch, is the same merged tree.
        let stack = [active.layers[0].clone(), layer.layer.clone()];
        let one = crate::testing::portrait(&host.snapshots.view(&stack).unwrap().dir().unwrap());
        host.layers.remove(&layer.layer).unwrap();
        assert_eq!(host.layer(&[], &tar), layer.layer);
        let two = crate::testing::portrait(&host.snapshots.view(&stack).unwrap().dir().unwrap());
        assert_eq!(one, two, "{how:?}");
        assert!(one.contains_key(&b"srv/again"[..]) && !one.contains_key(&b"srv/deep"[..]));
        assert!(!one.contains_key(&b"new/socket"[..]) && !one.contains_key(&b"new/.wh.trap"[..]));
        assert_eq!(active.upper.exists(), how == Commit::Copy);
        assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
        // An independent reader agrees on the names.
        let file = host.dir.path().join("diff.tar");
        fs::write(&file, &tar).unwrap();
        let listed = gnu_tar(host.dir.path(), &["-tf", file.to_str().unwrap()]);
        expect_test::expect![[r#"
            etc/
            etc/a
            etc/.wh.b
            new/
            new/f
            new/g
            same/
            same/f
            srv/
            srv/.wh..wh..opq
            srv/again
            tmp/
            tmp/x/
            tmp/x/.wh..wh..opq
        "#]]
        .assert_eq(&String::from_utf8(listed).unwrap());
    }
}

#[test]
fn a_tree_that_a_power_cut_took_is_made_again() {
    let host = Host::new();
    let active = active(&host);
    let mend = || host.snapshots.mend("c1", &active.layers, None).unwrap();
    write(&host.snapshots.mount(&active).unwrap(), "/etc/new", b"kept");
    assert!(!mend());
    assert_eq!(lines(&host, &active), ["C /etc", "A /etc/new"]);
    let own = active.upper.ancestors().nth(2).unwrap();
    for gone in [&active.upper, &active.work, own] {
        fs::remove_dir_all(gone).unwrap();
        assert!(mend(), "{}", gone.display());
        assert!(!mend(), "{}", gone.display());
        assert_eq!(lines(&host, &active), Vec::<String>::new());
    }
}

#[test]
fn an_unchanged_tree_commits_to_dockers_empty_layer() {
    let host = Host::new();
    let active = active(&host);
    let layer = host.snapshots.commit(&active, Commit::Take).unwrap();
    let empty = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    assert_eq!(layer.diff_id.as_str(), empty);
}

#[test]
fn mount_points_lie_below_the_image_and_never_count() {
    let host = Host::new();
    let tar = Smith::default().dir("etc").symlink("etc/resolv.conf", b"../run/r").end();
    let layer = host.layer(&[], &tar);
    let active = host.snapshots.prepare("c", std::slice::from_ref(&layer), None).unwrap();
    let root = host.snapshots.mount(&active).unwrap();
    for path in ["/proc", "/sys", "/dev/pts", "/dev/shm", "/etc/hosts", "/etc/hostname"] {
        assert!(root.exists(path).unwrap(), "{path}");
    }
    assert_eq!(root.readlink("/etc/resolv.conf").unwrap(), Path::new("../run/r"));
    assert_eq!(lines(&host, &active), Vec::<String>::new());
    let view = host.snapshots.view(&[layer]).unwrap();
    assert!(!view.exists("/proc").unwrap());
    assert!(host.snapshots.view(&[]).unwrap().read_dir("/").unwrap().is_empty());
    let scratch = host.snapshots.prepare_build("s", &[]).unwrap();
    write(&host.snapshots.mount(&scratch).unwrap(), "/only", b"1");
    assert_eq!(lines(&host, &scratch), ["A /only"]);
}

#[test]
fn the_root_folder_is_as_the_topmost_layer_that_lists_it_says() {
    let host = Host::new();
    let mut dir = entry(EntryKind::Dir, "./", b"");
    (dir.mode, dir.uid) = (0o701, 33);
    let low = host.layer(&[], &Smith::default().add(&dir, b"").end());
    let top = host.layer(&[], &Smith::default().dir("d").end());
    let active = host.snapshots.prepare("c", &[low, top], None).unwrap();
    let stat = host.snapshots.mount(&active).unwrap().stat("/").unwrap();
    assert_eq!((stat.mode, stat.uid), (0o701, 33));
}

#[test]
fn preparing_and_removing_can_be_repeated() {
    let host = Host::new();
    let active = active(&host);
    let again = host.snapshots.prepare("c1", &active.layers, None).unwrap_err();
    assert_eq!(again.kind(), Kind::Conflict);
    assert_eq!(host.snapshots.get("c1", &active.layers).unwrap().upper, active.upper);
    host.snapshots.remove(&active).unwrap();
    host.snapshots.remove(&active).unwrap();
    assert_eq!(host.snapshots.get("c1", &active.layers).unwrap_err().kind(), Kind::NotFound);
    for bad in ["", ".", "..", "../x", "a/b", "x\0y"] {
        assert_eq!(
            host.snapshots.prepare(bad, &[], None).unwrap_err().kind(),
            Kind::Invalid,
            "{bad}"
        );
    }
    let none = Digest::sha256(b"no such layer");
    assert_eq!(host.snapshots.prepare("c2", &[none], None).unwrap_err().kind(), Kind::NotFound);
    let build = host.snapshots.prepare_build("b1", &[]).unwrap();
    host.snapshots.remove(&build).unwrap();
    host.snapshots.prepare_build("b2", &[]).unwrap();
    host.snapshots.remove_builds().unwrap();
    assert_eq!(fs::read_dir(host.root().join("builds")).unwrap().count(), 0);
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_tree_deeper_than_any_path_is_measured_packed_and_deleted() {
    let host = Host::new();
    let active = host.snapshots.prepare("deep", &[], None).unwrap();
    let name = "n".repeat(100);
    let mut dir = sys::root::Dir::open(&active.upper).unwrap();
    for _ in 0..300 {
        dir.mkdir(&name, 0o755).unwrap();
        dir = dir.open_dir(&name).unwrap();
    }
    drop(dir.create_new("f", 0o644).unwrap());
    assert_eq!(host.snapshots.usage(&active).unwrap().inodes, 301);
    let mut tar = Vec::new();
    host.snapshots.diff(&active, &mut tar).unwrap();
    host.snapshots.remove(&active).unwrap();
    assert_eq!(host.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn many_layers_stack() {
    let host = Host::new();
    let layers: Vec<_> = (0..200)
        .map(|n| host.layer(&[], &Smith::default().file(format!("f{n}"), b"").end()))
        .collect();
    let active = host.snapshots.prepare("many", &layers, None).unwrap();
    let root = host.snapshots.mount(&active).unwrap();
    assert!(root.exists("f0").unwrap() && root.exists("f199").unwrap());
    assert_eq!(host.snapshots.view(&layers).unwrap().read_dir("/").unwrap().len(), 200);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.dir.path().to_str().unwrap()));
}

#[test]
fn overlayfs_notes_do_not_reach_a_layer() {
    let host = Host::new();
    let active = active(&host);
    write(&host.snapshots.mount(&active).unwrap(), "/etc/a", b"copied up");
    let layer = host.snapshots.commit(&active, Commit::Take).unwrap();
    let fs = sys::root::Dir::open(&host.layers.path(&layer.layer)).unwrap();
    let etc = fs.open_dir("etc").unwrap();
    for xattrs in [fs.xattrs("etc").unwrap(), etc.xattrs("a").unwrap()] {
        assert!(xattrs.iter().all(|(key, _)| !key.to_string_lossy().contains("overlay")));
    }
    assert_eq!(etc.xattr("a", OsStr::new("trusted.overlay.origin")).unwrap(), None);
    assert_eq!(fs::metadata(host.layers.path(&layer.layer).join("etc")).unwrap().uid(), 9);
}

#[test]
fn a_layer_may_come_twice() {
    let host = Host::new();
    let empty = host.layer(&[], &Smith::default().end());
    let one = host.layer(&[], &Smith::default().file("f", b"one").end());
    let two = host.layer(&[], &Smith::default().file("f", b"two").end());
    let layers = [one.clone(), empty.clone(), two, empty, one];
    let root = host.snapshots.view(&layers).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut root.open_file("f").unwrap(), &mut text).unwrap();
    assert_eq!(text, "one");
}
