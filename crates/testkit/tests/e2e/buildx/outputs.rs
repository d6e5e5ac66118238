//! Where results go, and in which form.

use super::{buildx, built, plugged};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Command};
use testkit::{Cx, Output, cases, command, suite::Case};

pub const CASES: &[Case] = cases![
    times_are_rewritten_so_that_builds_are_the_same,
    files_have_beside_them_what_is_attested,
    several_platforms_go_to_the_disk,
    an_image_of_another_platform_is_told,
    results_are_pushed_by_digest,
    a_layout_is_written_as_a_folder,
    a_level_of_compression_is_obeyed,
    forms_that_are_not_offered_are_refused,
];

/// Another platform than this machine's.
fn foreign() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "linux/amd64" } else { "linux/arm64" }
}

fn own() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "linux/arm64" } else { "linux/amd64" }
}

/// Builds and gives what the metadata file says.
#[track_caller]
fn told(cx: &Cx<'_>, args: &[&str]) -> Value {
    let file = cx.dir().join("meta.json");
    buildx(cx, &[args, &["--metadata-file", file.to_str().unwrap()]].concat()).ok();
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn times_are_rewritten_so_that_builds_are_the_same(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    cx.write("context/f", "x");
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nCOPY f /f\nRUN echo same > /g; mkdir /d; touch -d @1000000000 /old\nWORKDIR /w\n",
    );
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--no-cache"];
    let digest = |options: &str| {
        let output = format!("type=image,name={}/t/same:1,push=true{options}", registry.host());
        let meta = told(cx, &[&epoch[..], &["-o", &output]].concat());
        meta["containerimage.digest"].as_str().unwrap().to_owned()
    };
    let first = digest(",rewrite-timestamp=true");
    assert_eq!(digest(",rewrite-timestamp=true"), first);
    assert_ne!(digest(""), first, "files have the times of their build");
    let zstd = ",rewrite-timestamp=true,compression=zstd,force-compression=true";
    assert_eq!(digest(zstd), digest(zstd));
    let archived = |dest: &str| {
        let output = format!("type=oci,dest={dest},rewrite-timestamp=true");
        buildx(cx, &[&epoch[..], &["-o", &output]].concat()).ok();
        std::fs::read(cx.dir().join(dest)).unwrap()
    };
    assert!(archived("one.tar") == archived("two.tar"), "archives are the same to the byte");
    let tag = format!("{}:latest", cx.name("times"));
    let output = format!("type=docker,name={tag},rewrite-timestamp=true");
    buildx(cx, &[&epoch[..], &["-o", &output]].concat()).ok();
    let base = cx.docker(&["run", "--rm", "busybox", "stat", "-c", "%Y", "/bin/busybox"]);
    let script = "stat -c %Y /f /g /d /w /old /bin/busybox";
    let times = cx.docker(&["run", "--rm", &tag, "sh", "-c", script]);
    let want = format!("{0}\n{0}\n{0}\n{0}\n1000000000\n{1}", 1_700_000_000, base.ok());
    assert_eq!(times.ok(), want);
}

fn files_have_beside_them_what_is_attested(cx: &Cx<'_>) {
    cx.write("context/package.json", r#"{"name":"lib","version":"6.7"}"#);
    cx.write(
        "context/Dockerfile",
        "FROM scratch\nCOPY package.json /app/node_modules/lib/package.json\n",
    );
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let wishes = ["--sbom", "true", "--provenance", "mode=min", "-o"];
    let check = |folder: &Path, prefix: &str| {
        for (name, kind) in [
            ("sbom.spdx.json", "https://spdx.dev/Document"),
            ("provenance.json", "https://slsa.dev/provenance/v1"),
        ] {
            let bytes = std::fs::read(folder.join(format!("{prefix}{name}"))).unwrap();
            let said: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(said["predicateType"], kind);
            let subject = &said["subject"][0];
            assert_eq!(subject["name"], "app/node_modules/lib/package.json");
            let sum = command::run(
                Command::new("sha256sum").arg(folder.join("app/node_modules/lib/package.json")),
                b"",
            );
            assert!(sum.ok().starts_with(subject["digest"]["sha256"].as_str().unwrap()));
        }
    };
    let local = "type=local,dest=local,attestation-prefix=my-";
    buildx(cx, &[&epoch[..], &wishes, &[local]].concat()).ok();
    check(&cx.dir().join("local"), "my-");
    let file = cx.dir().join("local/app/node_modules/lib/package.json");
    let time = std::fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 1_700_000_000);
    buildx(cx, &[&wishes[..], &["type=tar,dest=all.tar"]].concat()).ok();
    unpack(cx, "all.tar", "tar");
    check(&cx.dir().join("tar"), "");
    buildx(cx, &["-o", "type=local,dest=bare"]).ok();
    let names: Vec<_> =
        std::fs::read_dir(cx.dir().join("bare")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["app"], "nobody asked for more");
    let wrong = "type=local,dest=wrong,attestation-prefix=a/b";
    buildx(cx, &["-o", wrong]).fails_with(1, &["attestation-prefix"]);
}

