//! The rules of images over a layer store that keeps tars as files.

use super::*;
use base::{event::Event, filters::Filters};
use image::config::{History, ImageConfig};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

/// Layers as tar files named by their digest; a tar that holds "bad" is refused.
struct Files(PathBuf);

impl LayerStore for Files {
    fn apply(&self, _parents: &[Digest], tar: &mut dyn Read) -> Result<NewLayer> {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(|e| Error::invalid("cannot unpack").caused_by(e))?;
        if bytes.windows(3).any(|w| w == b"bad") {
            return Err(Error::invalid("refused"));
        }
        let diff_id = Digest::sha256(&bytes);
        fs::write(self.path(&diff_id), &bytes).unwrap();
        Ok(NewLayer {
            layer: diff_id.clone(),
            diff_id,
            size: bytes.len() as u64,
            tar_size: bytes.len() as u64,
            bound: false,
        })
    }

    fn bound_id(&self, _parents: &[Digest], diff_id: &Digest) -> Digest {
        Digest::sha256(diff_id.as_str().as_bytes())
    }

    fn exists(&self, layer: &Digest) -> bool {
        self.path(layer).exists()
    }

    fn list(&self) -> Result<Vec<Digest>> {
        let names =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.map(|n| format!("sha256:{n}").parse()).collect()
    }

    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        out.write_all(&fs::read(self.path(layer)).unwrap())
            .map_err(|e| Error::io("cannot write", e))
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        self.0.join(layer.hex())
    }

    fn verify(&self, layer: &Digest) -> Result<()> {
        let found = Digest::sha256(&fs::read(self.path(layer)).map_err(|e| Error::io("read", e))?);
        if found == *layer { Ok(()) } else { Err(Error::internal("torn")) }
    }

    fn remove(&self, layer: &Digest) -> Result<()> {
        fs::remove_file(self.path(layer)).map_err(|e| Error::io("cannot remove", e))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

struct Host {
    images: Arc<Images>,
    store: Arc<Store>,
    by: Principal,
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("db")).unwrap());
        let content = Content::open(&dir.path().join("content")).unwrap();
        fs::create_dir(dir.path().join("layers")).unwrap();
        let layers = Arc::new(Files(dir.path().join("layers")));
        let images = Arc::new(Images::open(Arc::clone(&store), content, layers).unwrap());
        let by = Principal { uid: Some(7), ..Principal::default() };
        Self { images, store, by, dir }
    }

    /// An image of one layer for each word, made `created` seconds after the epoch.
    fn image(
        &self,
        words: &[&str],
        created: i64,
        references: &[&str],
        parent: Option<&ImageId>,
    ) -> ImageId {
        let hold = self.images.hold();
        let mut config = ImageConfig::scratch(&Platform::host());
        let at = Some(Timestamp::from_unix(created, 0));
        let mut layers = Vec::new();
        for word in words {
            let layer = hold.apply(&[], &mut &tar(word)[..]).unwrap();
            config.push(
                History { created: at, created_by: format!("COPY {word}"), ..History::default() },
                Some(layer.diff_id.clone()),
            );
            layers.push(layer);
        }
        config.push(
            History { created: at, created_by: format!("CMD {created}"), ..History::default() },
            None,
        );
        config.config.labels.insert("made".into(), created.to_string());
        let image = NewImage {
            config: config.seal(),
            layers,
            parent: parent.cloned(),
            references: references.iter().map(|r| r.parse().unwrap()).collect(),
            manifest: None,
            manifests: Vec::new(),
            how: How::Build,
            from: "b1".into(),
            event: None,
        };
        self.images.register(&image, &self.by).unwrap();
        image.config.id().clone()
    }

    fn events(&self) -> Vec<(String, String)> {
        let all = |tx: &Tx<'_>| tx.events(0, Timestamp::ZERO, Timestamp::now(), 1000);
        let event = |e: Event| (e.action, e.attributes.get("name").cloned().unwrap_or_default());
        self.store.read(all).unwrap().into_iter().map(|s| event(s.event)).collect()
    }

    fn list(&self, filters: &[(&str, &str)]) -> Vec<String> {
        let mut options = ListOptions::default();
        filters.iter().for_each(|(key, value)| options.filters.add(*key, *value));
        let found = self.images.list(&options).unwrap();
        found.into_iter().map(|i| i.repo_tags.first().cloned().unwrap_or(i.id)).collect()
    }

    fn remove(&self, name: &str, force: bool, users: &[User]) -> Result<Vec<String>> {
        let removed =
            self.images.remove(name, RemoveOptions { force, prune: true }, users, &self.by)?;
        Ok(removed
            .lines
            .into_iter()
            .map(|l| if l.untagged.is_empty() { l.deleted } else { l.untagged })
            .collect())
    }

    fn on_disk(&self) -> (usize, usize) {
        let layers = fs::read_dir(self.dir.path().join("layers")).unwrap().count();
        (layers, self.images.content.list().unwrap().len())
    }
}

