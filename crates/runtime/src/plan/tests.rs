use super::*;
use crate::spec::{
    Cgroup, Mount as SpecMount, Namespace, Process as SpecProcess, Rlimit as SpecRlimit, Root, User,
};
use expect_test::{Expect, expect};

const FEATURES: Features = Features { cgroup_v2: false };

fn spec() -> Spec {
    Spec {
        id: "c0ffee".into(),
        root: Root { source: Rootfs::Path("/root-fs".into()), ..Root::default() },
        process: SpecProcess { args: vec!["/bin/sh".into()], ..SpecProcess::default() },
        ..Spec::default()
    }
}

fn golden(spec: &Spec, expected: &Expect) {
    let planned = plan(spec, &FEATURES).unwrap();
    expected.assert_eq(&serde_json::to_string_pretty(&planned).unwrap());
    let back: Plan = serde_json::from_str(&serde_json::to_string(&planned).unwrap()).unwrap();
    assert_eq!(back, planned, "it travels to the shim unchanged");
}

fn refused(change: impl FnOnce(&mut Spec), text: &str) {
    let mut spec = spec();
    change(&mut spec);
    assert_eq!(plan(&spec, &FEATURES).unwrap_err().chain(), text);
}

fn mounted(mount: SpecMount) -> String {
    let mut spec = spec();
    spec.mounts = vec![mount];
    match plan(&spec, &FEATURES) {
        Ok(planned) => {
            let Mount { target, attach: a, .. } = &planned.mounts[0];
            let (set, clear, deep) = (a.set, a.clear, a.set_recursive);
            let rec = if a.propagation_recursive { "r" } else { "" };
            format!(
                "{} set {set:#x} clear {clear:#x} deep {deep:#x} prop {rec}{:#x}",
                target.display(),
                a.propagation
            )
        }
        Err(err) => err.chain(),
    }
}

