use super::{Config, Made, config};
use crate::{
    Features, plan,
    shim::OciRuntime,
    spec::{Cgroup, Mount, Namespace, Namespaces, Process, Rlimit, Root, Rootfs, Spec, User},
    user::Identity,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn spec() -> Spec {
    Spec {
        id: "one".into(),
        root: Root { source: Rootfs::Path("/layers".into()), readonly: true, ..Root::default() },
        process: Process {
            args: words(&["sh", "-c", "true"]),
            env: words(&["A=1", "A=2"]),
            cwd: "/w".into(),
            user: User { name: "app".into(), additional_groups: Vec::new() },
            capabilities: words(&["CAP_CHOWN", "CAP_BPF"]),
            rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 1, hard: u64::MAX }],
            oom_score_adj: Some(5),
            ..Process::default()
        },
        hostname: "h".into(),
        mounts: vec![
            Mount::of("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755"]),
            Mount::bind("/host/data", "/data", &["rro", "rslave"]),
            Mount::of("cgroup", "/sys/fs/cgroup", &["ro"]),
        ],
        masked_paths: words(&["/proc/kcore"]),
        sysctl: [("net/ipv4/conf/eth0.1/forwarding", "1"), ("kernel.msgmax", "9")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        namespaces: Namespaces {
            net: Namespace::Path("/proc/7/ns/net".into()),
            cgroup: Namespace::Host,
            ..Namespaces::default()
        },
        cgroup: Some(Cgroup {
            path: "/gantry/one".into(),
            resources: json!({"pids": {"limit": 9}}),
        }),
        init: true,
        ..Spec::default()
    }
}

fn written(spec: &Spec) -> Value {
    let plan = plan(spec, &Features { cgroup_v2: false }).unwrap();
    let identity =
        Identity { uid: 1000, gid: 1001, groups: vec![1001, 7], home: "/home/app".into() };
    let sources = [None, Some(PathBuf::from("/bundle/sources/1")), None];
    let made = Made { rootfs: Path::new("/bundle/rootfs"), sources: &sources, identity: &identity };
    let runtime = OciRuntime {
        init: "/libexec/gantry-shim".into(),
        seccomp: Some(json!({"defaultAction": "SCMP_ACT_ALLOW"})),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        ..OciRuntime::default()
    };
    serde_json::to_value(config(&plan, &made, &runtime).unwrap()).unwrap()
}

#[test]
fn labels_are_written_where_there_are_any() {
    let plain = written(&spec());
    assert!(plain["process"].get("selinuxLabel").is_none());
    assert!(plain["linux"].get("mountLabel").is_none());
    let mut labelled = spec();
    labelled.process.selinux_label = "u:r:t:s0:c1,c2".into();
    labelled.mount_label = "u:object_r:f:s0:c1,c2".into();
    let got = written(&labelled);
    assert_eq!(got["process"]["selinuxLabel"], "u:r:t:s0:c1,c2");
    assert_eq!(got["linux"]["mountLabel"], "u:object_r:f:s0:c1,c2");
}

#[test]
fn a_plan_is_written_in_ocis_words() {
    let got = written(&spec());
    assert_eq!(got["root"], json!({"path": "/bundle/rootfs", "readonly": true}));
    assert_eq!(got["hostname"], "h");
    assert_eq!(got["annotations"], json!({"a": "b"}));
    let process = &got["process"];
    assert_eq!(process["args"], json!(["/sbin/docker-init", "--", "sh", "-c", "true"]));
    assert_eq!(process["env"], json!(["A=2", "HOME=/home/app"]));
    assert_eq!(process["user"], json!({"uid": 1000, "gid": 1001, "additionalGids": [1001, 7]}));
    assert_eq!(process["capabilities"]["bounding"], json!(["CAP_CHOWN", "CAP_BPF"]));
    assert_eq!(process["capabilities"]["ambient"], json!([]));
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": u64::MAX}]);
    assert_eq!(process["rlimits"], limit);
    assert_eq!((&process["oomScoreAdj"], &process["cwd"]), (&json!(5), &json!("/w")));
    let linux = &got["linux"];
    assert_eq!(
        linux["namespaces"],
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/proc/7/ns/net"},
            {"type": "ipc"}, {"type": "uts"}])
    );
    assert_eq!(linux["cgroupsPath"], "/gantry/one");
    assert_eq!(linux["resources"], json!({"pids": {"limit": 9}}));
    assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
    assert_eq!(linux["maskedPaths"], json!(["/proc/kcore"]));
    assert_eq!(linux["rootfsPropagation"], "rprivate");
    assert_eq!(
        linux["sysctl"],
        json!({"kernel.msgmax": "9", "net/ipv4/conf/eth0.1/forwarding": "1"})
    );
}