fn unpack(cx: &Cx<'_>, archive: &str, folder: &str) {
    std::fs::create_dir(cx.dir().join(folder)).unwrap();
    let mut tar = Command::new("tar");
    command::run(tar.current_dir(cx.dir()).args(["-xf", archive, "-C", folder]), b"").ok();
}

fn several_platforms_go_to_the_disk(cx: &Cx<'_>) {
    cx.write("context/f", "both");
    cx.write(
        "context/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS make\nARG TARGETARCH\nRUN mkdir /out && echo for $TARGETARCH > /out/$TARGETARCH\nFROM scratch\nCOPY f /d/f\nCOPY --from=make /out /\n",
    );
    let both = format!("{},{}", own(), foreign());
    let build = |args: &[&str]| -> Output { buildx(cx, &[&["--platform", &both], args].concat()) };
    let check = |folder: &str| {
        for (platform, arch) in [("linux_amd64", "amd64"), ("linux_arm64", "arm64")] {
            let at = cx.dir().join(folder).join(platform);
            let said = std::fs::read_to_string(at.join(arch)).unwrap();
            assert_eq!(said, format!("for {arch}\n"));
            assert_eq!(std::fs::read_to_string(at.join("d/f")).unwrap(), "both");
        }
    };
    build(&["-o", "type=local,dest=local"]).ok();
    check("local");
    build(&["-o", "type=tar,dest=all.tar"]).ok();
    unpack(cx, "all.tar", "tar");
    check("tar");
    let merged = "type=local,dest=merged,platform-split=false";
    build(&["-o", merged]).fails_with(1, &["cannot overwrite d/f of linux/"]);
    cx.write(
        "context/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS make\nARG TARGETARCH\nRUN mkdir -p /out/d && echo for $TARGETARCH > /out/d/$TARGETARCH\nFROM scratch\nCOPY --from=make /out /\n",
    );
    build(&["-o", merged, "--provenance", "mode=min"]).ok();
    for name in ["d/amd64", "d/arm64", "provenance.linux_amd64.json", "provenance.linux_arm64.json"]
    {
        assert!(cx.dir().join("merged").join(name).is_file(), "{name}");
    }
}

fn an_image_of_another_platform_is_told(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let name = format!("{}/t/foreign:1", registry.host());
    cx.write("context/f", "x");
    cx.write("context/Dockerfile", "FROM scratch\nCOPY f /f\n");
    buildx(cx, &["--platform", foreign(), "--push", "-t", &name]).ok();
    cx.docker(&["rmi", "-f", &name]).ok();
    cx.write("context/Dockerfile", format!("FROM {name}\nCOPY f /g\n"));
    let warning = format!(
        "InvalidBaseImagePlatform: Base image {name} was pulled with platform \"{}\", expected \"{}\" for current build",
        foreign(),
        own()
    );
    let output = buildx(cx, &["-o", "type=local,dest=out"]);
    output.ok();
    assert!(output.stderr.contains(&warning), "{}", output.describe());
    assert!(cx.dir().join("out/f").is_file() && cx.dir().join("out/g").is_file());
    let checked = buildx(cx, &["--check"]);
    assert!(checked.stdout.contains(&warning[..24]), "{}", checked.describe());
}