#[test]
fn a_whole_plan() {
    let mut spec = spec();
    spec.root = Root {
        source: Rootfs::Overlay {
            lower: vec!["/l/2".into(), "/l/1".into()],
            upper: "/u".into(),
            work: "/w".into(),
            volatile: true,
        },
        readonly: true,
        propagation: "rslave".into(),
    };
    spec.process = SpecProcess {
        args: vec!["top".into(), "-b".into()],
        env: vec!["A=b".into()],
        user: User { name: "app:1".into(), additional_groups: vec!["wheel".into()] },
        capabilities: vec!["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()],
        no_new_privileges: true,
        rlimits: vec![SpecRlimit { kind: "RLIMIT_NOFILE".into(), soft: 1024, hard: u64::MAX }],
        oom_score_adj: Some(-5),
        ..SpecProcess::default()
    };
    spec.hostname = "box".into();
    spec.mounts = vec![
        SpecMount::of("proc", "/proc", &["nosuid"]),
        SpecMount::of("tmpfs", "/dev", &["mode=755", "size=64k"]),
        SpecMount::bind("/src", "/a/../dst/./x", &["ro"]),
    ];
    spec.masked_paths = vec!["/proc/kcore".into()];
    spec.sysctl = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
    spec.cgroup = Some(Cgroup { path: "/gantry/c0ffee".into(), ..Cgroup::default() });
    spec.seccomp = Some(vec![6, 0, 0, 0, 0, 0, 255, 127]);
    golden(
        &spec,
        &expect![[r#"
        {
          "id": "c0ffee",
          "root": {
            "overlay": {
              "lower": [
                "/l/2",
                "/l/1"
              ],
              "upper": "/u",
              "work": "/w",
              "volatile": true
            }
          },
          "readonly": true,
          "propagation": 524288,
          "process": {
            "args": [
              "top",
              "-b"
            ],
            "env": [
              "A=b"
            ],
            "cwd": "/",
            "user": {
              "name": "app:1",
              "additionalGroups": [
                "wheel"
              ]
            },
            "terminal": false,
            "console_size": null,
            "capabilities": 2097153,
            "no_new_privileges": true,
            "rlimits": [
              {
                "resource": 7,
                "soft": 1024,
                "hard": 18446744073709551615
              }
            ],
            "oom_score_adj": -5
          },
          "hostname": "box",
          "domainname": "",
          "mounts": [
            {
              "target": "/proc",
              "kind": {
                "New": {
                  "fs": "proc",
                  "source": "proc",
                  "options": []
                }
              },
              "attach": {
                "set": 2,
                "clear": 0,
                "set_recursive": 0,
                "propagation": 0,
                "propagation_recursive": false
              }
            },
            {
              "target": "/dev",
              "kind": {
                "New": {
                  "fs": "tmpfs",
                  "source": "tmpfs",
                  "options": [
                    [
                      "mode",
                      "755"
                    ],
                    [
                      "size",
                      "64k"
                    ]
                  ]
                }
              },
              "attach": {
                "set": 0,
                "clear": 0,
                "set_recursive": 0,
                "propagation": 0,
                "propagation_recursive": false
              }
            },
            {
              "target": "/dst/x",
              "kind": {
                "Bind": {
                  "source": "/src",
                  "recursive": true
                }
              },
              "attach": {
                "set": 1,
                "clear": 0,
                "set_recursive": 0,
                "propagation": 262144,
                "propagation_recursive": true
              }
            }
          ],
          "own_dev": true,
          "devices": [],
          "masked": [
            "/proc/kcore"
          ],
          "readonly_paths": [],
          "sysctl": [
            [
              "net/ipv4/ip_forward",
              "1"
            ]
          ],
          "namespaces": {
            "pid": "new",
            "net": "new",
            "ipc": "new",
            "uts": "new",
            "cgroup": "new"
          },
          "cgroup": {
            "path": "/gantry/c0ffee",
            "resources": null
          },
          "cgroup_v2": false,
          "seccomp": "BgAAAAAA/38=",
          "init": false
        }"#]],
    );
}

#[test]
fn mount_options_become_flags() {
    let cases: &[&[&str]] = &[
        &[],
        &["ro"],
        &["rro"],
        &["ro", "rw"],
        &["noatime", "ro"],
        &["strictatime"],
        &["rshared"],
        &["slave"],
        &["nosuid", "nodev", "noexec"],
        &["bogus"],
    ];
    let text: String = cases
        .iter()
        .map(|options| format!("{options:?} {}\n", mounted(SpecMount::bind("/s", "/t", options))))
        .collect();
    expect![[r#"
        [] /t set 0x0 clear 0x0 deep 0x0 prop r0x40000
        ["ro"] /t set 0x1 clear 0x0 deep 0x0 prop r0x40000
        ["rro"] /t set 0x1 clear 0x0 deep 0x1 prop r0x40000
        ["ro", "rw"] /t set 0x0 clear 0x1 deep 0x0 prop r0x40000
        ["noatime", "ro"] /t set 0x11 clear 0x70 deep 0x0 prop r0x40000
        ["strictatime"] /t set 0x20 clear 0x70 deep 0x0 prop r0x40000
        ["rshared"] /t set 0x0 clear 0x0 deep 0x0 prop r0x100000
        ["slave"] /t set 0x0 clear 0x0 deep 0x0 prop 0x80000
        ["nosuid", "nodev", "noexec"] /t set 0xe clear 0x0 deep 0x0 prop r0x40000
        ["bogus"] invalid option "bogus" of bind mount "/t"
    "#]]
    .assert_eq(&text);
}

#[test]
fn nothing_may_cover_proc_or_sys() {
    let bind = |to: &str| mounted(SpecMount::bind("/s", to, &[]));
    let tmpfs = |to: &str| mounted(SpecMount::of("tmpfs", to, &[]));
    let of = [
        bind("/proc"),
        bind("/sys"),
        bind("/proc/self"),
        tmpfs("/proc/self/attr"),
        tmpfs("/proc/../proc/1"),
        bind("/proc/meminfo"),
        bind("/sys/fs/x"),
        bind("/"),
        bind("/x/.."),
        tmpfs("//proc//"),
        mounted(SpecMount::bind("relative", "/x", &[])),
        mounted(SpecMount::of("ext4", "/x", &[])),
    ];
    expect![[r#"
        "/proc" cannot be mounted because it is not of type proc
        "/sys" cannot be mounted because it is not of type sysfs
        "/proc/self" cannot be mounted because it is inside /proc
        "/proc/self/attr" cannot be mounted because it is inside /proc
        "/proc/1" cannot be mounted because it is inside /proc
        /proc/meminfo set 0x0 clear 0x0 deep 0x0 prop r0x40000
        /sys/fs/x set 0x0 clear 0x0 deep 0x0 prop r0x40000
        invalid mount: destination can't be '/'
        invalid mount: destination can't be '/'
        "/proc" cannot be mounted because it is not of type proc
        invalid mount: source path "relative" must be absolute
        /x set 0x0 clear 0x0 deep 0x0 prop 0x0
    "#]]
    .assert_eq(&(of.join("\n") + "\n"));
}

#[test]
fn what_contradicts_itself_is_refused_in_runcs_words() {
    refused(|s| s.process.args.clear(), "no command specified");
    refused(|s| s.process.cwd = "x".into(), "Cwd must be an absolute path, not \"x\"");
    refused(|s| s.process.env = vec!["A=\0".into()], "\"A=\\0\" contains a null byte");
    refused(
        |s| s.process.capabilities = vec!["CAP_NOPE".into()],
        "unknown capability \"CAP_NOPE\"",
    );
    refused(
        |s| s.process.oom_score_adj = Some(1001),
        "Invalid value 1001, range for oom score adj is [-1000, 1000]",
    );
    refused(
        |s| s.process.rlimits = vec![SpecRlimit { kind: "RLIMIT_NO".into(), soft: 1, hard: 1 }],
        "invalid rlimit type: RLIMIT_NO",
    );
    refused(
        |s| (s.hostname, s.namespaces.uts) = ("x".into(), Namespace::Host),
        "unable to set hostname without a private UTS namespace",
    );
    for path in ["/", "/../x", "gantry/x", "/a/../../x"] {
        let mut spec = spec();
        spec.cgroup = Some(Cgroup { path: path.into(), ..Cgroup::default() });
        assert!(plan(&spec, &FEATURES).is_err(), "{path}");
    }
    for bytes in [vec![], vec![0; 7], vec![0; 8 * 4097]] {
        let mut spec = spec();
        spec.seccomp = Some(bytes);
        assert!(plan(&spec, &FEATURES).is_err());
    }
}

#[test]
fn sysctls_stay_in_the_containers_namespaces() {
    let check = |key: &str, value: &str, spaces: &dyn Fn(&mut Namespaces)| {
        let mut spec = spec();
        spec.sysctl = [(key.to_owned(), value.to_owned())].into();
        spaces(&mut spec.namespaces);
        match plan(&spec, &FEATURES) {
            Ok(planned) => format!("{} = {}", planned.sysctl[0].0.display(), planned.sysctl[0].1),
            Err(err) => err.chain(),
        }
    };
    let own: &dyn Fn(&mut Namespaces) = &|_| {};
    let of = [
        check("net.ipv4.ip_forward", "1", own),
        check("net/ipv4/conf/eth0.100/forwarding", "1", own),
        check("kernel.shm_rmid_forced", "1", own),
        check("kernel.shm_rmid_forced", "1\nx", own),
        check("kernel.shm_rmid_forced=1+kernel.core_pattern", "|/x", own),
        check("kernel.core_pattern", "|/x", own),
        check("net.ipv4.ip_forward", "1", &|n| n.net = Namespace::Host),
        check("kernel.sem", "1", &|n| n.ipc = Namespace::Host),
        check("net/../kernel/core_pattern", "|/x", own),
        check("net.", "1", own),
        check("", "1", own),
    ];
    expect![[r#"
        net/ipv4/ip_forward = 1
        net/ipv4/conf/eth0.100/forwarding = 1
        kernel/shm_rmid_forced = 1
        sysctl "kernel.shm_rmid_forced": value "1\nx" has more than one line
        sysctl "kernel.shm_rmid_forced=1+kernel.core_pattern" is not in a separate kernel namespace
        sysctl "kernel.core_pattern" is not in a separate kernel namespace
        sysctl "net.ipv4.ip_forward" is not allowed in the hosts network namespace
        sysctl "kernel.sem" is not allowed in the hosts ipc namespace
        sysctl "net/../kernel/core_pattern" is not a valid name
        sysctl "net." is not a valid name
        sysctl "" is not a valid name
    "#]]
    .assert_eq(&(of.join("\n") + "\n"));
}

#[test]
fn labels_travel_and_lose_the_quotes_of_mount() {
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let mut spec = spec();
    spec.process.selinux_label = "u:r:t:s0:c1,c2".into();
    spec.mount_label = label.into();
    let quoted = format!("context=\"{label}\"");
    spec.mounts = vec![SpecMount::of("tmpfs", "/t", &["rw", &quoted])];
    let planned = plan(&spec, &FEATURES).unwrap();
    assert_eq!(planned.process.selinux_label, "u:r:t:s0:c1,c2");
    assert_eq!(planned.label(), Some(label));
    let MountKind::New { options, .. } = &planned.mounts[0].kind else { panic!("a new tmpfs") };
    assert_eq!(options, &[("context".to_owned(), Some(label.to_owned()))]);
    let back: Plan = serde_json::from_str(&serde_json::to_string(&planned).unwrap()).unwrap();
    assert_eq!(back, planned);
    refused(
        |spec| spec.mount_label = "x\0y".into(),
        "invalid SELinux label of mounts \"x\\0y\": longer than 255 bytes or with a NUL",
    );
}