#[test]
fn mounts_keep_their_words_and_binds_get_their_place() {
    let got = written(&spec());
    let mounts = got["mounts"].as_array().unwrap();
    assert_eq!(
        mounts[0],
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["mode=755", "nosuid", "strictatime"]})
    );
    assert_eq!(
        mounts[1],
        json!({"destination": "/data", "type": "bind", "source": "/bundle/sources/1",
            "options": ["rbind", "rro", "rslave"]})
    );
    assert_eq!(mounts[2]["options"], json!(["ro"]));
    assert_eq!(
        mounts[3],
        json!({"destination": "/sbin/docker-init", "type": "bind", "source": "/libexec/gantry-shim",
            "options": ["bind", "ro"]})
    );
}

#[test]
fn a_bind_that_was_not_made_is_an_error() {
    let mut spec = spec();
    spec.mounts.push(Mount::bind("/x", "/y", &[]));
    let plan = plan(&spec, &Features { cgroup_v2: true }).unwrap();
    let identity = Identity { uid: 0, gid: 0, groups: vec![0], home: "/".into() };
    let sources = [None, Some(PathBuf::from("/s")), None];
    let made = Made { rootfs: Path::new("/r"), sources: &sources, identity: &identity };
    let err = config(&plan, &made, &OciRuntime::default()).unwrap_err();
    assert_eq!(err.chain(), "mount /y has no source on the host");
}

#[test]
fn mappings_are_read_into_the_plan() {
    let maps = |outside: u32| json!([{"containerID": 0, "hostID": outside, "size": 65536}]);
    let config: Config = serde_json::from_value(json!({
        "ociVersion": "1.2.0",
        "process": {"args": ["sh"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/a", "source": "/s", "options": ["rbind", "ridmap"]},
            {"destination": "/b", "source": "/s", "options": ["bind"],
                "uidMappings": maps(7), "gidMappings": maps(8)},
            {"destination": "/c", "source": "/s", "options": ["bind"]},
        ],
        "linux": {"namespaces": [{"type": "mount"}, {"type": "user"}],
            "uidMappings": maps(100_000), "gidMappings": maps(200_000)},
    }))
    .unwrap();
    let spec = super::spec("one", &config, Path::new("/bundle")).unwrap();
    let plan = plan(&spec, &Features { cgroup_v2: true }).unwrap();
    let user = plan.namespaces.user.unwrap();
    assert_eq!(user.path, None);
    assert_eq!(user.maps.user_outside(1), Some(100_001));
    assert_eq!(user.maps.group_outside(1), Some(200_001));
    let shown: Vec<_> = plan
        .mounts
        .iter()
        .map(|m| {
            let own = m.maps.as_ref().and_then(|maps| maps.group_outside(0));
            (m.attach.mapped, m.attach.mapped_recursive, own)
        })
        .collect();
    assert_eq!(shown, [(true, true, None), (true, false, Some(8)), (false, false, None)]);
    assert_eq!(plan.root, Rootfs::Path("/bundle/rootfs".into()));
    let back = serde_json::to_value(&config).unwrap();
    assert_eq!(back["mounts"][1]["uidMappings"], maps(7), "the record keeps them");
}