fn tar(word: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(word.len() as u64);
    builder.append_data(&mut header, "file", word.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn user(image: &ImageId, running: bool) -> User {
    User { container: "c".repeat(64), image: image.clone(), running, layers: Vec::new() }
}

fn short(id: &ImageId) -> &str {
    id.short()
}

#[test]
fn names_resolve_in_dockers_order() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1", "app:latest"], None);
    for name in [
        "app:1",
        "app",
        "docker.io/library/app:1",
        id.as_str(),
        id.hex(),
        &id.hex()[..12],
        &id.as_str()[..20],
    ] {
        assert_eq!(host.images.resolve(name).unwrap(), id, "{name}");
    }
    for (name, text) in [
        ("nope", "No such image: nope:latest"),
        ("app:2", "No such image: app:2"),
        ("ffffffffffff", "No such image: ffffffffffff:latest"),
        ("A B", "invalid reference format"),
    ] {
        assert!(host.images.resolve(name).unwrap_err().to_string().contains(text), "{name}");
    }
    for (repository, tag) in [(id.hex(), "1"), ("UP", "1"), ("a", "-"), ("sha256", "x")] {
        assert!(host.images.tag("app:1", repository, tag, &host.by).is_err(), "{repository}:{tag}");
    }
}

#[test]
fn lists_are_filtered_as_docker_filters_them() {
    let host = Host::new();
    let base = host.image(&["a"], 100, &["base:1"], None);
    let step = host.image(&["a", "b"], 200, &[], Some(&base));
    let app = host.image(&["a", "b", "c"], 300, &["example.com/app:2", "app:2"], Some(&step));
    let loose = host.image(&["z"], 400, &[], None);
    assert_eq!(host.list(&[]), [loose.as_str(), "app:2", "base:1"]);
    assert_eq!(host.list(&[("dangling", "true")]), [loose.as_str()]);
    assert_eq!(host.list(&[("dangling", "false")]), ["app:2", "base:1"]);
    assert_eq!(host.list(&[("reference", "*:2")]), ["app:2"]);
    assert_eq!(host.list(&[("reference", "example.com/*")]), ["example.com/app:2"]);
    assert_eq!(host.list(&[("before", "app:2")]), ["base:1"]);
    assert_eq!(host.list(&[("since", "base:1")]), [loose.as_str(), "app:2"]);
    assert_eq!(host.list(&[("label", "made=100")]), ["base:1"]);
    assert_eq!(host.list(&[("label!", "made=100")]), [loose.as_str(), "app:2"]);
    assert_eq!(host.list(&[("until", "350")]), ["app:2", "base:1"]);
    let all = ListOptions { all: true, ..ListOptions::default() };
    assert_eq!(host.images.list(&all).unwrap().len(), 4);
    let bad = |key: &str, value: &str| {
        let mut options = ListOptions::default();
        options.filters.add(key, value);
        host.images.list(&options).unwrap_err().to_string()
    };
    assert_eq!(bad("x", "y"), "invalid filter 'x'");
    assert!(bad("dangling", "maybe").contains("invalid filter"));
    assert!(bad("before", "nope").contains("No such image: nope:latest"));
    let (images, bytes) = host.images.usage(&[user(&app, true)]).unwrap();
    let app = images.iter().find(|i| i.id == app.as_str()).unwrap();
    let size = tar("a").len() as i64;
    assert_eq!((app.containers, app.size, app.shared_size), (1, 3 * size, 2 * size));
    assert_eq!(bytes as i64, 4 * size);
}

#[test]
fn inspect_and_history_tell_the_whole_story() {
    let host = Host::new();
    let base = host.image(&["a"], 100, &["base:1"], None);
    let app = host.image(&["a", "b"], 200, &["app:1"], None);
    host.images.tag("app:1", "base", "1", &host.by).unwrap();
    let inspect = host.images.inspect("app:1", None).unwrap();
    assert_eq!(inspect.repo_tags, ["app:1", "base:1"]);
    assert_eq!(inspect.created, "1970-01-01T00:03:20Z");
    assert_eq!(inspect.root_fs.layers.unwrap().len(), 2);
    assert!(inspect.graph_driver.data.unwrap()["LowerDir"].contains("layers/"));
    let facts = inspect.gantry.unwrap();
    assert_eq!(facts["Came"]["how"], "build");
    assert_eq!(facts["Came"]["by"]["uid"], 7);
    assert_eq!(facts["Base"]["image"], base.as_str());
    assert_eq!(facts["Base"]["evidence"], "layers");
    let lost = host.images.inspect(base.as_str(), None).unwrap().gantry.unwrap();
    assert_eq!(lost["TagHistory"][0]["Reference"], "docker.io/library/base:1");
    let history = host.images.history("app:1", None).unwrap();
    let steps: Vec<_> = history.iter().map(|h| h.created_by.as_str()).collect();
    assert_eq!(steps, ["CMD 200", "COPY b", "COPY a"]);
    assert_eq!(history[0].id, app.as_str());
    assert_eq!(history[0].tags.as_deref().unwrap(), ["app:1", "base:1"]);
    assert_eq!((history[1].id.as_str(), history[1].size), ("<missing>", tar("b").len() as i64));
    let other: Platform = "linux/s390x".parse().unwrap();
    let err = host.images.inspect("app:1", Some(&other)).unwrap_err();
    assert!(err.to_string().contains("does not provide the specified platform"), "{err}");
}

#[test]
fn a_reference_goes_first_and_the_image_with_its_last() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1", "app:2"], None);
    assert_eq!(host.remove("app:1", false, &[]).unwrap(), ["app:1"]);
    let layer = Digest::sha256(&tar("a"));
    assert_eq!(host.remove("app:2", false, &[]).unwrap(), ["app:2", id.as_str(), layer.as_str()]);
    assert!(host.list(&[]).is_empty());
    assert_eq!(host.on_disk(), (1, 1));
    host.images.collect(&Vec::new).unwrap().unwrap();
    assert_eq!(host.on_disk(), (0, 0));
    let names: Vec<_> = host.events().into_iter().map(|(action, _)| action).collect();
    assert_eq!(names, ["tag", "tag", "untag", "untag", "delete"]);
}

