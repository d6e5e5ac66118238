//! Parts of a project as those see them who act on it.

use crate::{
    container::{bytes, pairs, resources, variables},
    decode, labels,
    project::{Project, image_of},
    value::{Fields, Value},
};
use api::model::{Ipam, IpamConfig, NetworkCreate, Ulimit, VolumeCreate};
use std::{collections::BTreeMap, time::Duration};

/// What a service waits for before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The other one was started.
    Started,
    /// It is healthy.
    Healthy,
    /// It is running, or healthy if it says so.
    RunningOrHealthy,
    /// It has ended well.
    Completed,
}

/// One dependency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// On which service.
    pub service: String,
    /// What is waited for.
    pub condition: Condition,
    /// Whether this one starts again with it.
    pub restart: bool,
    /// Whether it has to be there.
    pub required: bool,
}

/// A command that runs in a container after its start or before its stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// The command.
    pub command: Vec<String>,
    /// Its user.
    pub user: String,
    /// Whether it may do everything.
    pub privileged: bool,
    /// Its folder.
    pub working_dir: String,
    /// Its variables.
    pub environment: Vec<String>,
}

impl Hook {
    fn of(fields: &Fields) -> Self {
        Self {
            command: fields.texts("command").map(str::to_owned).collect(),
            user: fields.text("user").to_owned(),
            privileged: fields.flag("privileged"),
            working_dir: fields.text("working_dir").to_owned(),
            environment: variables(fields),
        }
    }
}

/// Names and what they are called.
pub type Aliases = Vec<(String, String)>;

/// When hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After a start.
    PostStart,
    /// Before a stop.
    PreStop,
}

/// How a service's image is built.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// A folder or an address.
    pub context: String,
    /// The Dockerfile, within the context or absolute.
    pub dockerfile: String,
    /// The Dockerfile itself.
    pub inline: String,
    /// Build arguments.
    pub arguments: BTreeMap<String, Option<String>>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Names of the image; the first is the service's own.
    pub tags: Vec<String>,
    /// The stage.
    pub target: String,
    /// Images to take layers from.
    pub cache_from: Vec<String>,
    /// Whether nothing is taken from the cache.
    pub no_cache: bool,
    /// Whether base images are fetched anew.
    pub pull: bool,
    /// The network of steps.
    pub network: String,
    /// Hosts of steps.
    pub extra_hosts: Vec<String>,
    /// The platform.
    pub platform: String,
    /// Shared memory of steps.
    pub shm_size: i64,
    /// Limits of steps.
    pub ulimits: Vec<Ulimit>,
    /// What the classic builder cannot do, by the keys that ask for it.
    pub beyond: Vec<&'static str>,
}

/// What is done when files change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The file or folder.
    pub path: String,
    /// `sync`, `rebuild`, `restart`, `sync+restart`, `sync+exec`.
    pub action: String,
    /// Where it goes in the container.
    pub target: String,
    /// What runs then.
    pub exec: Hook,
    /// What counts; all when there are none.
    pub include: Vec<String>,
    /// What does not count.
    pub ignore: Vec<String>,
    /// Whether everything is sent at the beginning.
    pub initial_sync: bool,
}

/// When a service's image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Always.
    Always,
    /// When it is missing.
    Missing,
    /// Never.
    Never,
    /// It is built.
    Build,
    /// When it is older than this.
    After(Duration),
}

impl Project {
    /// What a service depends on.
    pub fn needs(&self, service: &str) -> Vec<Need> {
        let Some(of) = self.services.get(service) else { return Vec::new() };
        of.map("depends_on")
            .filter_map(|(other, d)| {
                let d = d.as_fields()?;
                Some(Need {
                    service: other.clone(),
                    condition: match d.text("condition") {
                        "service_healthy" => Condition::Healthy,
                        "service_completed_successfully" => Condition::Completed,
                        _ => Condition::Started,
                    },
                    restart: d.flag("restart"),
                    required: d.flag("required"),
                })
            })
            .collect()
    }

    /// Services that a service's container cannot be made without.
    pub fn shares(&self, service: &str) -> Vec<String> {
        let Some(of) = self.services.get(service) else { return Vec::new() };
        let modes = ["network_mode", "ipc", "pid"].map(|key| of.text(key).strip_prefix("service:"));
        let mut all: Vec<String> = modes.into_iter().flatten().map(str::to_owned).collect();
        for source in of.texts("volumes_from").filter(|s| !s.starts_with("container:")) {
            all.extend(source.split(':').next().map(str::to_owned));
        }
        all.extend(of.texts("links").filter_map(|l| l.split(':').next()).map(str::to_owned));
        all
    }

