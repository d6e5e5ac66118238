//! The clients that people use, against our server: dockerd of docker.io with its command line, skopeo, and the folder
//! of Docker's own registry. What is not installed is passed over, and says so.

use crate::{
    http::list,
    image::{artifact, descriptor, index, manifest, noise, sha512},
    server::{Server, admin, try_admin},
};
use base::Digest;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{Daemon, daemon::Options};

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').map(|dir| Path::new(dir).join(program)).find(|p| p.exists());
    if found.is_none() {
        println!("passed over: {program} is not installed");
    }
    found
}

/// Runs a command that must succeed; its output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {out}{err}");
    format!("{out}{err}")
}

/// Runs a command that must fail; what it says.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{command:?} succeeded: {out}");
    format!("{out}{err}")
}

#[test]
fn dockerd_logs_in_pushes_mounts_pulls_and_searches() {
    let dockerd = Path::new("/usr/sbin/dockerd");
    if !dockerd.exists() {
        println!("passed over: docker.io is not installed");
        return;
    }
    let server = Server::with_users("");
    let mut options = Options::new().without_bridge();
    options.binary = Some(dockerd.to_owned());
    let daemon = Daemon::start(options).unwrap();
    daemon.load_busybox().unwrap();
    let home = tempfile::tempdir().unwrap();
    let docker = |arguments: &[&str]| {
        let mut command = daemon.docker();
        command.env("DOCKER_CONFIG", home.path()).args(arguments);
        command
    };
    let host = server.address.as_str();
    let name = format!("{host}/team/busybox");
    run(&mut docker(&["tag", "busybox", &name]));
    let told = fails(&mut docker(&["push", &name]));
    assert!(told.contains("authentication required") || told.contains("denied"), "{told}");
    let told = fails(&mut docker(&["login", "-u", "carol", "-p", "wrong", host]));
    assert!(told.contains("unauthorized"), "{told}");
    run(&mut docker(&["login", "-u", "carol", "-p", "carols", host]));
    let config = fs::read_to_string(home.path().join("config.json")).unwrap();
    assert!(config.contains("identitytoken") && !config.contains("carols"), "{config}");

    let told = run(&mut docker(&["push", &name]));
    assert!(told.contains("latest: digest: sha256:"), "{told}");
    let second = format!("{host}/team/mounted");
    run(&mut docker(&["tag", "busybox", &second]));
    let told = run(&mut docker(&["push", &second]));
    assert!(told.contains("Mounted from team/busybox"), "{told}");
    let elsewhere = format!("{host}/secret/busybox");
    run(&mut docker(&["tag", "busybox", &elsewhere]));
    let told = fails(&mut docker(&["push", &elsewhere]));
    assert!(told.contains("denied"), "{told}");

    run(&mut docker(&["rmi", "-f", "busybox", &name, &second, &elsewhere]));
    let told = run(&mut docker(&["pull", &name]));
    assert!(told.contains("Downloaded newer image"), "{told}");
    assert!(run(&mut docker(&["pull", &name])).contains("Image is up to date"));
    assert!(
        run(&mut docker(&["manifest", "inspect", "--insecure", &name])).contains("schemaVersion")
    );
    let found = run(&mut docker(&["search", &format!("{host}/busybox")]));
    assert!(found.contains("team/busybox"), "{found}");
    let records = server.admin(&["audit", "--user", "carol", "--action", "pull"], "");
    assert!(records.contains("docker/"), "{records}");
    daemon.empty_and_stop().unwrap();
}

/// An OCI layout with an index of two images, as builders write it.
fn layout(dir: &Path) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        fs::write(blobs.join(Digest::sha256(bytes).hex()), bytes).unwrap();
    };
    let mut children = Vec::new();
    for architecture in ["amd64", "arm64"] {
        // Compressed, because skopeo compresses what is not.
        let plain = noise(&format!("layout {architecture}"), 300_000);
        let diff = Digest::sha256(&plain);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let layer = gzip.finish().unwrap();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        })
        .to_string();
        let text = manifest(config.as_bytes(), &[&layer]).to_string();
        put(&layer);
        put(config.as_bytes());
        put(text.as_bytes());
        let mut child = descriptor(crate::image::OCI_MANIFEST, text.as_bytes());
        child["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
        children.push(child);
    }
    let text = index(&children).to_string();
    put(text.as_bytes());
    let top = index(&[descriptor(crate::image::OCI_INDEX, text.as_bytes())]);
    fs::write(dir.join("index.json"), top.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[test]
fn skopeo_copies_lists_and_deletes() {
    let Some(skopeo) = found("skopeo") else { return };
    let server = Server::with_users("");
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("in"));
    let (from, to) = (dir.path().join("in"), dir.path().join("out"));
    let skopeo = |arguments: &[&str]| {
        let mut command = Command::new(&skopeo);
        command.arg("--insecure-policy").args(arguments);
        command
    };
    let remote = format!("docker://{}/team/app:v1", server.address);
    let (from, to) = (format!("oci:{}", from.display()), format!("oci:{}", to.display()));
    let push = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--dest-creds"];
    run(&mut skopeo(&[&push[..], &["carol:carols", &from, &remote]].concat()));
    fails(&mut skopeo(&[&push[..], &["bob:bobs", &from, &remote]].concat()));
    let pull = ["copy", "--all", "--src-tls-verify=false", "--src-creds"];
    run(&mut skopeo(&[&pull[..], &["bob:bobs", &remote, &to]].concat()));
    fails(&mut skopeo(&["copy", "--src-tls-verify=false", "--src-no-creds", &remote, &to]));
    let blobs = |place: &str| {
        let mut names: Vec<_> =
            fs::read_dir(Path::new(place.trim_start_matches("oci:")).join("blobs/sha256"))
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
        names.sort();
        names
    };
    assert_eq!(blobs(&from), blobs(&to), "byte for byte");
    let repository = format!("docker://{}/team/app", server.address);
    let tags =
        run(&mut skopeo(&["list-tags", "--tls-verify=false", "--creds", "bob:bobs", &repository]));
    assert!(tags.contains("\"v1\""), "{tags}");
    run(&mut skopeo(&["delete", "--tls-verify=false", "--creds", "carol:carols", &remote]));
    fails(&mut skopeo(&["inspect", "--tls-verify=false", "--creds", "bob:bobs", &remote]));
}