#[test]
fn conflicts_have_dockers_texts() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1"], None);
    let text = |name: &str, force: bool, users: &[User]| {
        host.remove(name, force, users).unwrap_err().to_string()
    };
    let container = "c".repeat(12);
    assert_eq!(
        text("app:1", false, &[user(&id, false)]),
        format!(
            "conflict: unable to remove repository reference \"app:1\" (must force) - container {container} is using its referenced image {}",
            short(&id)
        )
    );
    assert_eq!(
        text(id.short(), false, &[user(&id, false)]),
        format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container {container}",
            short(&id)
        )
    );
    for force in [false, true] {
        assert_eq!(
            text(id.short(), force, &[user(&id, true)]),
            format!(
                "conflict: unable to delete {} (cannot be forced) - image is being used by running container {container}",
                short(&id)
            )
        );
    }
    host.images.tag("app:1", "other/app", "x", &host.by).unwrap();
    assert_eq!(
        text(id.short(), false, &[]),
        format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            short(&id)
        )
    );
    let child = host.image(&["a", "b"], 2, &["child:1"], Some(&id));
    assert_eq!(
        text(id.short(), true, &[]),
        format!(
            "conflict: unable to delete {} (cannot be forced) - image has dependent child images",
            short(&id)
        )
    );
    assert_eq!(text("nope", false, &[]), "No such image: nope:latest");
    // The name may go while the image stays for its child; with the child it goes too.
    host.remove("other/app:x", false, &[]).unwrap();
    assert_eq!(host.remove("app:1", false, &[]).unwrap(), ["app:1"]);
    let gone = host.remove("child:1", false, &[]).unwrap();
    assert_eq!(gone.len(), 5, "tag, image, its layer, the untagged parent, its layer: {gone:?}");
    assert_eq!(gone[1], child.as_str());
    assert_eq!(gone[3], id.as_str());
}

