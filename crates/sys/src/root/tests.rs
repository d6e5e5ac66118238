//! The tree stays shut: hostile names, hostile links, and a racer that swaps them meanwhile.

use super::*;
use rustix::fs::RenameFlags;
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
};

struct Place(PathBuf);

impl Place {
    /// A folder of this test's own with a tree and a canary beside it.
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gantry-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("tree/etc")).unwrap();
        fs::create_dir(dir.join("canary")).unwrap();
        fs::write(dir.join("canary/secret"), b"secret").unwrap();
        Self(dir)
    }

    fn root(&self) -> Root {
        Root::open(&self.0.join("tree")).unwrap()
    }

    fn untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.0.join("canary")).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read(self.0.join("canary/secret")).unwrap(), b"secret");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn links_lead_nowhere_but_inside() {
    let place = Place::new("links");
    let root = place.root();
    let canary = place.0.join("canary");
    root.symlink(&canary, "abs").unwrap();
    root.symlink("../../../../../../../../..", "up").unwrap();
    root.symlink("/etc", "in").unwrap();
    root.symlink("/proc/self/root", "magic").unwrap();
    fs::write(place.0.join("tree/etc/f"), b"inner").unwrap();
    assert_eq!(root.open_file("abs/secret").unwrap_err().errno(), Errno::NOENT);
    assert!(root.mkdir("abs/x", 0o700).is_err());
    assert!(root.create("abs/x", 0o600).is_err());
    assert!(root.unlink("abs/secret").is_err());
    for path in ["in/f", "/in/f", "up/etc/f", "../../etc/f", "etc/../../etc/f"] {
        assert_eq!(root.stat(path).unwrap().size, 5, "{path}");
        assert_eq!(root.canonical(path).unwrap(), Path::new("/etc/f"), "{path}");
    }
    assert!(root.open_dir("magic/etc").is_err());
    assert_eq!(root.lstat("in").unwrap().kind, Kind::Symlink);
    assert_eq!(root.stat("up").unwrap().ino, root.stat("/").unwrap().ino);
    // Made where the link leads inside the tree, not where it would lead on the host.
    assert_eq!(root.mkdir_all("abs/new/deep", 0o711, Some((3, 4))).unwrap().len(), {
        canary.components().count() - 1 + 2
    });
    let made = root.stat(canary.join("new/deep")).unwrap();
    assert_eq!((made.mode, made.uid, made.gid), (0o711, 3, 4));
    place.untouched();
}

#[test]
fn names_are_one_component() {
    let place = Place::new("names");
    let dir = place.root().dir().unwrap();
    for bad in ["", ".", "..", "a/b", "/etc", "../canary"] {
        assert_eq!(dir.mkdir(bad, 0o700).unwrap_err().errno(), Errno::INVAL, "{bad:?}");
        assert_eq!(dir.open_dir(bad).unwrap_err().errno(), Errno::INVAL, "{bad:?}");
        assert_eq!(dir.remove_all(bad).unwrap_err().errno(), Errno::INVAL, "{bad:?}");
        assert_eq!(
            dir.set_xattr(bad, OsStr::new("user.x"), b"").unwrap_err().errno(),
            Errno::INVAL
        );
    }
    for bad in ["", "/", "a/..", "a/.", ".."] {
        assert_eq!(place.root().parent(bad).unwrap_err().errno(), Errno::INVAL, "{bad:?}");
    }
    assert_eq!(place.root().parent("etc/x///").unwrap().1, "x");
}

#[test]
fn deleting_goes_deep_and_follows_nothing() {
    let place = Place::new("remove");
    let root = place.root();
    let mut dir = root.dir().unwrap();
    for _ in 0..500 {
        dir.mkdir("down", 0o700).unwrap();
        dir.symlink(place.0.join("canary"), "link").unwrap();
        dir = dir.open_dir("down").unwrap();
    }
    root.remove_all("down").unwrap();
    root.remove_all("link").unwrap();
    root.remove_all("not-there").unwrap();
    assert_eq!(root.read_dir("/").unwrap().len(), 1);
    place.untouched();
}

#[test]
fn attributes_belong_to_the_name_itself() {
    let place = Place::new("attributes");
    let dir = place.root().dir().unwrap();
    dir.symlink(place.0.join("canary/secret"), "link").unwrap();
    let key = OsStr::new("trusted.x");
    dir.set_xattr("link", key, &[7; 3000]).unwrap();
    dir.chown("link", 5, 6).unwrap();
    dir.set_mtime("link", Time { seconds: -5, nanos: 7 }).unwrap();
    assert!(dir.chmod("link", 0o777).is_err());
    let stat = dir.stat("link").unwrap();
    assert_eq!((stat.uid, stat.gid, stat.mtime), (5, 6, Time { seconds: -5, nanos: 7 }));
    assert_eq!(dir.xattrs("link").unwrap(), [(key.to_owned(), vec![7; 3000])]);
    dir.remove_xattr("link", key).unwrap();
    dir.remove_xattr("link", key).unwrap();
    assert_eq!(dir.xattr("link", key).unwrap(), None);
    dir.set_xattr_self(key, b"me").unwrap();
    assert_eq!(dir.xattrs_self().unwrap(), [(key.to_owned(), b"me".to_vec())]);
    let secret = fs::metadata(place.0.join("canary/secret")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&secret), 0);
    place.untouched();
}

#[test]
fn a_racer_that_swaps_folder_and_link_gains_nothing() {
    let place = Place::new("race");
    let root = place.root();
    root.mkdir_all("a/b", 0o755, None).unwrap();
    root.symlink(place.0.join("canary"), "a/evil").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = root.open_dir("a").unwrap();
            while !stop.load(Ordering::Relaxed) {
                let swap = RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(&dir, "b", &dir, "evil", swap);
            }
        });
        for n in 0..3000 {
            let _ = root.create("a/b/secret", 0o600);
            let _ = root.mkdir_all(format!("a/b/d{n}/e"), 0o700, Some((1, 1)));
            let _ = root.symlink("x", format!("a/b/l{n}"));
            let _ = root.chmod("a/b/secret", 0o777);
            let _ = root.chown("a/b/secret", 1, 1);
            let _ = root.unlink("a/b/secret");
            let _ = root.rename("a/b/secret", "moved");
            let _ = root.remove_all(format!("a/b/d{n}"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    place.untouched();
    let secret = fs::metadata(place.0.join("canary/secret")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&secret) & 0o777, 0o644);
}