/// The folder of Docker's registry, written as it writes it.
fn reference_folder(dir: &Path) {
    let root = dir.join("docker/registry/v2");
    let blob = |bytes: &[u8], digest: &Digest| {
        let hex = digest.hex();
        let data = root.join("blobs").join(digest.algorithm()).join(&hex[..2]).join(hex);
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("data"), bytes).unwrap();
    };
    let link = |path: String, digest: &Digest| {
        let path = root.join("repositories").join(path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("link"), digest.as_str()).unwrap();
    };
    let put = |name: &str, kind: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        blob(bytes, &digest);
        link(format!("{name}/{kind}/sha256/{}", digest.hex()), &digest);
        digest
    };
    let (config, layer) = (noise("import config", 500), noise("import layer", 200_000));
    let image = manifest(&config, &[&layer]).to_string();
    for name in ["team/app", "deep/er/app"] {
        put(name, "_layers", &config);
        put(name, "_layers", &layer);
        let digest = put(name, "_manifests/revisions", image.as_bytes());
        link(format!("{name}/_manifests/tags/v1/current"), &digest);
        link(format!("{name}/_manifests/tags/v1/index/sha256/{}", digest.hex()), &digest);
    }
    let list = index(&[descriptor(crate::image::OCI_MANIFEST, image.as_bytes())]).to_string();
    let digest = put("team/app", "_manifests/revisions", list.as_bytes());
    link("team/app/_manifests/tags/multi/current".into(), &digest);
    // One about another, as clients left it for registries without the referrers API.
    put("team/app", "_layers", b"{}");
    let mut about = artifact("application/vnd.example+sbom", &[]);
    about["subject"] = descriptor(crate::image::OCI_MANIFEST, image.as_bytes());
    put("team/app", "_manifests/revisions", about.to_string().as_bytes());
    // An upload under way, a rotten blob, a tag that leads nowhere, a name that is none.
    fs::create_dir_all(root.join("repositories/team/app/_uploads/1234")).unwrap();
    let rotten = put("team/app", "_layers", &noise("rotten import", 100));
    blob(b"other bytes", &rotten);
    link("team/app/_manifests/tags/lost/current".into(), &sha512(b"nowhere"));
    fs::create_dir_all(root.join("repositories/Bad Name/_manifests")).unwrap();
}

#[test]
fn the_folder_of_dockers_registry_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    reference_folder(&from);
    let root = dir.path().join("root");
    let output = try_admin(&root, &["import", from.to_str().unwrap()], "");
    assert!(!output.status.success(), "there were faults");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["repositories"], &report["manifests"], &report["tags"]),
        (&2.into(), &4.into(), &3.into())
    );
    let faults = list(&report["faults"]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults.iter().any(|f| f.contains("another digest"))
            && faults.iter().any(|f| f.contains("Bad Name"))
    );
    // Once more: nothing new.
    let again = try_admin(&root, &["import", from.to_str().unwrap()], "");
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["blobs"], 0);
    admin(&root, &["scrub"], "");

    let server = Server::below(dir, "", &[]);
    let client = server.client();
    for (name, tag) in [("team/app", "v1"), ("deep/er/app", "v1")] {
        assert!(client.has_image(name, tag), "{name}");
    }
    let digest = client.get("/v2/team/app/manifests/v1").header("docker-content-digest").to_owned();
    client.get("/v2/team/app/manifests/multi").is(200);
    let found = client.get(&format!("/v2/team/app/referrers/{digest}")).is(200).json();
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example+sbom");
    let nothing = tempfile::tempdir().unwrap();
    let told = try_admin(&server.root(), &["import", nothing.path().to_str().unwrap()], "");
    assert!(String::from_utf8_lossy(&told.stderr).contains("does not hold"));
}