#[test]
fn force_removes_names_and_leaves_a_stopped_containers_layers() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1", "other/app:x"], None);
    let mut stopped = user(&id, false);
    stopped.layers = host.images.row(&id).unwrap().layers;
    let gone = host.remove(id.short(), true, std::slice::from_ref(&stopped)).unwrap();
    assert_eq!(gone, ["app:1", "other/app:x", id.as_str()]);
    host.images.collect(&|| vec![stopped.clone()]).unwrap();
    assert_eq!(host.on_disk(), (1, 0));
    host.images.collect(&Vec::new).unwrap();
    assert_eq!(host.on_disk(), (0, 0));
}

#[test]
fn prune_takes_dangling_images_or_all_unused() {
    let host = Host::new();
    let base = host.image(&["a"], 100, &["base:1"], None);
    let used = host.image(&["u"], 100, &["used:1"], None);
    let loose = host.image(&["a", "z"], 200, &[], Some(&base));
    let prune = |filters: &[(&str, &str)], users: &[User]| {
        let mut all = Filters::default();
        filters.iter().for_each(|(key, value)| all.add(*key, *value));
        host.images.prune(&all, users, &host.by)
    };
    assert!(prune(&[("label", "made=1")], &[]).unwrap().images_deleted.is_none());
    assert!(prune(&[("until", "150")], &[]).unwrap().images_deleted.is_none());
    assert!(prune(&[("x", "1")], &[]).is_err());
    let pruned = prune(&[], &[]).unwrap();
    assert_eq!(pruned.images_deleted.unwrap()[0].deleted, loose.as_str());
    assert_eq!(pruned.space_reclaimed, tar("z").len() as u64);
    let pruned = prune(&[("dangling", "false")], &[user(&used, false)]).unwrap();
    assert_eq!(pruned.images_deleted.unwrap()[0].untagged, "base:1");
    assert_eq!(host.list(&[]), ["used:1"]);
    assert_eq!(host.events().last().unwrap().0, "prune");
}

fn saved(host: &Host, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut out = Vec::new();
    host.images.saving(&names).unwrap().write(&mut out, &host.by).unwrap();
    out
}

fn load(host: &Host, archive: &[u8]) -> Result<Vec<Value>> {
    let mut said = Vec::new();
    host.images.load(archive, &LoadOptions::default(), &host.by, &mut |m| said.push(m))?;
    Ok(said)
}

#[test]
fn saved_images_load_elsewhere_with_the_same_id() {
    let (here, there) = (Host::new(), Host::new());
    let id = here.image(&["a", "b"], 5, &["app:1", "app:2"], None);
    let bare = here.image(&["c"], 6, &[], None);
    let archive = saved(&here, &["app", bare.short()]);
    let said = load(&there, &archive).unwrap();
    assert_eq!(said[0]["status"], "Loading layer");
    let texts: Vec<_> = said.iter().filter_map(|m| m["stream"].as_str()).collect();
    assert_eq!(
        texts,
        ["Loaded image: app:1\n", "Loaded image: app:2\n", &format!("Loaded image ID: {bare}\n")]
    );
    assert_eq!(there.images.resolve("app:2").unwrap(), id);
    let facts = there.images.inspect("app:1", None).unwrap().gantry.unwrap();
    assert_eq!(
        (&facts["Came"]["how"], &facts["Came"]["from"]),
        (&"load".into(), &"docker-archive".into())
    );
    assert_eq!(there.events()[0], ("load".into(), id.to_string()));
    let again = load(&there, &archive).unwrap();
    assert!(again.iter().all(|m| m["status"].is_null()), "nothing was unpacked: {again:?}");
    // A tag that moves says so, and the image that lost it stays.
    let other = here.image(&["d"], 7, &["app:1"], None);
    let said = load(&there, &saved(&here, &["app:1"])).unwrap();
    let text = format!(
        "The image app:1 already exists, renaming the old one with ID {id} to empty string\n"
    );
    assert!(said.iter().any(|m| m["stream"] == text.as_str()), "{said:?}");
    assert_eq!(there.images.resolve("app:1").unwrap(), other);
    there.images.collect(&Vec::new).unwrap().unwrap();
    assert!(saved(&there, &["app:2"]).len() > 2000);
    let err = here.images.saving(&["nope:1".into()]).unwrap_err();
    assert_eq!(err.kind(), base::Kind::NotFound);
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let (here, there) = (Host::new(), Host::new());
    here.image(&["a", "b"], 5, &["app:1"], None);
    let archive = saved(&here, &["app:1"]);
    let mut bent = archive.clone();
    let at = bent.len() - 1024 - 1500;
    bent[at] ^= 1;
    for broken in [&archive[..archive.len() - 3000], &bent[..], b"", b"garbage that is no tar"] {
        assert!(load(&there, broken).is_err());
        there.images.collect(&Vec::new).unwrap().unwrap();
        assert_eq!(there.on_disk(), (0, 0));
        assert!(there.list(&[]).is_empty());
    }
    load(&there, &archive).unwrap();
    assert_eq!(there.on_disk(), (2, 2), "two layers; config and manifest");
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let host = Host::new();
    let options = ImportOptions {
        repository: "imported".into(),
        source: "-".into(),
        changes: vec!["CMD [\"sh\"]".into(), "ENV A=1".into()],
        ..ImportOptions::default()
    };
    let id = host.images.import(&tar("x")[..], &options, &host.by).unwrap();
    let inspect = host.images.inspect("imported:latest", None).unwrap();
    assert_eq!((inspect.id.as_str(), inspect.comment.as_str()), (id.as_str(), "Imported from -"));
    assert_eq!(inspect.config.unwrap().cmd.unwrap(), ["sh"]);
    assert_eq!(host.events()[0].0, "import");
    let wrong = ImportOptions { changes: vec!["RUN x".into()], ..options.clone() };
    let err = host.images.import(&tar("x")[..], &wrong, &host.by).unwrap_err();
    assert_eq!(err.to_string(), "run is not a valid change command");
    assert!(host.images.import(&tar("bad")[..], &options, &host.by).is_err());
}