    /// Links to services (name and alias) and to containers elsewhere.
    pub fn links(&self, service: &str) -> (Aliases, Aliases) {
        let Some(of) = self.services.get(service) else { return (Vec::new(), Vec::new()) };
        let parted = |key: &str| {
            of.texts(key)
                .map(|l| l.split_once(':').unwrap_or((l, l)))
                .map(|(name, alias)| (name.to_owned(), alias.to_owned()))
                .collect()
        };
        (parted("links"), parted("external_links"))
    }

    /// Hooks of a service.
    pub fn hooks(&self, service: &str, moment: Moment) -> Vec<Hook> {
        let key = match moment {
            Moment::PostStart => "post_start",
            Moment::PreStop => "pre_stop",
        };
        let of = self.services.get(service);
        of.into_iter()
            .flat_map(|s| s.list(key))
            .filter_map(Value::as_fields)
            .map(Hook::of)
            .collect()
    }

    /// Whether a service's output is shown by `up`.
    pub fn attaches(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.get("attach").is_none() || s.flag("attach"))
    }

    /// Whether a service has a build.
    pub fn builds(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| s.get("build").is_some())
    }

    /// Whether a service names an image.
    pub fn has_image(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|s| !s.text("image").is_empty())
    }

    /// When a service's image is fetched.
    pub fn pull_policy(&self, service: &str) -> Pull {
        match self.services.get(service).map(|s| s.text("pull_policy")).unwrap_or_default() {
            "always" => Pull::Always,
            "never" => Pull::Never,
            "build" => Pull::Build,
            "daily" => Pull::After(Duration::from_secs(86_400)),
            "weekly" => Pull::After(Duration::from_secs(604_800)),
            other => other
                .strip_prefix("every_")
                .and_then(decode::span)
                .and_then(|n| u64::try_from(n).ok())
                .map_or(Pull::Missing, |n| Pull::After(Duration::from_nanos(n))),
        }
    }

    /// Sets it for all services, or for those with a build.
    pub fn set_pull_policy(&mut self, policy: &str, only_builds: OnlyBuilds) {
        for service in self.services.values_mut() {
            if only_builds == OnlyBuilds::No || service.get("build").is_some() {
                service.set.insert("pull_policy", Value::Text(policy.to_owned()));
            }
        }
    }

    /// The platform a service asks for.
    pub fn platform(&self, service: &str) -> String {
        let own = self.services.get(service).map(|s| s.text("platform")).unwrap_or_default();
        let fallback = self.environment.get("DOCKER_DEFAULT_PLATFORM").map(String::as_str);
        if own.is_empty() { fallback.unwrap_or_default() } else { own }.to_owned()
    }

    /// How a service's image is built.
    pub fn build(&self, service: &str) -> Option<Build> {
        let of = self.services.get(service)?;
        let build = of.fields("build")?;
        let texts = |key: &str| build.texts(key).map(str::to_owned).collect::<Vec<_>>();
        let arguments = build
            .map("args")
            .map(|(name, value)| {
                let own = value.as_str().map(str::to_owned);
                (name.clone(), own.or_else(|| self.environment.get(name).cloned()))
            })
            .collect();
        let mut marks = pairs(build, "labels").unwrap_or_default();
        marks.extend([
            (labels::PROJECT.to_owned(), self.name.clone()),
            (labels::SERVICE.to_owned(), service.to_owned()),
            (labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned()),
            (labels::BUILDER.to_owned(), "classic".to_owned()),
        ]);
        let mut tags = vec![image_of(&self.name, &self.separator, service, of)];
        tags.extend(texts("tags"));
        let beyond =
            ["additional_contexts", "cache_to", "entitlements", "privileged", "secrets", "ssh"];
        Some(Build {
            context: build.text("context").to_owned(),
            dockerfile: build.text("dockerfile").to_owned(),
            inline: build.text("dockerfile_inline").to_owned(),
            arguments,
            labels: marks,
            tags,
            target: build.text("target").to_owned(),
            cache_from: texts("cache_from"),
            no_cache: build.flag("no_cache"),
            pull: build.flag("pull"),
            network: build.text("network").to_owned(),
            extra_hosts: texts("extra_hosts").iter().map(|h| h.replacen('=', ":", 1)).collect(),
            platform: match texts("platforms").as_slice() {
                [one] => one.clone(),
                _ => self.platform(service),
            },
            shm_size: bytes(build, "shm_size"),
            ulimits: resources::ulimits(build),
            beyond: beyond.into_iter().filter(|k| build.get(k).is_some()).collect(),
        })
    }

    /// What is watched for a service.
    pub fn triggers(&self, service: &str) -> Vec<Trigger> {
        let develop = self.services.get(service).and_then(|s| s.fields("develop"));
        let listed = develop.into_iter().flat_map(|d| d.list("watch")).filter_map(Value::as_fields);
        listed
            .map(|t| Trigger {
                path: t.text("path").to_owned(),
                action: t.text("action").to_owned(),
                target: t.text("target").to_owned(),
                exec: t.fields("exec").map(Hook::of).unwrap_or_default(),
                include: t.texts("include").map(str::to_owned).collect(),
                ignore: t.texts("ignore").map(str::to_owned).collect(),
                initial_sync: t.flag("initial_sync"),
            })
            .collect()
    }

    /// The request that makes a network.
    pub fn network_create(&self, key: &str) -> Option<NetworkCreate> {
        let of = self.networks.get(key)?;
        let mut marks = pairs(of, "labels").unwrap_or_default();
        marks.extend(self.marks(labels::NETWORK, key));
        marks.insert(labels::HASH.into(), self.network_hash(key)?);
        let ipam = of.fields("ipam").map(|ipam| {
            let pools = ipam.list("config").filter_map(Value::as_fields).map(|p| IpamConfig {
                subnet: p.text("subnet").to_owned(),
                ip_range: p.text("ip_range").to_owned(),
                gateway: p.text("gateway").to_owned(),
                auxiliary_addresses: pairs(p, "aux_addresses"),
            });
            let pools: Vec<IpamConfig> = pools.collect();
            Ipam {
                driver: ipam.text("driver").to_owned(),
                options: None,
                config: Some(pools).filter(|p| !p.is_empty()),
            }
        });
        let switch = |key: &str| of.get(key).map(|_| of.flag(key));
        Some(NetworkCreate {
            name: of.text("name").to_owned(),
            driver: of.text("driver").to_owned(),
            enable_ipv4: switch("enable_ipv4"),
            enable_ipv6: switch("enable_ipv6"),
            ipam,
            internal: of.flag("internal"),
            attachable: of.flag("attachable"),
            options: pairs(of, "driver_opts"),
            labels: Some(marks),
            ..NetworkCreate::default()
        })
    }

    /// The request that makes a volume.
    pub fn volume_create(&self, key: &str) -> Option<VolumeCreate> {
        let of = self.volumes.get(key)?;
        let mut marks = pairs(of, "labels").unwrap_or_default();
        marks.extend(self.marks(labels::VOLUME, key));
        marks.insert(labels::HASH.into(), self.volume_hash(key)?);
        Some(VolumeCreate {
            name: of.text("name").to_owned(),
            driver: of.text("driver").to_owned(),
            driver_opts: pairs(of, "driver_opts"),
            labels: Some(marks),
        })
    }

    fn marks(&self, kind: &str, key: &str) -> [(String, String); 3] {
        [
            (kind.to_owned(), key.to_owned()),
            (labels::PROJECT.to_owned(), self.name.clone()),
            (labels::VERSION.to_owned(), labels::OUR_VERSION.to_owned()),
        ]
    }

    /// Services that are on a network.
    pub fn services_on(&self, network: &str) -> Vec<String> {
        let on = |s: &&Fields| s.map("networks").any(|(k, _)| k == network);
        self.services.iter().filter(|(_, s)| on(s)).map(|(n, _)| n.clone()).collect()
    }

    /// Services that have a volume.
    pub fn services_with(&self, volume: &str) -> Vec<String> {
        let has = |s: &Fields| {
            s.list("volumes").filter_map(Value::as_fields).any(|m| m.text("source") == volume)
        };
        self.services.iter().filter(|(_, s)| has(s)).map(|(n, _)| n.clone()).collect()
    }

    /// What `run` changes of a service before a container is made of it.
    ///
    /// # Errors
    /// A port or volume that cannot be read.
    pub fn make_one_off(&mut self, service: &str, one_off: &OneOff) -> crate::Result<()> {
        self.service(service)?;
        let at = crate::At { file: "command line".into(), line: 1, column: 1 };
        let mut ports = Vec::new();
        for text in &one_off.publish {
            ports.extend(crate::short::ports(&at, text)?);
        }
        let mut mounts = Vec::new();
        for text in &one_off.volumes {
            let mut mount = crate::short::volume(&at, text)?;
            if let Some(source) = mount.get_mut("source")
                && let Some(text) = source.as_str()
                && text.starts_with(['.', '~'])
            {
                let full = crate::canonical::absolute(text, &one_off.here);
                *source = crate::node::Node::text(&at, full);
            }
            mounts.push(mount);
        }
        let root = crate::node::Node::map(
            &at,
            [
                ("ports", crate::node::Node::list(&at, ports)),
                ("volumes", crate::node::Node::list(&at, mounts)),
            ],
        );
        let mut path = crate::node::Path::of(&["run"]);
        let more = decode::record(&root, &crate::tables::SERVICE, &mut path)?;
        let Some(of) = self.services.get_mut(service) else { return Ok(()) };
        let mut set = |key: &'static str, value: Value| {
            if value.is_zero() {
                of.set.remove(key)
            } else {
                of.set.insert(key, value)
            };
        };
        set("tty", Value::Bool(one_off.tty));
        set("stdin_open", Value::Bool(one_off.interactive));
        set("scale", Value::Int(1));
        set("restart", Value::Null);
        set("container_name", Value::Text(one_off.name.clone()));
        if !one_off.service_ports {
            set("ports", more.get("ports").cloned().unwrap_or(Value::Null));
        }
        for (key, text) in [("user", &one_off.user), ("working_dir", &one_off.workdir)] {
            if !text.is_empty() {
                set(key, Value::Text(text.clone()));
            }
        }
        let words = |list: &[String]| Value::List(list.iter().cloned().map(Value::Text).collect());
        if !one_off.command.is_empty() {
            set("command", words(&one_off.command));
        }
        if let Some(entrypoint) = &one_off.entrypoint {
            of.set.insert("entrypoint", words(entrypoint));
            if one_off.command.is_empty() {
                of.set.insert("command", Value::List(Vec::new()));
            }
        }
        if let Some(Value::Fields(deploy)) = of.set.get_mut("deploy") {
            deploy.set.remove("restart_policy");
        }
        for (key, other, list) in
            [("cap_add", "cap_drop", &one_off.cap_add), ("cap_drop", "cap_add", &one_off.cap_drop)]
        {
            if list.is_empty() {
                continue;
            }
            let mut all: Vec<String> = of.texts(key).map(str::to_owned).collect();
            all.extend(list.iter().cloned());
            let rest: Vec<String> = of
                .texts(other)
                .filter(|c| !list.iter().any(|l| l == c))
                .map(str::to_owned)
                .collect();
            of.set.insert(key, words(&all));
            of.set.insert(other, words(&rest));
        }
        if let Some(Value::List(list)) = more.get("volumes") {
            let mut all: Vec<Value> = of.list("volumes").cloned().collect();
            all.extend(list.iter().cloned());
            of.set.insert("volumes", Value::List(all));
        }
        for (key, added) in [("environment", &one_off.environment), ("labels", &one_off.labels)] {
            let mut all: BTreeMap<String, Value> =
                of.map(key).map(|(k, v)| (k.clone(), v.clone())).collect();
            all.extend(added.iter().map(|(k, v)| (k.clone(), Value::Text(v.clone()))));
            if !all.is_empty() {
                of.set.insert(key, Value::Map(all));
            }
        }
        Ok(())
    }
}

/// Whether a change is for services with a build only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlyBuilds {
    /// For those.
    Yes,
    /// For all.
    No,
}

/// What `run` is asked for.
#[derive(Clone, Debug, Default)]
pub struct OneOff {
    /// A terminal.
    pub tty: bool,
    /// Input.
    pub interactive: bool,
    /// The container's name.
    pub name: String,
    /// The command, when it is another.
    pub command: Vec<String>,
    /// The entrypoint, when it is another.
    pub entrypoint: Option<Vec<String>>,
    /// The user.
    pub user: String,
    /// The folder.
    pub workdir: String,
    /// Variables.
    pub environment: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Volumes in their short form.
    pub volumes: Vec<String>,
    /// Ports in their short form.
    pub publish: Vec<String>,
    /// Whether the service's own ports are published.
    pub service_ports: bool,
    /// Capabilities that are added.
    pub cap_add: Vec<String>,
    /// Capabilities that are taken.
    pub cap_drop: Vec<String>,
    /// The folder that paths are read from.
    pub here: std::path::PathBuf,
}

/// Splits a command line into words as a shell does; `None` when its quotes do not close.
pub fn words(line: &str) -> Option<Vec<String>> {
    crate::short::words(line)
}
