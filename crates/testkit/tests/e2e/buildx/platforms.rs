//! Results for several platforms: stages that run here, commands that would run elsewhere.

use super::{buildx, plugged};
use serde_json::Value;
use testkit::{Cx, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    stages_of_this_platform_build_for_others,
    commands_of_another_platform_need_an_emulator,
];

/// This machine's architecture and another one.
fn architectures() -> [&'static str; 2] {
    if std::env::consts::ARCH == "aarch64" { ["arm64", "amd64"] } else { ["amd64", "arm64"] }
}

fn stages_of_this_platform_build_for_others(cx: &Cx<'_>) {
    let registry = crate::registry::plain();
    let name = format!("{}/p/several:1", registry.host());
    cx.write("context/src", "source");
    cx.write(
        "context/Dockerfile",
        "FROM --platform=$BUILDPLATFORM busybox AS make\nARG BUILDPLATFORM TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT\nCOPY src .\nRUN mkdir /out && echo $BUILDPLATFORM $TARGETPLATFORM $TARGETOS $TARGETARCH $TARGETVARIANT > /out/made && uname -m > /out/machine\nFROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY --from=make /out /\n",
    );
    let [own, other] = architectures();
    let both = format!("linux/{own},linux/{other}");
    buildx(cx, &["--platform", &both, "--push", "-t", &name]).ok();
    let raw = |name: &str| -> Value {
        let args = ["buildx", "imagetools", "inspect", "--raw", name];
        serde_json::from_str(command::run(plugged(cx).args(args), b"").ok()).unwrap()
    };
    let index = raw(&name);
    let entries = index["manifests"].as_array().unwrap();
    let found: Vec<&str> =
        entries.iter().map(|m| m["platform"]["architecture"].as_str().unwrap()).collect();
    assert_eq!(found, [own, other], "{index}");
    assert!(entries.iter().all(|m| m["platform"]["variant"].is_null()), "{index}");
    cx.docker(&["rmi", "-f", &name]).ok();
    for arch in [own, other] {
        let platform = format!("linux/{arch}");
        cx.docker(&["pull", "-q", "--platform", &platform, &name]).ok();
        let image =
            cx.docker(&["image", "inspect", "-f", "{{.Architecture}} {{.Config.Labels}}", &name]);
        assert!(image.ok().starts_with(arch), "{}", image.describe());
        let container = cx.docker(&["create", "--platform", &platform, &name, "none"]);
        let id = container.ok().lines().last().unwrap().to_owned();
        let folder = cx.dir().join(arch);
        std::fs::create_dir(&folder).unwrap();
        for file in ["made", "machine"] {
            cx.docker(&["cp", &format!("{id}:/{file}"), folder.to_str().unwrap()]).ok();
        }
        cx.docker(&["rm", &id]).ok();
        let made = std::fs::read_to_string(folder.join("made")).unwrap();
        assert_eq!(made.trim(), format!("linux/{own} linux/{arch} linux {arch}"));
        let machine = std::fs::read_to_string(folder.join("machine")).unwrap();
        assert_eq!(machine.trim(), std::env::consts::ARCH, "the stage ran here");
        cx.docker(&["rmi", "-f", &name]).ok();
    }
}

fn commands_of_another_platform_need_an_emulator(cx: &Cx<'_>) {
    let [_, other] = architectures();
    let emulator = if other == "arm64" { "qemu-aarch64" } else { "qemu-x86_64" };
    let entry = std::path::Path::new("/proc/sys/fs/binfmt_misc").join(emulator);
    if entry.exists() {
        skip(&format!("{emulator} is registered on this machine, so such commands may run"));
    }
    cx.write("context/f", "x");
    cx.write("context/Dockerfile", "FROM scratch\nCOPY f /f\nRUN [\"/f\"]\n");
    let output = buildx(cx, &["--platform", &format!("linux/{other}")]);
    let why = format!("commands of linux/{other} do not run on this machine");
    output.fails_with(1, &[&why, "qemu-user", "$BUILDPLATFORM", "Dockerfile:3"]);
    cx.write("context/Dockerfile", "FROM scratch\nCOPY f /f\n");
    buildx(cx, &["--platform", &format!("linux/{other}")]).ok();
}
