use super::*;
use std::{collections::BTreeMap, process::Command};

const HYBRID: &str = "\
30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/mem\\040ory rw - cgroup none rw,memory
33 30 0:27 / /mnt/again rw - cgroup none rw,memory
34 30 0:28 / /sys/fs/cgroup/perf_event rw - cgroup none rw,perf_event
35 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
36 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 none rw
";

#[test]
fn trees_are_found_in_mountinfo() {
    let found = Hierarchy::from_mountinfo(HYBRID).unwrap();
    assert_eq!(found.version(), Version::V1);
    let folders: Vec<_> = found.mounts.iter().map(|m| m.folder.to_str().unwrap()).collect();
    assert_eq!(
        folders,
        ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/mem ory", "/sys/fs/cgroup/systemd"]
    );
    assert_eq!(found.mount("cpuacct"), found.mount("cpu"));
    assert_eq!(
        found.others,
        [Path::new("/sys/fs/cgroup/perf_event"), Path::new("/sys/fs/cgroup/unified")]
    );
    assert!(found.mount("pids").is_none());
    let pure = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    assert_eq!(Hierarchy::from_mountinfo(pure).unwrap().version(), Version::V2);
    assert!(Hierarchy::from_mountinfo("30 20 0:26 / / rw - ext4 x rw\nrubbish\n - \n").is_none());
}

#[test]
fn a_path_stays_below_the_root() {
    for bad in ["", "/", "..", "/a/../b", "a/./..", "/a/.."] {
        assert!(relative(bad).is_err(), "{bad:?}");
    }
    assert_eq!(relative("/gantry/x").unwrap(), Path::new("gantry/x"));
}

fn limits() -> Resources {
    let json = r#"{
        "memory":{"limit":67108864,"swap":134217728,"reservation":33554432,"swappiness":10},
        "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0","mems":"0"},
        "pids":{"limit":100},
        "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":254,"minor":0,"rate":1024}],
            "throttleWriteIOPSDevice":[{"major":254,"minor":0,"rate":5}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#;
    serde_json::from_str(json).unwrap()
}

#[test]
fn limits_come_to_settings_of_v1() {
    let text = |resources: &Resources, now: Option<u64>| -> Vec<String> {
        v1::settings(resources, || now)
            .into_iter()
            .map(|s| format!("{}/{}={}", s.controller, s.file, s.value))
            .collect()
    };
    assert_eq!(
        text(&limits(), Some(u64::MAX >> 1)),
        [
            "memory/memory.limit_in_bytes=67108864",
            "memory/memory.memsw.limit_in_bytes=134217728",
            "memory/memory.soft_limit_in_bytes=33554432",
            "memory/memory.swappiness=10",
            "cpu/cpu.shares=512",
            "cpu/cpu.cfs_period_us=100000",
            "cpu/cpu.cfs_quota_us=50000",
            "cpuset/cpuset.cpus=0",
            "cpuset/cpuset.mems=0",
            "pids/pids.max=100",
            "blkio/blkio.weight=500",
            "blkio/blkio.throttle.read_bps_device=254:0 1024",
            "blkio/blkio.throttle.write_iops_device=254:0 5",
            "hugetlb/hugetlb.2MB.limit_in_bytes=4096",
        ]
    );
    let grown = text(&limits(), Some(1 << 20));
    assert!(grown[0].contains("memsw"), "growing: memory and swap first");
    let unlimited = Memory { limit: Some(-1), ..Memory::default() };
    let resources = Resources {
        memory: Some(unlimited),
        pids: Some(Pids { limit: -1 }),
        ..Resources::default()
    };
    assert_eq!(
        text(&resources, None),
        [
            "memory/memory.memsw.limit_in_bytes=-1",
            "memory/memory.limit_in_bytes=-1",
            "pids/pids.max=max"
        ]
    );
}

#[test]
fn limits_come_to_settings_of_v2() {
    let text = |resources: &Resources| -> Vec<String> {
        let settings = v2::settings(resources, false).unwrap();
        settings.into_iter().map(|(f, v)| format!("{f}={v}")).collect()
    };
    assert_eq!(
        text(&limits()),
        [
            "memory.swap.max=67108864",
            "memory.max=67108864",
            "memory.low=33554432",
            "cpu.weight=59",
            "cpu.max=50000 100000",
            "cpuset.cpus=0",
            "cpuset.mems=0",
            "pids.max=100",
            "io.weight=4950",
            "io.max=254:0 rbps=1024",
            "io.max=254:0 wiops=5",
            "hugetlb.2MB.max=4096",
        ]
    );
    for (shares, weight) in [(2, 1), (1024, 100), (262_144, 10_000)] {
        assert_eq!(v2::weight_of_shares(shares), weight);
    }
    let bad_swap = Memory { limit: Some(10), swap: Some(5), ..Memory::default() };
    let bad_file = BTreeMap::from([("../x.y".to_owned(), "1".to_owned())]);
    for resources in [
        Resources { memory: Some(bad_swap), ..Resources::default() },
        Resources { unified: bad_file, ..Resources::default() },
    ] {
        assert!(v2::settings(&resources, false).is_err());
    }
}

