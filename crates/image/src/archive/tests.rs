//! Loading and saving over a sink in memory. The shapes are those that docker 20.10, docker 25, skopeo,
//! buildah and podman write; where skopeo and buildah are installed, what they really write is read too.

use super::*;
use crate::{
    Applied, ConfigBlob, LayerSink, LayerSource, Limits,
    config::{History, ImageConfig},
};
use base::{Digest, Error, Platform, Reference, Result};
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::Path,
    process::Command,
    sync::Mutex,
};

/// Layers in memory. A layer with a hard link to a file that it does not hold is bound to its chain.
#[derive(Default)]
struct Memory {
    tars: Mutex<BTreeMap<Digest, (Digest, Vec<u8>)>>,
    applied: Mutex<usize>,
}

impl Memory {
    fn count(&self) -> usize {
        *self.applied.lock().unwrap()
    }
}

impl LayerSink for Memory {
    fn find(&self, diff_id: &Digest) -> Result<Option<Applied>> {
        let tars = self.tars.lock().unwrap();
        Ok(tars.get(diff_id).map(|(diff_id, tar)| applied(diff_id, diff_id, tar, false)))
    }

    fn apply(&self, parents: &[Digest], tar: &mut dyn Read) -> Result<Applied> {
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(|e| crate::decompress::unwrap("cannot unpack", e))?;
        let diff_id = Digest::sha256(&bytes);
        let mut names = Vec::new();
        let mut bound = false;
        let mut archive = tar::Archive::new(&bytes[..]);
        let bad = |e| Error::invalid("malformed layer").caused_by(e);
        for entry in archive.entries().map_err(bad)? {
            let entry = entry.map_err(bad)?;
            let name = entry.path_bytes().into_owned();
            if let Some(target) = entry.link_name_bytes()
                && entry.header().entry_type() == tar::EntryType::Link
                && !names.contains(&target.to_vec())
            {
                if parents.is_empty() {
                    return Err(Error::invalid("hard link to a file that is not there"));
                }
                bound = true;
            }
            names.push(name);
        }
        let layer = if bound {
            Digest::sha256(format!("{parents:?} {diff_id}").as_bytes())
        } else {
            diff_id.clone()
        };
        *self.applied.lock().unwrap() += 1;
        let answer = applied(&layer, &diff_id, &bytes, bound);
        self.tars.lock().unwrap().insert(layer, (diff_id, bytes));
        Ok(answer)
    }
}

fn applied(layer: &Digest, diff_id: &Digest, tar: &[u8], bound: bool) -> Applied {
    let bytes = tar.len() as u64;
    Applied {
        layer: layer.clone(),
        diff_id: diff_id.clone(),
        size: bytes,
        tar_size: bytes,
        bound,
        fresh: true,
    }
}

impl LayerSource for Memory {
    fn tar_size(&self, layer: &Digest) -> Result<u64> {
        Ok(self.tars.lock().unwrap()[layer].1.len() as u64)
    }

    fn write_tar(&self, layer: &Digest, out: &mut dyn Write) -> Result<()> {
        let tar = self.tars.lock().unwrap()[layer].1.clone();
        out.write_all(&tar).map_err(|e| Error::io("cannot write", e))
    }
}