fn results_are_pushed_by_digest(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let repository = format!("{}/t/untagged", registry.host());
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo by digest > /f\n");
    // With the driver for engines buildx refuses; with the one for BuildKits it does not.
    let socket = format!("unix://{}", cx.daemon.socket().display());
    let create = ["buildx", "create", "--name", "direct", "--driver", "remote", &socket];
    command::run(plugged(cx).args(create), b"").ok();
    let direct = |args: &[&str]| buildx(cx, &[&["--builder", "direct"], args].concat());
    let output = format!("type=image,name={repository},push-by-digest=true,push=true");
    let file = cx.dir().join("meta.json");
    direct(&["-o", &output, "--metadata-file", file.to_str().unwrap()]).ok();
    let meta: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let digest = meta["containerimage.digest"].as_str().unwrap();
    let name = format!("{repository}@{digest}");
    assert_eq!(cx.docker(&["run", "--rm", &name, "cat", "/f"]).ok(), "by digest");
    cx.docker(&["rmi", "-f", &name]).ok();
    let tagged = format!("type=image,name={repository}:1,push-by-digest=true,push=true");
    direct(&["-o", &tagged]).fails_with(1, &["can't push tagged ref"]);
    let none = "type=image,push-by-digest=true,push=true";
    direct(&["-o", none]).fails_with(1, &["tag is needed"]);
}

fn a_layout_is_written_as_a_folder(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo laid out > /f\n");
    buildx(cx, &["-o", "type=oci,dest=layout,tar=false,name=x.test/y:1"]).ok();
    let read = |path: &str| -> Value {
        serde_json::from_slice(&std::fs::read(cx.dir().join("layout").join(path)).unwrap()).unwrap()
    };
    let index = read("index.json");
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = read(&format!("blobs/{digest}"));
    let mut blobs: BTreeMap<String, bool> = BTreeMap::new();
    let layers = manifest["layers"].as_array().unwrap().iter();
    for blob in layers.chain([&manifest["config"]]) {
        let name = blob["digest"].as_str().unwrap().replace(':', "/");
        blobs.insert(name.clone(), cx.dir().join("layout/blobs").join(name).is_file());
    }
    assert!(blobs.len() >= 3 && blobs.values().all(|there| *there), "{blobs:?}");
    let tag = format!("{}:latest", cx.name("from"));
    cx.write("context/Dockerfile", "FROM base\nRUN cat /f\n");
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let context = format!("base=oci-layout://{}@{digest}", cx.dir().join("layout").display());
    buildx(cx, &["--build-context", &context, "-t", &tag]).ok();
    assert_eq!(super::sh(cx, &tag, "cat /f"), "laid out");
}

fn forms_that_are_not_offered_are_refused(cx: &Cx<'_>) {
    let tag = built(cx, "FROM busybox\nRUN echo form\n", &[]);
    for (options, why) in [
        ("compression=estargz", "compression estargz is not offered"),
        ("compression=odd", "unsupported compression type odd"),
        ("rewrite-timestamp=perhaps", "rewrite-timestamp"),
    ] {
        let output = format!("type=image,name={tag},{options}");
        buildx(cx, &["-o", &output]).fails_with(1, &[why]);
    }
}

fn a_level_of_compression_is_obeyed(cx: &Cx<'_>) {
    let text: String = (0..60_000).map(|n| format!("line {n} of a file\n")).collect();
    cx.write("context/f", &text);
    cx.write("context/Dockerfile", "FROM scratch\nCOPY f /f\n");
    let size = |level: &str| {
        let output =
            format!("type=oci,dest={level}.tar,force-compression=true,compression-level={level}");
        buildx(cx, &["-o", &output]).ok();
        cx.dir().join(format!("{level}.tar")).metadata().unwrap().len()
    };
    let (none, fast, best) = (size("0"), size("1"), size("9"));
    assert!(none > text.len() as u64, "{none}");
    assert!(best < fast && fast < none, "{none} {fast} {best}");
    let output = "type=oci,dest=x.tar,compression-level=high";
    buildx(cx, &["-o", output]).fails_with(1, &["invalid compression level: high"]);
}
