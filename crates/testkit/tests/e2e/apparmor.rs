//! AppArmor: the default profile, others, none. Needs a kernel that has it: that of `cargo xtask vm`.

use std::process::Command;
use testkit::{Cx, cases, command, cx::skip, suite::Case};

pub const CASES: &[Case] = cases![
    containers_run_under_the_default_profile,
    the_default_profile_holds_whatever_else_is_given,
    other_profiles_are_used_by_name,
    a_profile_that_is_not_there_fails_the_start,
    the_shim_alone_takes_profiles_too,
];

const CURRENT: &str = "/proc/self/attr/current";

fn needs_it() {
    if !std::path::Path::new("/sys/kernel/security/apparmor/profiles").exists() {
        skip("this kernel has no AppArmor");
    }
    if !std::path::Path::new("/sbin/apparmor_parser").exists() {
        skip("apparmor_parser is not installed");
    }
}

/// Loads a profile, or takes it out again.
fn parser(how: &str, text: &str) {
    command::run(
        Command::new("/sbin/apparmor_parser").args([how, "--skip-cache"]),
        text.as_bytes(),
    )
    .ok();
}

fn containers_run_under_the_default_profile(cx: &Cx<'_>) {
    needs_it();
    let name = cx.sleeper("a", &[]);
    for args in
        [&["exec", &name, "cat", CURRENT][..], &["exec", &name, "cat", "/proc/1/attr/current"]]
    {
        assert_eq!(cx.docker(args).ok(), "docker-default (enforce)");
    }
    assert_eq!(cx.inspect(&name)["AppArmorProfile"], "docker-default");
    assert_eq!(cx.docker(&["exec", "--privileged", &name, "cat", CURRENT]).ok(), "unconfined");
    let info = cx.docker(&["info", "-f", "{{.SecurityOptions}}"]);
    assert!(info.ok().contains("name=apparmor"), "{}", info.describe());
    // Signals reach it, and it may end its own.
    let script = "sleep 600 & kill $! && wait $!; echo $?";
    assert_eq!(cx.docker(&["exec", &name, "sh", "-c", script]).ok(), "143");
    cx.docker(&["stop", "-t", "60", &name]).ok();
    assert_eq!(cx.busybox(&["--init"], &["cat", CURRENT]), "docker-default (enforce)");
    for free in [&["--privileged"][..], &["--security-opt", "apparmor=unconfined"]] {
        assert_eq!(cx.busybox(free, &["cat", CURRENT]), "unconfined", "{free:?}");
    }
    let name = cx.sleeper("b", &["--security-opt", "apparmor=unconfined"]);
    assert_eq!(cx.inspect(&name)["AppArmorProfile"], "unconfined");
}

fn the_default_profile_holds_whatever_else_is_given(cx: &Cx<'_>) {
    needs_it();
    let much = [
        "--cap-add=ALL",
        "--security-opt=seccomp=unconfined",
        "--security-opt=systempaths=unconfined",
    ];
    let script = "mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        mount -o remount,rw /sys 2>/dev/null && echo remounted
        echo > /proc/sysrq-trigger && echo sysrq
        echo 4096 > /proc/sys/kernel/threads-max && echo switch
        echo > /proc/sys/vm/drop_caches && echo memory
        head -c1 /proc/kcore > /dev/null && echo kcore
        echo 1 > /proc/self/oom_score_adj && cat /proc/self/attr/current";
    let all = [&much[..], &["--tmpfs", "/mnt"]].concat();
    assert_eq!(
        cx.busybox(&all, &["sh", "-c", &format!("exec 2>/dev/null; {script}")]),
        "docker-default (enforce)"
    );
    let free = [&all[..], &["--security-opt=apparmor=unconfined"]].concat();
    let without = cx.busybox(&free, &["sh", "-c", "mount -t tmpfs none /mnt && echo mounted"]);
    assert_eq!(without, "mounted", "it was the profile");
}

fn other_profiles_are_used_by_name(cx: &Cx<'_>) {
    needs_it();
    let profile = format!("gantry-test-{}", cx.name("p"));
    let text = format!(
        "profile {profile} flags=(attach_disconnected) {{ capability, file, network, signal, deny /etc/passwd r, }}"
    );
    parser("--replace", &text);
    let option = format!("apparmor={profile}");
    let script = format!("cat {CURRENT}; cat /etc/passwd 2>/dev/null || echo denied");
    let said = cx.run(&["--rm", "--security-opt", &option], &["sh", "-c", &script]);
    let name = cx.sleeper("a", &["--security-opt", &option]);
    let inside = cx.docker(&["exec", &name, "cat", CURRENT]);
    let shown = cx.inspect(&name)["AppArmorProfile"].clone();
    cx.docker(&["rm", "-f", &name]).ok();
    parser("--remove", &text);
    assert_eq!(said.ok(), format!("{profile} (enforce)\ndenied"));
    assert_eq!(inside.ok(), format!("{profile} (enforce)"));
    assert_eq!(shown, profile);
}

fn a_profile_that_is_not_there_fails_the_start(cx: &Cx<'_>) {
    needs_it();
    let name = cx.name("a");
    let option = ["--security-opt", "apparmor=no-such-profile"];
    cx.docker(&[&["create", "--name", &name], &option[..], &["busybox", "true"]].concat()).ok();
    cx.docker(&["start", &name]).fails_with(1, &["apparmor"]);
    assert_eq!(cx.inspect(&name)["State"]["Status"], "created");
}

fn the_shim_alone_takes_profiles_too(cx: &Cx<'_>) {
    needs_it();
    let rig = super::oci_runtime::Rig::new(cx, "cat /proc/self/attr/current");
    // Loading it is the daemon's task.
    cx.busybox(&[], &["true"]);
    rig.change(|config| config["process"]["apparmorProfile"] = "docker-default".into());
    let bundle = rig.bundle();
    assert_eq!(rig.run(&["run", "--bundle", &bundle, "ID"]).ok(), "docker-default (enforce)");
    rig.change(|config| config["process"]["apparmorProfile"] = "no-such-profile".into());
    rig.run(&["run", "--bundle", &bundle, "ID"]).fails_with(1, &["no-such-profile"]);
    rig.gone();
}