#[test]
fn what_is_held_is_not_collected() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1"], None);
    let held = host.images.take("app:1", None).unwrap();
    host.remove("app:1", false, &[]).unwrap();
    host.images.collect(&Vec::new).unwrap().unwrap();
    assert_eq!(host.on_disk(), (1, 0), "the layer is held, the config is not needed any more");
    assert_eq!(held.id, id);
    drop(held);
    let gate = host.images.gate.read().unwrap();
    assert_eq!(
        host.images.collect(&Vec::new).unwrap(),
        None,
        "put off while something is unpacked"
    );
    drop(gate);
    assert!(host.images.collect_again());
    host.images.collect(&Vec::new).unwrap().unwrap();
    assert_eq!(host.on_disk(), (0, 0));
}

#[test]
fn a_start_after_a_crash_drops_what_no_row_knows() {
    let host = Host::new();
    let id = host.image(&["a"], 1, &["app:1"], None);
    let stray = Digest::sha256(b"stray");
    fs::write(host.dir.path().join("layers").join(stray.hex()), "x").unwrap();
    host.images.content.put(b"stray blob").unwrap();
    assert!(host.images.recover(&[]).unwrap().is_empty());
    assert_eq!(host.on_disk(), (1, 1));
    assert_eq!(host.images.verify().unwrap(), Findings::default());
    host.images.content.remove(&id).unwrap();
    let found = host.images.verify().unwrap();
    assert_eq!(
        (found.broken, found.tags),
        (vec![id.clone()], vec!["docker.io/library/app:1".into()])
    );
    assert_eq!(host.images.recover(&[]).unwrap(), [id]);
}

#[test]
fn what_was_torn_by_a_power_cut_goes_and_names_mean_what_they_meant() {
    let host = Host::new();
    let acknowledged = host.image(&["a"], 1, &["app:1", "kept:1"], None);
    host.images.settle().unwrap();
    assert!(host.store.read(|tx| tx.unsettled()).unwrap().is_empty());
    // A build that nobody was told of: one image with a torn layer, one with a torn config, one that is whole.
    let layer = host.image(&["a", "b"], 2, &["app:1"], None);
    let config = host.image(&["a"], 3, &["kept:1"], Some(&acknowledged));
    let whole = host.image(&["c"], 4, &["whole:1"], None);
    let torn = host.images.row(&layer).unwrap().layers[1].clone();
    fs::write(host.dir.path().join("layers").join(torn.hex()), "").unwrap();
    let blobs = host.dir.path().join("content/blobs/sha256");
    fs::write(blobs.join(config.hex()), "").unwrap();
    let mut gone = vec![layer, config];
    gone.sort();
    let found = host.store.read(|tx| tx.unsettled()).unwrap();
    assert_eq!(found.len(), 5, "{found:?}");
    let mut went = host.images.take_up(true).unwrap();
    went.sort();
    assert_eq!(went, gone);
    for (name, id) in [("app:1", &acknowledged), ("kept:1", &acknowledged), ("whole:1", &whole)] {
        assert_eq!(host.images.resolve(name).unwrap(), *id, "{name}");
    }
    assert!(host.images.recover(&[]).unwrap().is_empty());
    assert_eq!(host.images.verify().unwrap(), Findings::default());
    assert_eq!(host.on_disk(), (2, 2));
    assert!(host.store.read(|tx| tx.unsettled()).unwrap().is_empty());
}

