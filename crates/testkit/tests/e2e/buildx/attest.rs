//! What is attested beside images: where they come from, and what is in them.

use super::{buildx, cached, plugged};
use serde_json::Value;
use std::process::Command;
use testkit::{Cx, cases, command, suite::Case};

pub const CASES: &[Case] = cases![
    provenance_goes_beside_a_pushed_image,
    an_inventory_lists_packages,
    attested_images_are_pulled_saved_and_run,
    an_oci_archive_has_its_attestations,
    annotations_and_compression_are_as_asked_for,
    metadata_tells_where_an_image_comes_from,
];

/// What `docker buildx imagetools inspect` says of a name in a registry.
#[track_caller]
fn inspect(cx: &Cx<'_>, name: &str, format: &str) -> Value {
    let args = ["buildx", "imagetools", "inspect", "--format", format, name];
    let told = command::run(plugged(cx).args(args), b"");
    serde_json::from_str(told.ok()).unwrap_or_else(|e| panic!("{e}: {}", told.describe()))
}

#[track_caller]
fn raw(cx: &Cx<'_>, name: &str) -> Value {
    let args = ["buildx", "imagetools", "inspect", "--raw", name];
    serde_json::from_str(command::run(plugged(cx).args(args), b"").ok()).unwrap()
}