/// A tar of `(name, content)`; content that begins with `->` is a symbolic, with `=>` a hard link.
fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        let text = String::from_utf8_lossy(content);
        if let Some(target) = text.strip_prefix("->") {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, name, target).unwrap();
        } else if let Some(target) = text.strip_prefix("=>") {
            header.set_entry_type(tar::EntryType::Link);
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, *content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// An image of two layers and what its parts are.
struct Sample {
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
}

impl Sample {
    fn new(layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|l| Digest::sha256(l)).collect();
        let config = json!({
            "architecture": Platform::host().architecture, "os": "linux", "config": {"Cmd": ["sh"], "Odd": 1},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}
        });
        Self { config: serde_json::to_vec_pretty(&config).unwrap(), layers }
    }

    fn two() -> Self {
        Self::new(vec![
            tar_of(&[("bin/sh", b"one"), ("etc/passwd", b"root")]),
            tar_of(&[("etc/group", &[7; 70_000])]),
        ])
    }

    fn id(&self) -> Digest {
        Digest::sha256(&self.config)
    }

    /// As docker 20.10 writes it, the second layer a link to another folder.
    fn legacy(&self) -> Vec<(String, Vec<u8>)> {
        let config = format!("{}.json", self.id().hex());
        let listing = json!([{"Config": config, "RepoTags": ["sample:1", "other/name:x"],
            "Layers": ["aa/layer.tar", "bb/layer.tar"]}]);
        vec![
            (config, self.config.clone()),
            ("aa/VERSION".into(), b"1.0".to_vec()),
            ("aa/json".into(), b"{}".to_vec()),
            ("aa/layer.tar".into(), self.layers[0].clone()),
            ("bb/layer.tar".into(), b"->../cc/layer.tar".to_vec()),
            ("cc/layer.tar".into(), self.layers[1].clone()),
            ("manifest.json".into(), serde_json::to_vec(&listing).unwrap()),
            ("repositories".into(), b"{}".to_vec()),
        ]
    }

    /// As an OCI layout; `pack` compresses a layer.
    fn oci(&self, media_type: &str, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
        let mut members =
            vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut blob = |bytes: Vec<u8>, media_type: &str| {
            let digest = Digest::sha256(&bytes);
            let size = bytes.len();
            members.push((format!("blobs/sha256/{}", digest.hex()), bytes));
            json!({"mediaType": media_type, "digest": digest, "size": size})
        };
        let layers: Vec<_> = self.layers.iter().map(|l| blob(pack(l), media_type)).collect();
        let config = blob(self.config.clone(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let mut entry = blob(serde_json::to_vec(&manifest).unwrap(), crate::manifest::OCI_MANIFEST);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "sample:1"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        members.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
        members
    }
}

fn pack(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(n, c)| (n.as_str(), c.as_slice())).collect();
    tar_of(&members)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn loaded_with(sink: &Memory, archive: &[u8], options: &Options) -> Result<Vec<LoadedImage>> {
    let dir = tempfile::tempdir().unwrap();
    let result = load(archive, dir.path(), sink, options, &mut |_| {});
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the spool has no name");
    result
}

fn loaded(archive: &[u8]) -> Result<Vec<LoadedImage>> {
    loaded_with(&Memory::default(), archive, &Options::default())
}

fn refused(members: &[(String, Vec<u8>)], text: &str) {
    let err = loaded(&pack(members)).expect_err(text).chain();
    assert!(err.contains(text), "want {text:?}, got {err:?}");
}

fn names(image: &LoadedImage) -> Vec<String> {
    image.references.iter().map(Reference::familiar).collect()
}

#[test]
fn the_layout_of_docker_20_is_loaded_in_any_order_and_compression() {
    let sample = Sample::two();
    let mut members = sample.legacy();
    for turn in 0..members.len() {
        members.rotate_left(1);
        let images = loaded(&pack(&members)).unwrap();
        assert_eq!(images.len(), 1, "turn {turn}");
        assert_eq!(*images[0].id(), sample.id());
        assert_eq!(images[0].config.raw()[..], sample.config[..]);
        assert_eq!(names(&images[0]), ["sample:1", "other/name:x"]);
        assert_eq!(images[0].layers.len(), 2);
        assert_eq!(images[0].origin, Origin::DockerArchive);
    }
    assert_eq!(*loaded(&gzip(&pack(&members))).unwrap()[0].id(), sample.id());
}

#[test]
fn an_oci_layout_is_loaded_with_its_manifest() {
    let sample = Sample::two();
    for (media_type, packed) in [
        (
            "application/vnd.oci.image.layer.v1.tar",
            sample.oci("application/vnd.oci.image.layer.v1.tar", <[u8]>::to_vec),
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            sample.oci("application/vnd.oci.image.layer.v1.tar+gzip", gzip),
        ),
    ] {
        let images = loaded(&pack(&packed)).unwrap();
        assert_eq!(*images[0].id(), sample.id(), "{media_type}");
        assert_eq!(names(&images[0]), ["sample:1"]);
        let digest = images[0].manifest.clone().unwrap();
        assert_eq!(images[0].manifests.len(), 1);
        assert_eq!(Digest::sha256(&images[0].manifests[0].1), digest);
    }
}

#[test]
fn of_several_platforms_the_hosts_is_loaded_and_the_manifests_kept() {
    let sample = Sample::two();
    let mut members = sample.oci(crate::manifest::OCI_LAYER, <[u8]>::to_vec);
    let index: serde_json::Value = serde_json::from_slice(&members.pop().unwrap().1).unwrap();
    let mut ours = index["manifests"][0].clone();
    ours["platform"] = json!(Platform::host());
    let foreign_manifest = br#"{"schemaVersion":2,"config":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let foreign_digest = Digest::sha256(foreign_manifest);
    members.push((format!("blobs/sha256/{}", foreign_digest.hex()), foreign_manifest.to_vec()));
    let foreign = json!({"mediaType": crate::manifest::OCI_MANIFEST, "digest": foreign_digest, "size": foreign_manifest.len(),
        "platform": {"os": "linux", "architecture": "s390x"}});
    let absent = json!({"mediaType": crate::manifest::OCI_MANIFEST, "digest": Digest::sha256(b"absent"), "size": 1,
        "platform": {"os": "linux", "architecture": "ppc64le"}});
    let nested =
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [foreign, absent, ours]}))
            .unwrap();
    let nested_digest = Digest::sha256(&nested);
    members.push((format!("blobs/sha256/{}", nested_digest.hex()), nested.clone()));
    let top = json!({"schemaVersion": 2, "manifests": [{"mediaType": crate::manifest::OCI_INDEX, "digest": nested_digest, "size": nested.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:2"}}]});
    members.push(("index.json".into(), serde_json::to_vec(&top).unwrap()));
    let archive = pack(&members);
    let images = loaded(&archive).unwrap();
    assert_eq!((images.len(), names(&images[0])), (1, vec!["multi:2".to_owned()]));
    let kept: Vec<&Digest> = images[0].manifests.iter().map(|(d, _)| d).collect();
    assert!(kept.contains(&&nested_digest) && kept.contains(&&foreign_digest), "{kept:?}");
    let options = Options { platform: Some("linux/arm/v5".parse().unwrap()), ..Options::default() };
    let err = loaded_with(&Memory::default(), &archive, &options).unwrap_err();
    assert!(err.to_string().contains("no image for platform linux/arm/v5"), "{err}");
}

#[test]
fn towers_of_indexes_are_refused() {
    let mut members = Sample::two().oci(crate::manifest::OCI_LAYER, <[u8]>::to_vec);
    let mut index = members.pop().unwrap().1;
    for depth in 0..8 {
        let digest = Digest::sha256(&index);
        let entry =
            json!({"mediaType": crate::manifest::OCI_INDEX, "digest": digest, "size": index.len()});
        members.push((format!("blobs/sha256/{}", digest.hex()), index));
        index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
        let mut all = members.clone();
        all.push(("index.json".into(), index.clone()));
        assert_eq!(loaded(&pack(&all)).is_ok(), depth < 4, "depth {depth}");
    }
}

#[test]
fn a_layer_that_needs_those_below_is_unpacked_again_on_top_of_them() {
    let sample = Sample::new(vec![
        tar_of(&[("bin/busybox", b"x")]),
        tar_of(&[("bin/ls", b"=>bin/busybox")]),
    ]);
    let sink = Memory::default();
    let images = loaded_with(&sink, &pack(&sample.legacy()), &Options::default()).unwrap();
    assert!(images[0].layers[1].bound);
    assert_ne!(images[0].layers[1].layer, images[0].layers[1].diff_id);
    let alone = Sample::new(vec![tar_of(&[("bin/ls", b"=>bin/busybox")]), tar_of(&[])]);
    refused(&alone.legacy(), "hard link to a file that is not there");
}

#[test]
fn saving_and_loading_again_changes_nothing() {
    let sample = Sample::two();
    let sink = Memory::default();
    let image = loaded_with(&sink, &pack(&sample.legacy()), &Options::default()).unwrap().remove(0);
    let saved = |references: &[Reference]| {
        let mut out = Vec::new();
        let one = SavedImage {
            config: image.config.clone(),
            layers: image.layers.iter().map(|l| l.layer.clone()).collect(),
            references: references.to_vec(),
        };
        save(&[one.clone(), one], &sink, &mut out).unwrap();
        out
    };
    let archive = saved(&image.references);
    assert!(archive == saved(&image.references), "the same image gives the same bytes");
    let again = Memory::default();
    let images = loaded_with(&again, &archive, &Options::default()).unwrap();
    assert_eq!((images.len(), images[0].id()), (2, image.id()));
    assert_eq!(names(&images[0]), names(&image));
    assert!(images[0].manifest.is_some());
    assert_eq!(again.count(), 2, "layers of several images are in the archive once");
    assert!(names(&loaded(&saved(&[])).unwrap()[0]).is_empty());
    let before = again.count();
    loaded_with(&again, &archive, &Options::default()).unwrap();
    assert_eq!(again.count(), before, "layers that are here are not unpacked again");
}

#[test]
fn broken_archives_are_refused() {
    let sample = Sample::two();
    let good = sample.legacy();
    let without = |name: &str| good.iter().filter(|(n, _)| n != name).cloned().collect::<Vec<_>>();
    let with = |name: &str, content: &[u8]| {
        let mut all = without(name);
        all.push((name.to_owned(), content.to_vec()));
        all
    };
    refused(&without("manifest.json"), "does not contain a manifest.json");
    refused(&without("cc/layer.tar"), "layer bb/layer.tar is missing");
    refused(&without(&good[0].0), "is missing");
    refused(&with(&good[0].0, b"{\"rootfs\":{\"diff_ids\":[]}}"), "config digest mismatch");
    refused(&with("cc/layer.tar", &tar_of(&[("x", b"y")])), "invalid diffID for layer 1");
    refused(&with("cc/layer.tar", b"not a tar at all"), "cannot load layer");
    refused(&with("bb/layer.tar", b"->../../../../etc/shadow"), "leads outside");
    refused(&with("bb/layer.tar", b"->/etc/shadow"), "leads outside");
    refused(&with("bb/layer.tar", b"->layer.tar"), "too many links");
    let listing = |layers: serde_json::Value, tags: serde_json::Value| {
        let config = &good[0].0;
        with(
            "manifest.json",
            json!([{"Config": config, "RepoTags": tags, "Layers": layers}]).to_string().as_bytes(),
        )
    };
    refused(
        &listing(json!(["aa/layer.tar"]), json!(null)),
        "layers length mismatch: expected 2, got 1",
    );
    refused(&listing(json!(["aa/layer.tar", "../x"]), json!(null)), "invalid path");
    refused(
        &listing(json!(["bb/layer.tar", "aa/layer.tar"]), json!(null)),
        "invalid diffID for layer 0",
    );
    refused(&listing(json!(["aa/layer.tar", "bb/layer.tar"]), json!(["x"])), "invalid tag \"x\"");
    refused(
        &listing(json!(["aa/layer.tar", "bb/layer.tar"]), json!(["UP:1"])),
        "invalid tag \"UP:1\"",
    );
    refused(&listing(json!(vec!["aa/layer.tar"; 100_000]), json!(null)), "malformed manifest.json");
    refused(&with("manifest.json", b"[[[["), "malformed manifest.json");
    refused(&with("manifest.json", "[".repeat(200_000).as_bytes()), "malformed manifest.json");
    let mut twice = good.clone();
    twice.push(good[6].clone());
    refused(&twice, "manifest.json is in the archive twice");
    // A member that claims a digest in its name must have it.
    let mut oci = sample.oci(crate::manifest::OCI_LAYER, <[u8]>::to_vec);
    oci[1].1[0] ^= 1;
    refused(&oci, "");
    let escaping = tar_with_name(b"../../evil");
    assert!(loaded(&escaping).unwrap_err().to_string().contains("invalid path"));
}

/// `tar` refuses to write `..` itself.
fn tar_with_name(name: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_size(0);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_cut_anywhere_is_refused_and_hangs_nowhere() {
    let sample = Sample::two();
    let mut members = sample.legacy();
    // The listing first: then only the check of the data itself can find the cut.
    members.rotate_right(2);
    let archive = pack(&members);
    let end = archive.len() - 1024 - 512;
    for cut in (0..end).step_by(1531) {
        assert!(loaded(&archive[..cut]).is_err(), "cut at {cut} of {end}");
    }
    let packed = gzip(&archive);
    assert!(loaded(&packed[..packed.len() - 4]).is_err());
}

#[test]
fn limits_hold() {
    let sample = Sample::two();
    let archive = pack(&sample.legacy());
    let with = |limits: Limits| {
        loaded_with(&Memory::default(), &archive, &Options { limits, platform: None })
    };
    let default = Limits::default();
    let few = with(Limits { members: 3, ..default }).unwrap_err();
    assert!(few.to_string().contains("more than 3 members"), "{few}");
    let small = with(Limits { config_bytes: 10, ..default }).unwrap_err();
    assert!(small.to_string().contains("10 are allowed"), "{small}");
    let small = with(Limits { listing_bytes: 10, ..default }).unwrap_err();
    assert!(small.to_string().contains("manifest.json has"), "{small}");
    let bomb = sample.oci("x", gzip);
    let limits = Limits { unpacked_bytes: 10_000, ..default };
    let err = loaded_with(&Memory::default(), &pack(&bomb), &Options { limits, platform: None })
        .unwrap_err();
    assert!(err.chain().contains("more than 10000 bytes"), "{}", err.chain());
    // 2 GiB announced for the listing are refused before they are read.
    let mut header = tar::Header::new_gnu();
    header.set_path("manifest.json").unwrap();
    header.set_size(2 << 30);
    header.set_cksum();
    let err = loaded(header.as_bytes()).unwrap_err();
    assert!(err.to_string().contains("manifest.json has 2147483648 bytes"), "{err}");
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn missing(program: &str) -> bool {
    let missing = Command::new(program).arg("--version").output().is_err();
    if missing {
        eprintln!("skipped: {program} is not installed");
    }
    missing
}

fn tar_dir(dir: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", dir).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn what_skopeo_writes_from_our_archives_is_loaded_with_the_same_id() {
    if missing("skopeo") {
        return;
    }
    let sample = Sample::two();
    let sink = Memory::default();
    let image = loaded_with(&sink, &pack(&sample.legacy()), &Options::default()).unwrap().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut out = Vec::new();
    let one = SavedImage {
        config: image.config.clone(),
        layers: image.layers.iter().map(|l| l.layer.clone()).collect(),
        references: vec![image.references[0].clone()],
    };
    save(&[one], &sink, &mut out).unwrap();
    std::fs::write(path("ours.tar"), out).unwrap();
    let ours = format!("docker-archive:{}", path("ours.tar"));
    let as_layout = path("layout");
    run("tar", &["-xf", &path("ours.tar"), "--one-top-level", "-C", dir.path().to_str().unwrap()]);
    for source in [ours.clone(), format!("oci:{}:1", path("ours"))] {
        for (target, folder) in [
            (format!("docker-archive:{}:x/y:1", path("a.tar")), None),
            (format!("oci-archive:{}:x/y:1", path("b.tar")), None),
            (format!("oci:{as_layout}:x/y:1"), Some("layout")),
            (format!("dir:{}", path("dir")), Some("dir")),
        ] {
            run("skopeo", &["--insecure-policy", "copy", "--quiet", &source, &target]);
            let archive = match folder {
                Some(folder) => {
                    let archive = tar_dir(&dir.path().join(folder));
                    std::fs::remove_dir_all(dir.path().join(folder)).unwrap();
                    archive
                }
                None => {
                    let file = target.split(':').nth(1).unwrap();
                    let bytes = std::fs::read(file).unwrap();
                    std::fs::remove_file(file).unwrap();
                    bytes
                }
            };
            let images =
                loaded(&archive).unwrap_or_else(|e| panic!("{source} -> {target}: {}", e.chain()));
            let kind = |s: &str| s.split([':', '-']).next().map(str::to_owned);
            // Between the two families skopeo writes the config anew, and with it the id.
            if kind(&source) == kind(&target) {
                assert_eq!(images[0].id(), image.id(), "{source} -> {target}");
            }
            let diff_ids = |i: &LoadedImage| i.config.config().rootfs.diff_ids.clone();
            assert_eq!(diff_ids(&images[0]), diff_ids(&image), "{source} -> {target}");
            if folder != Some("dir") {
                assert_eq!(names(&images[0]), ["x/y:1"], "{source} -> {target}");
            }
        }
    }
}

#[test]
fn what_buildah_builds_from_scratch_is_loaded() {
    if missing("buildah") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("file"), "content").unwrap();
    let (root, runroot) = (path("root"), path("run"));
    let buildah = |args: &[&str]| {
        let mut all = vec!["--storage-driver", "vfs", "--root", &root, "--runroot", &runroot];
        all.extend_from_slice(args);
        run("buildah", &all)
    };
    let container = buildah(&["from", "scratch"]);
    buildah(&["copy", "-q", &container, &path("file"), "/a/b/file"]);
    buildah(&["config", "--cmd", "/a/b/file", "--env", "X=1", &container]);
    for (format, target) in [
        ("oci", format!("oci-archive:{}:made/by:buildah", path("oci.tar"))),
        ("docker", format!("docker-archive:{}:made/by:buildah", path("docker.tar"))),
    ] {
        buildah(&["commit", "-q", "--format", format, &container, &target]);
        let archive = std::fs::read(target.split(':').nth(1).unwrap()).unwrap();
        let images = loaded(&archive).unwrap_or_else(|e| panic!("{target}: {}", e.chain()));
        assert_eq!(names(&images[0]), ["made/by:buildah"]);
        assert_eq!(images[0].config.config().config.env.last().unwrap(), "X=1");
        assert_eq!(images[0].layers.len(), 1);
    }
    buildah(&["rm", &container]);
}

#[test]
fn a_config_made_here_survives_the_round_trip() {
    let sink = Memory::default();
    let tar = tar_of(&[("a", b"b")]);
    let layer = sink.apply(&[], &mut &tar[..]).unwrap();
    let mut config = ImageConfig::scratch(&Platform::host());
    config.push(History { created_by: "COPY a".into(), ..History::default() }, Some(layer.diff_id));
    config.push(History { created_by: "CMD x".into(), ..History::default() }, None);
    let config: ConfigBlob = config.seal();
    let mut out = Vec::new();
    let one =
        SavedImage { config: config.clone(), layers: vec![layer.layer], references: Vec::new() };
    save(&[one], &sink, &mut out).unwrap();
    assert_eq!(loaded(&out).unwrap()[0].config, config);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]
    #[test]
    fn no_archive_makes_the_loader_panic(bends in proptest::collection::vec((0_usize..100_000, 0_u8..), 1..6)) {
        let mut archive = pack(&Sample::two().legacy());
        for (at, value) in bends {
            let len = archive.len();
            archive[at % len] = value;
        }
        let _ = loaded(&archive);
    }
}