#[test]
fn what_is_acknowledged_is_flushed_with_what_others_made_of_it() {
    let host = Host::new();
    let step = host.image(&["a"], 1, &[], None);
    let waiting = || host.store.read(|tx| tx.unsettled()).unwrap().len();
    assert_eq!(waiting(), 2);
    // The engine was killed and its machine ran on: nothing went.
    assert!(host.images.take_up(false).unwrap().is_empty());
    assert_eq!((waiting(), host.images.resolve(step.as_str()).unwrap()), (0, step.clone()));
    let made = host.image(&["b"], 2, &[], None);
    assert_eq!(waiting(), 2);
    // The same again, as a build finds it in its cache.
    assert_eq!(host.image(&["a"], 1, &["again:1"], None), step);
    assert_eq!(waiting(), 2);
    host.images.tag(made.as_str(), "named", "1", &host.by).unwrap();
    assert_eq!(waiting(), 0);
}

#[test]
fn a_commit_stands_on_its_containers_image() {
    let host = Host::new();
    let base = host.image(&["a"], 1, &["base:1"], None);
    let held = host.images.take("base:1", None).unwrap();
    let layers = host.images.layers_of(&held).unwrap();
    let changed = held.hold.apply(&[], &mut &tar("new")[..]).unwrap();
    let config = api::model::ContainerConfig { cmd: Some(vec!["sh".into()]), ..Default::default() };
    let options = CommitOptions {
        container: "c".repeat(64),
        repository: "made".into(),
        changes: vec!["ENV A=1".into()],
        comment: "note".into(),
        ..CommitOptions::default()
    };
    let id = host
        .images
        .commit(Some(&held), layers, Some(changed), &config, &options, &host.by)
        .unwrap();
    let inspect = host.images.inspect("made", None).unwrap();
    assert_eq!((inspect.id.as_str(), inspect.parent.as_str()), (id.as_str(), base.as_str()));
    assert_eq!((inspect.comment.as_str(), inspect.container), ("note", "c".repeat(64)));
    assert_eq!(inspect.config.unwrap().env.unwrap(), ["A=1"]);
    assert_eq!(inspect.root_fs.layers.unwrap().len(), 2);
    assert_eq!(inspect.gantry.unwrap()["Base"]["evidence"], "parent");
}

#[test]
fn loads_removals_and_collections_at_once_never_leave_an_image_that_is_not_whole() {
    let (here, there) = (Host::new(), Host::new());
    here.image(&["a", "b"], 5, &["app:1"], None);
    here.image(&["a", "c"], 6, &["app:2"], None);
    let archives = [saved(&here, &["app:1"]), saved(&here, &["app:2"])];
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (archives, there) = (&archives, &there);
            scope.spawn(move || {
                for round in 0..25 {
                    let which = (worker + round) % 2;
                    load(there, &archives[which]).unwrap();
                    match there.images.take(&format!("app:{}", which + 1), None) {
                        // Whoever holds an image finds it whole until it lets go.
                        Ok(held) => {
                            assert!(held.layers.iter().all(|l| there.images.layers.exists(l)));
                        }
                        Err(err) => assert_eq!(err.kind(), base::Kind::NotFound, "{}", err.chain()),
                    }
                    let _ = there.remove(&format!("app:{}", which + 1), true, &[]);
                    there.images.collect(&Vec::new).unwrap();
                }
            });
        }
    });
    assert!(there.images.recover(&[]).unwrap().is_empty());
    load(&there, &archives[0]).unwrap();
    assert!(saved(&there, &["app:1"]) == archives[0]);
    there.remove("app:1", true, &[]).unwrap();
    let _ = there.remove("app:2", true, &[]);
    there.images.collect(&Vec::new).unwrap().unwrap();
    assert_eq!(there.on_disk(), (0, 0));
    assert!(there.images.holds().is_empty());
}