/// A folder that looks like a v2 mount as far as plain files can.
struct Fake(PathBuf);

impl Fake {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("gantry-fake-cgroup-{name}-{}", std::process::id()));
        let fake = Self(folder);
        for (at, files) in [
            ("", vec![("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", "")]),
            (
                "g",
                vec![("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", "cpu")],
            ),
            (
                "g/c",
                vec![
                    ("memory.max", "max"),
                    ("memory.swap.max", "max"),
                    ("pids.max", "max"),
                    ("cgroup.procs", "12\n13\n"),
                    ("memory.events", "low 0\noom_kill 3\n"),
                    ("memory.current", "4096\n"),
                    ("cpu.stat", "usage_usec 5\nnr_throttled 2\n"),
                    ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\nbad\n"),
                ],
            ),
            ("g/c/inner", vec![("cgroup.procs", "14\n")]),
        ] {
            fs::create_dir_all(fake.0.join(at)).unwrap();
            for (file, text) in files {
                fs::write(fake.0.join(at).join(file), text).unwrap();
            }
        }
        fake
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_v2_tree_is_written_and_read() {
    let fake = Fake::new("v2");
    let hierarchy = Hierarchy::v2_at(fake.0.clone());
    assert!(hierarchy.features().memory && !hierarchy.features().cpuset);
    let resources = Resources {
        memory: Some(Memory { limit: Some(8192), swap: Some(8192), ..Memory::default() }),
        pids: Some(Pids { limit: 7 }),
        ..Resources::default()
    };
    let group = Cgroup::create(&hierarchy, "/g/c", &resources).unwrap();
    let at = |file: &str| fs::read_to_string(fake.0.join(file)).unwrap();
    // Plain files keep what was there behind a shorter value.
    assert!(at("g/c/memory.max").starts_with("8192"));
    assert!(at("g/c/memory.swap.max").starts_with('0'));
    assert!(at("g/c/pids.max").starts_with('7'));
    assert_eq!(at("cgroup.subtree_control"), "+pidsry", "each written on its own");
    assert_eq!(at("g/cgroup.subtree_control"), "+pidsry");
    assert_eq!(group.pids().unwrap(), [12, 13, 14]);
    assert_eq!(group.oom_count(), 3);
    let stats = group.stats();
    assert_eq!((stats.memory.usage, stats.cpu.total), (4096, 5000));
    assert_eq!(stats.cpu.throttled_periods, 2);
    assert_eq!(stats.blkio_bytes.len(), 2);
    assert_eq!(stats.blkio_operations[1].value, 4);
    assert!(group.folder_fd().unwrap().is_some());
    group.add(77).unwrap();
    assert!(at("g/c/cgroup.procs").starts_with("77"));
}

/// Makes a group on this machine for one test.
struct Real(Cgroup);

impl Real {
    fn new(name: &str, resources: &Resources) -> Self {
        let hierarchy = Hierarchy::detect().unwrap();
        let path = format!("/gantry-test-{name}-{}/c", std::process::id());
        Self(Cgroup::create(&hierarchy, &path, resources).unwrap())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.0.kill_all().unwrap();
        self.0.remove().unwrap();
        let parent = self.0.path.parent().unwrap().to_str().unwrap();
        self.0.hierarchy.remove_parent(parent).unwrap();
        let first = self.0.hierarchy.mounts[0].folder.join(parent);
        assert!(!first.exists(), "{} stays", first.display());
    }
}