fn provenance_goes_beside_a_pushed_image(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let name = format!("{}/a/max:1", registry.host());
    cx.write("secret", "never-to-be-told");
    cx.write(
        "context/Dockerfile",
        "FROM busybox\nARG who\nRUN --mount=type=secret,id=s test -s /run/secrets/s\nRUN echo for $who\n",
    );
    let args = ["--push", "-t", &name, "--provenance", "mode=max", "--build-arg", "who=me"];
    buildx(cx, &[&args[..], &["--secret", "id=s,src=secret"]].concat()).ok();
    let index = raw(cx, &name);
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json", "{index}");
    let [image, beside] = index["manifests"].as_array().unwrap().as_slice() else {
        panic!("{index}")
    };
    assert_eq!(beside["platform"]["os"], "unknown");
    let annotations = &beside["annotations"];
    assert_eq!(annotations["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
    let told = inspect(cx, &name, "{{json .Provenance.SLSA}}");
    let definition = &told["buildDefinition"];
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:who"], "me", "{told}");
    assert_eq!(request["secrets"][0]["id"], "s", "{told}");
    assert_eq!(request["frontend"], "dockerfile.v0", "{told}");
    let uri = definition["resolvedDependencies"][0]["uri"].as_str().unwrap();
    assert!(uri.contains("/busybox@latest?platform=linux%2F"), "{uri}");
    let steps = definition["internalParameters"]["buildConfig"]["llbDefinition"].as_array();
    assert!(steps.is_some_and(|s| s.len() >= 4), "{told}");
    assert!(!told.to_string().contains("never-to-be-told"), "{told}");
    let min = format!("{}/a/min:1", registry.host());
    let args = ["--push", "-t", &min, "--provenance", "mode=min,version=v0.2"];
    buildx(cx, &[&args[..], &["--secret", "id=s,src=secret"]].concat()).ok();
    let told = inspect(cx, &min, "{{json .Provenance.SLSA}}");
    assert_eq!(told["buildType"], "https://mobyproject.org/buildkit@v1", "{told}");
    assert!(told["buildConfig"].is_null() && told["materials"][0]["uri"].is_string(), "{told}");
    let none = format!("{}/a/none:1", registry.host());
    buildx(cx, &["--push", "-t", &none, "--secret", "id=s,src=secret"]).ok();
    assert!(raw(cx, &none)["manifests"].is_null(), "nobody asked for it");
}

fn an_inventory_lists_packages(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let name = format!("{}/a/sbom:1", registry.host());
    cx.write("context/status", "Package: libx\nStatus: install ok installed\nVersion: 1.2-3\nArchitecture: amd64\nMaintainer: M <m@example.org>\n\n");
    cx.write("context/METADATA", "Name: Some.Thing\nVersion: 4.5\n\n");
    cx.write("context/package.json", r#"{"name":"@s/lib","version":"6.7","license":"MIT"}"#);
    cx.write("context/Cargo.lock", "[[package]]\nname = \"crate\"\nversion = \"8.9\"\n");
    cx.write("context/Dockerfile", "FROM busybox\nCOPY status /var/lib/dpkg/status\nCOPY METADATA /usr/lib/python3/x.dist-info/METADATA\nCOPY package.json /app/node_modules/@s/lib/package.json\nCOPY Cargo.lock /app/\n");
    buildx(cx, &["--push", "-t", &name, "--sbom", "true", "--provenance", "false"]).ok();
    let told = inspect(cx, &name, "{{json .SBOM.SPDX}}");
    assert_eq!(told["spdxVersion"], "SPDX-2.3", "{told}");
    let packages = told["packages"].as_array().unwrap();
    let purls: Vec<&str> =
        packages.iter().filter_map(|p| p["externalRefs"][0]["referenceLocator"].as_str()).collect();
    for want in [
        "pkg:deb/debian/libx@1.2-3?arch=amd64",
        "pkg:pypi/some.thing@4.5",
        "pkg:npm/%40s/lib@6.7",
        "pkg:cargo/crate@8.9",
    ] {
        assert!(purls.contains(&want), "{want} {purls:?}");
    }
}

fn attested_images_are_pulled_saved_and_run(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let name = format!("{}/a/kept:1", registry.host());
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo attested > /f\n");
    buildx(cx, &["-t", &name, "--provenance", "true"]).ok();
    let run = |name: &str| {
        cx.docker(&["run", "--rm", "--network", "none", name, "cat", "/f"]).ok().to_owned()
    };
    assert_eq!(run(&name), "attested");
    let again = buildx(cx, &["-t", &name, "--provenance", "true"]);
    again.ok();
    assert_eq!(cached(&again), 1, "{}", again.describe());
    cx.docker(&["push", &name]).ok();
    let index = raw(cx, &name);
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
    cx.docker(&["save", "-o", "saved.tar", &name]).ok();
    cx.docker(&["rmi", "-f", &name]).ok();
    cx.docker(&["pull", "-q", &name]).ok();
    assert_eq!(run(&name), "attested");
    cx.docker(&["rmi", "-f", &name]).ok();
}

fn an_oci_archive_has_its_attestations(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo archived > /f\n");
    buildx(cx, &["-o", "type=oci,dest=oci.tar,name=x.test/y:1", "--sbom", "true"]).ok();
    let list = command::run(
        Command::new("tar").args(["-xOf", "oci.tar", "index.json"]).current_dir(cx.dir()),
        b"",
    );
    let listing: Value = serde_json::from_str(list.ok()).unwrap();
    let entry = &listing["manifests"][0];
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1", "{listing}");
    let hex = entry["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let path = format!("blobs/sha256/{hex}");
    let index = command::run(
        Command::new("tar").args(["-xOf", "oci.tar", &path]).current_dir(cx.dir()),
        b"",
    );
    let index: Value = serde_json::from_str(index.ok()).unwrap();
    assert_eq!(index["manifests"][1]["platform"]["architecture"], "unknown", "{index}");
    cx.docker(&["load", "-i", "oci.tar"]).ok();
    let tag = "x.test/y:1";
    assert_eq!(cx.docker(&["run", "--rm", "--network", "none", tag, "cat", "/f"]).ok(), "archived");
    cx.docker(&["rmi", "-f", tag]).ok();
}

fn annotations_and_compression_are_as_asked_for(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let base = format!("{}/a/base:1", registry.host());
    cx.docker(&["tag", "busybox", &base]).ok();
    cx.docker(&["push", "-q", &base]).ok();
    let name = format!("{}/a/zstd:1", registry.host());
    cx.write("context/Dockerfile", format!("FROM {base}\nRUN echo zstd > /f\n"));
    let output =
        format!("type=image,name={name},push=true,compression=zstd,force-compression=true");
    let args = ["-o", &output, "--annotation", "org.example.key=value", "--provenance", "false"];
    buildx(cx, &args).ok();
    let manifest = raw(cx, &name);
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.example.key"], "value", "{manifest}");
    assert_eq!(annotations["org.opencontainers.image.base.name"], base.as_str(), "{manifest}");
    let digest = annotations["org.opencontainers.image.base.digest"].as_str();
    assert!(digest.is_some_and(|d| d.starts_with("sha256:")), "{manifest}");
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd", "{manifest}");
    }
    cx.docker(&["rmi", "-f", &name]).ok();
    assert_eq!(cx.docker(&["run", "--rm", "--network", "none", &name, "cat", "/f"]).ok(), "zstd");
    cx.docker(&["rmi", "-f", &name, &base]).ok();
    let index = ["-o", "type=image,name=x", "--annotation", "index:a=b", "--provenance", "false"];
    buildx(cx, &index).fails_with(1, &["index annotations not supported"]);
}

fn metadata_tells_where_an_image_comes_from(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nRUN echo told > /f\n");
    let meta = cx.dir().join("meta.json");
    buildx(cx, &["--metadata-file", meta.to_str().unwrap()]).ok();
    let meta: Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    let provenance = &meta["buildx.build.provenance"];
    let uri = provenance["materials"][0]["uri"].as_str().unwrap_or_default();
    assert!(uri.contains("busybox"), "{meta}");
    let name = meta["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let args = ["buildx", "history", "inspect", "--format", "json", name];
    let told = command::run(plugged(cx).args(args), b"");
    let told: Value = serde_json::from_str(told.ok()).unwrap();
    assert_eq!(told["Attachments"][0]["Type"], "https://slsa.dev/provenance/v1", "{told}");
}
