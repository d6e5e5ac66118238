//! The keys of a Compose file. Source: `compose-spec.json` and the types of docker compose 2.40.3.

use crate::shape::{
    Field, Record,
    Shape::{self, *},
    Zero,
};

const fn key(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, zero: Zero::Omit }
}

const fn kept(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, zero: Zero::Keep }
}

const fn dropped(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, zero: Zero::Drop }
}

const fn always(name: &'static str, shape: Shape) -> Field {
    Field { name, shape, zero: Zero::Always }
}

const fn command(name: &'static str) -> Field {
    Field { name, shape: Shape::Command, zero: Zero::Null }
}

const fn braces(name: &'static str, record: &'static Record) -> Field {
    Field { name, shape: Of(record), zero: Zero::Braces }
}

const fn open(fields: &'static [Field]) -> Record {
    Record { fields, required: &[], open: true }
}

const fn closed(fields: &'static [Field]) -> Record {
    Record { fields, required: &[], open: false }
}

const fn with(fields: &'static [Field], required: &'static [&'static str]) -> Record {
    Record { fields, required, open: true }
}

const ANY: (i64, i64) = (i64::MIN, i64::MAX);
const WHOLE: Shape = Whole(ANY.0, ANY.1);
const NATURAL: Shape = Whole(0, i64::MAX);

pub(crate) static PROJECT: Record = open(&[
    dropped("version", Text),
    key("name", Text),
    dropped("include", Each(&Short(&Text, &Of(&INCLUDE)))),
    key("services", Named(&Of(&SERVICE))),
    key("networks", Named(&Maybe(&Of(&NETWORK)))),
    key("volumes", Named(&Maybe(&Of(&VOLUME)))),
    key("secrets", Named(&Of(&SECRET))),
    key("configs", Named(&Of(&CONFIG))),
    key("models", Named(&Of(&MODEL))),
]);

static INCLUDE: Record =
    closed(&[key("path", OneOrMore), key("env_file", OneOrMore), key("project_directory", Text)]);

pub(crate) static SERVICE: Record = open(&[
    key("profiles", Texts),
    key("annotations", Pairs),
    kept("attach", Flag),
    key("build", Short(&Text, &Of(&BUILD))),
    kept("develop", Maybe(&Of(&DEVELOP))),
    kept("blkio_config", Of(&BLKIO)),
    key("cap_add", Texts),
    key("cap_drop", Texts),
    key("cgroup_parent", Text),
    key("cgroup", Choice(&["host", "private"])),
    key("cpu_count", NATURAL),
    key("cpu_percent", Real),
    key("cpu_period", Number),
    key("cpu_quota", Number),
    key("cpu_rt_period", Number),
    key("cpu_rt_runtime", Number),
    key("cpus", Real),
    key("cpuset", Text),
    key("cpu_shares", Number),
    command("command"),
    key("configs", FILES),
    key("container_name", Text),
    kept("credential_spec", Of(&CREDENTIAL)),
    key("depends_on", Short(&Texts, &Named(&Of(&DEPENDENCY)))),
    kept("deploy", Maybe(&Of(&DEPLOY))),
    key("device_cgroup_rules", Texts),
    key("devices", Each(&Short(&Text, &Of(&DEVICE)))),
    key("dns", OneOrMore),
    key("dns_opt", Texts),
    key("dns_search", OneOrMore),
    key("domainname", Text),
    command("entrypoint"),
    kept("provider", Of(&PROVIDER)),
    key("environment", Environment),
    key("env_file", Short(&Text, &Each(&Short(&Text, &Of(&ENV_FILE))))),
    key("expose", Laxes),
    key("extends", Short(&Text, &Of(&EXTENDS))),
    key("external_links", Texts),
    key("extra_hosts", Hosts),
    key("group_add", Laxes),
    key("gpus", Short(&Choice(&["all"]), &Each(&Of(&GPU)))),
    key("hostname", Text),
    kept("healthcheck", Of(&HEALTH)),
    key("image", Text),
    kept("init", Flag),
    key("ipc", Text),
    key("isolation", Text),
    key("labels", Pairs),
    key("label_file", OneOrMore),
    key("links", Texts),
    kept("logging", Of(&LOGGING)),
    key("mem_limit", Size),
    key("mem_reservation", Size),
    key("memswap_limit", Size),
    key("mem_swappiness", Size),
    key("mac_address", Text),
    key("models", Short(&Texts, &Named(&Maybe(&Of(&SERVICE_MODEL))))),
    key("network_mode", Text),
    key("networks", Short(&Texts, &Named(&Maybe(&Of(&ENDPOINT))))),
    key("oom_kill_disable", Flag),
    key("oom_score_adj", Whole(-1000, 1000)),
    key("pid", Maybe(&Text)),
    key("pids_limit", Number),
    key("platform", Text),
    key("ports", Each(&Short(&Lax, &Of(&PORT)))),
    key("privileged", Flag),
    key("pull_policy", Policy),
    dropped("pull_refresh_after", Text),
    key("read_only", Flag),
    key("restart", Text),
    key("runtime", Text),
    kept("scale", WHOLE),
    key("secrets", FILES),
    key("security_opt", Texts),
    key("shm_size", Size),
    key("stdin_open", Flag),
    kept("stop_grace_period", Span),
    key("stop_signal", Text),
    key("storage_opt", Options),
    key("sysctls", Pairs),
    key("tmpfs", OneOrMore),
    key("tty", Flag),
    key("ulimits", Named(&Ulimit(&ULIMIT))),
    key("use_api_socket", Bool),
    key("user", Text),
    key("userns_mode", Text),
    key("uts", Text),
    key("volumes", Each(&Short(&Text, &Of(&MOUNT)))),
    key("volumes_from", Texts),
    key("working_dir", Text),
    key("post_start", Each(&Of(&HOOK))),
    key("pre_stop", Each(&Of(&HOOK))),
]);

const FILES: Shape = Each(&Short(&Text, &Of(&FILE)));

static FILE: Record = open(&[
    key("source", Text),
    key("target", Text),
    key("uid", Text),
    key("gid", Text),
    kept("mode", Mode),
]);

static BUILD: Record = open(&[
    key("context", Text),
    key("dockerfile", Text),
    key("dockerfile_inline", Text),
    key("entitlements", Words),
    key("args", Environment),
    key("provenance", Lax),
    key("sbom", Lax),
    key("ssh", Ssh),
    key("labels", Pairs),
    key("cache_from", Words),
    key("cache_to", Words),
    key("no_cache", Flag),
    key("additional_contexts", Pairs),
    key("pull", Flag),
    key("extra_hosts", Hosts),
    key("isolation", Text),
    key("network", Text),
    key("target", Text),
    key("secrets", FILES),
    key("shm_size", Size),
    key("tags", Words),
    key("ulimits", Named(&Ulimit(&ULIMIT))),
    key("platforms", Words),
    key("privileged", Flag),
]);

static DEVELOP: Record = open(&[key("watch", Each(&Of(&WATCH)))]);

static WATCH: Record = with(
    &[
        always("path", Text),
        always("action", Choice(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        key("target", Text),
        braces("exec", &HOOK),
        dropped("include", OneOrMore),
        key("ignore", OneOrMore),
        key("initial_sync", Bool),
    ],
    &["path", "action"],
);

static HOOK: Record = with(
    &[
        command("command"),
        key("user", Text),
        key("privileged", Flag),
        key("working_dir", Text),
        key("environment", Environment),
    ],
    &["command"],
);

static BLKIO: Record = closed(&[
    key("weight", NATURAL),
    key("weight_device", Each(&Of(&WEIGHT))),
    key("device_read_bps", Each(&Of(&THROTTLE))),
    key("device_read_iops", Each(&Of(&THROTTLE))),
    key("device_write_bps", Each(&Of(&THROTTLE))),
    key("device_write_iops", Each(&Of(&THROTTLE))),
]);

/// These two have capital letters in JSON.
pub(crate) static WEIGHT: Record = closed(&[always("path", Text), always("weight", NATURAL)]);
pub(crate) static THROTTLE: Record = closed(&[always("path", Text), always("rate", Size)]);

static CREDENTIAL: Record = open(&[key("config", Text), key("file", Text), key("registry", Text)]);

static DEPENDENCY: Record = with(
    &[
        key(
            "condition",
            Choice(&["service_started", "service_healthy", "service_completed_successfully"]),
        ),
        key("restart", Flag),
        always("required", Flag),
    ],
    &["condition"],
);

static DEPLOY: Record = open(&[
    key("mode", Text),
    kept("replicas", WHOLE),
    key("labels", Pairs),
    kept("update_config", Of(&UPDATE)),
    kept("rollback_config", Of(&UPDATE)),
    braces("resources", &RESOURCES),
    kept("restart_policy", Of(&RESTART)),
    braces("placement", &PLACEMENT),
    key("endpoint_mode", Text),
]);

static UPDATE: Record = open(&[
    kept("parallelism", NATURAL),
    key("delay", Span),
    key("failure_action", Text),
    key("monitor", Span),
    key("max_failure_ratio", Real),
    key("order", Choice(&["start-first", "stop-first"])),
]);

static RESOURCES: Record =
    open(&[kept("limits", Of(&LIMITS)), kept("reservations", Of(&RESERVED))]);

static LIMITS: Record = open(&[key("cpus", Real), key("memory", Size), key("pids", WHOLE)]);

static RESERVED: Record = open(&[
    key("cpus", Real),
    key("memory", Size),
    key("devices", Each(&Of(&GPU_REQUEST))),
    key("generic_resources", Each(&Of(&GENERIC))),
]);

static GENERIC: Record = open(&[kept("discrete_resource_spec", Of(&DISCRETE))]);

static DISCRETE: Record = open(&[always("kind", Text), always("value", WHOLE)]);

const REQUEST: &[Field] = &[
    key("capabilities", Texts),
    key("driver", Text),
    key("count", Count),
    key("device_ids", Texts),
    key("options", Pairs),
];

static GPU: Record = open(REQUEST);
static GPU_REQUEST: Record = with(REQUEST, &["capabilities"]);

static RESTART: Record = open(&[
    key("condition", Text),
    kept("delay", Span),
    kept("max_attempts", NATURAL),
    kept("window", Span),
]);

static PLACEMENT: Record = open(&[
    key("constraints", Words),
    key("preferences", Each(&Of(&PREFERENCE))),
    key("max_replicas_per_node", NATURAL),
]);

static PREFERENCE: Record = open(&[key("spread", Text)]);

static DEVICE: Record =
    with(&[key("source", Text), key("target", Text), key("permissions", Text)], &["source"]);

static PROVIDER: Record = with(&[key("type", Text), key("options", Any)], &["type"]);

/// One that has to be there is printed as its path alone.
pub(crate) static ENV_FILE: Record = Record {
    fields: &[key("path", Text), always("required", Flag), key("format", Text)],
    required: &["path"],
    open: false,
};

static EXTENDS: Record = Record {
    fields: &[key("file", Text), key("service", Text)],
    required: &["service"],
    open: false,
};

static HEALTH: Record = open(&[
    key("test", Test),
    kept("timeout", Span),
    kept("interval", Span),
    kept("retries", NATURAL),
    kept("start_period", Span),
    kept("start_interval", Span),
    key("disable", Flag),
]);

static LOGGING: Record = open(&[key("driver", Text), key("options", Options)]);

static SERVICE_MODEL: Record = open(&[key("endpoint_var", Text), key("model_var", Text)]);

static ENDPOINT: Record = open(&[
    key("aliases", Texts),
    key("driver_opts", Options),
    key("gw_priority", Number),
    key("interface_name", Text),
    key("ipv4_address", Text),
    key("ipv6_address", Text),
    key("link_local_ips", Texts),
    key("mac_address", Text),
    key("priority", Number),
]);

static PORT: Record = open(&[
    key("name", Text),
    key("mode", Text),
    key("host_ip", Text),
    key("target", Whole(0, 65_535)),
    key("published", Lax),
    key("protocol", Text),
    key("app_protocol", Text),
]);

static ULIMIT: Record = with(&[key("soft", WHOLE), key("hard", WHOLE)], &["soft", "hard"]);

static MOUNT: Record = with(
    &[
        key("type", Choice(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        key("source", Text),
        key("target", Text),
        key("read_only", Flag),
        key("consistency", Text),
        kept("bind", Of(&BIND)),
        kept("volume", Of(&MOUNTED_VOLUME)),
        kept("tmpfs", Of(&TMPFS)),
        kept("image", Of(&IMAGE)),
    ],
    &["type"],
);

static BIND: Record = open(&[
    key("selinux", Choice(&["z", "Z"])),
    key("propagation", Text),
    key("create_host_path", Flag),
    key("recursive", Choice(&["enabled", "disabled", "writable", "readonly"])),
]);

static MOUNTED_VOLUME: Record =
    open(&[key("labels", Pairs), key("nocopy", Flag), key("subpath", Text)]);

static TMPFS: Record = open(&[key("size", Size), key("mode", Number)]);

static IMAGE: Record = open(&[key("subpath", Text)]);

pub(crate) static NETWORK: Record = open(&[
    key("name", Text),
    key("driver", Text),
    key("driver_opts", Options),
    braces("ipam", &IPAM),
    key("external", External),
    key("internal", Flag),
    key("attachable", Flag),
    key("labels", Pairs),
    kept("enable_ipv4", Flag),
    kept("enable_ipv6", Flag),
]);

static IPAM: Record =
    open(&[key("driver", Text), key("config", Each(&Of(&POOL))), dropped("options", Options)]);

static POOL: Record = open(&[
    key("subnet", Text),
    key("gateway", Text),
    key("ip_range", Text),
    key("aux_addresses", Pairs),
]);

pub(crate) static VOLUME: Record = open(&[
    key("name", Text),
    key("driver", Text),
    key("driver_opts", Options),
    key("external", External),
    key("labels", Pairs),
]);

pub(crate) static SECRET: Record = open(&[
    key("name", Text),
    key("file", Text),
    key("environment", Text),
    key("external", External),
    key("labels", Pairs),
    key("driver", Text),
    key("driver_opts", Options),
    key("template_driver", Text),
]);

pub(crate) static CONFIG: Record = open(&[
    key("name", Text),
    key("file", Text),
    key("environment", Text),
    key("content", Text),
    key("external", External),
    key("labels", Pairs),
    key("template_driver", Text),
]);

pub(crate) static MODEL: Record = with(
    &[
        key("name", Text),
        key("model", Text),
        key("context_size", WHOLE),
        key("runtime_flags", Words),
    ],
    &["model"],
);