#[test]
fn a_process_lives_is_frozen_and_dies_in_its_group() {
    let resources = Resources {
        memory: Some(Memory { limit: Some(64 << 20), ..Memory::default() }),
        pids: Some(Pids { limit: 20 }),
        cpu: Some(Cpu { quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        ..Resources::default()
    };
    let real = Real::new("life", &resources);
    let group = &real.0;
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    group.add(child.id() as i32).unwrap();
    assert_eq!(group.pids().unwrap(), [child.id() as i32]);
    assert_eq!(group.stats().pids, PidsStats { current: 1, limit: 20 });
    assert_eq!(group.stats().memory.limit, 64 << 20);
    group.freeze().unwrap();
    assert!(group.is_frozen().unwrap() && group.is_freezing().unwrap());
    group.thaw().unwrap();
    assert!(!group.is_frozen().unwrap() && !group.is_freezing().unwrap());
    let wider = Resources {
        memory: Some(Memory { limit: Some(128 << 20), ..Memory::default() }),
        ..Resources::default()
    };
    group.update(&wider).unwrap();
    assert_eq!(group.stats().memory.limit, 128 << 20);
    assert_eq!(group.oom_count(), 0);
    group.kill_all().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn a_meter_that_holds_its_files_sees_what_others_see() {
    let limited = |limit| Resources {
        memory: Some(Memory { limit: Some(limit), ..Memory::default() }),
        pids: Some(Pids { limit: 20 }),
        ..Resources::default()
    };
    let real = Real::new("meter", &limited(64 << 20));
    let group = &real.0;
    let mut held = Meter::held(group.clone());
    let same = |held: &mut Meter| {
        let (one, two) = (held.read(), group.stats());
        assert_eq!((&one.memory.limit, &one.pids), (&two.memory.limit, &two.pids));
        assert!(one.memory.stat.keys().eq(two.memory.stat.keys()) && one.memory.stat.len() > 5);
        assert_eq!(one.cpu.per_cpu.len(), two.cpu.per_cpu.len());
        one
    };
    assert_eq!(same(&mut held).pids, PidsStats { current: 0, limit: 20 });
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    group.add(child.id() as i32).unwrap();
    assert_eq!(same(&mut held).pids.current, 1);
    group.update(&limited(128 << 20)).unwrap();
    assert_eq!(same(&mut held).memory.limit, 128 << 20);
    group.kill_all().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    assert_eq!(held.read().pids, PidsStats::default(), "its group is gone");
    // One of the same name is another group.
    let path = format!("/{}", group.path.display());
    Cgroup::create(&group.hierarchy, &path, &limited(32 << 20)).unwrap();
    assert_eq!(same(&mut held).memory.limit, 32 << 20);
}

#[test]
fn a_child_joins_by_itself_and_sees_only_allowed_devices() {
    let rule = |allow, kind, major, minor, access: &str| DeviceRule {
        allow,
        kind,
        major,
        minor,
        access: Some(access.into()),
    };
    let resources = Resources {
        devices: vec![
            rule(false, None, None, None, "rwm"),
            rule(true, Some('c'), Some(1), Some(3), "rw"),
        ],
        ..Resources::default()
    };
    let real = Real::new("devices", &resources);
    let fds = real.0.join_fds().unwrap();
    // The shell enters by the descriptors' files, as the child does, and tries two devices.
    let mut script = String::new();
    for fd in &fds {
        use std::os::fd::AsRawFd;
        let file = format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
        script.push_str(&format!("echo 0 > {file}; "));
    }
    script.push_str("(: < /dev/null) && echo null; (: < /dev/zero) 2>&-; echo zero $?");
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("null\nzero "), "{text}");
    assert!(!text.contains("zero 0"), "/dev/zero is not allowed: {text}");
}

#[test]
fn a_refused_value_is_named_and_leaves_nothing() {
    let hierarchy = Hierarchy::detect().unwrap();
    let resources = Resources {
        cpu: Some(Cpu { cpus: Some("9999".into()), ..Cpu::default() }),
        ..Resources::default()
    };
    let path = format!("gantry-test-refused-{}", std::process::id());
    let err = Cgroup::create(&hierarchy, &path, &resources).unwrap_err();
    assert!(err.to_string().starts_with("cannot write \"9999\" to cgroup"), "{err}");
    assert!(hierarchy.folders(Path::new(&path)).iter().all(|f| !f.exists()));
}

#[test]
fn the_device_program_passes_the_kernels_verifier() {
    let unified = Path::new("/sys/fs/cgroup/unified");
    let root = if unified.is_dir() { unified } else { Path::new("/sys/fs/cgroup") };
    let folder = root.join(format!("gantry-test-bpf-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let rules = [
        DeviceRule { allow: false, ..DeviceRule::default() },
        DeviceRule {
            allow: true,
            kind: Some('c'),
            major: Some(1),
            minor: Some(3),
            access: Some("rwm".into()),
        },
    ];
    let state = devices::State::of(&rules).unwrap();
    let opened = open_folder(&folder).unwrap();
    // Twice: the second takes the first one's place.
    let attached = devices::attach(opened.as_fd(), &state)
        .and_then(|()| devices::attach(opened.as_fd(), &state));
    let script = format!(
        "echo 0 > {}/cgroup.procs; (: < /dev/null) && echo null; (: < /dev/zero) 2>&-; echo zero $?",
        folder.display()
    );
    let out = Command::new("sh").args(["-c", &script]).output().unwrap();
    remove_tree(&folder, Instant::now() + Duration::from_secs(2)).unwrap();
    match attached {
        Ok(()) => {
            let text = String::from_utf8(out.stdout).unwrap();
            assert!(text.starts_with("null\nzero ") && !text.contains("zero 0"), "{text}");
        }
        // A kernel without CONFIG_CGROUP_BPF has nothing to test against.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            eprintln!("SKIPPED: this kernel takes no device programs: {e}");
        }
        Err(e) => panic!("{e}"),
    }
}
