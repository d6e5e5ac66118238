//! The daemon's flags and the keys of its configuration file: one table for both.
//!
//! Flow: [`parse`] turns the command line into [`Values`]; `file.rs` does the same for the file; both are
//! merged and read by `settings.rs`. To add a setting: a line in [`FLAGS`] and its reading in `settings.rs`.
//! Source: dockerd 28 `--help`; the forms of flags are those of Go's pflag (`-D`, `-Hx`, `--host=x`).

use base::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false; on the command line the value may be left out.
    Switch,
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// Strings; the flag may be repeated.
    List,
    /// `key=value`; the flag may be repeated, the file holds an object.
    Pairs,
    /// Any JSON in the file; the flag takes strings and may be repeated.
    Free,
}

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has its meaning.
    Used,
    /// It has no meaning here and is accepted: why.
    Ignored(&'static str),
    /// Doing nothing would be worse than an error: why.
    Refused(&'static str),
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) short: Option<char>,
    /// Key in the configuration file; empty when the command line alone has it.
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fate: Fate,
    pub(crate) help: &'static str,
}

const fn flag(name: &'static str, key: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, short: None, key, kind, fate: Fate::Used, help }
}

const fn short(letter: char, flag: Flag) -> Flag {
    Flag { short: Some(letter), ..flag }
}

const fn ignored(name: &'static str, key: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag {
        name,
        short: None,
        key,
        kind,
        fate: Fate::Ignored(why),
        help: "Accepted, without effect",
    }
}

const fn refused(name: &'static str, key: &'static str, kind: Kind, why: &'static str) -> Flag {
    Flag { name, short: None, key, kind, fate: Fate::Refused(why), help: "Not available yet" }
}

use Kind::{Free, List, Number, Pairs, Switch, Text};

const NO_CONTAINERD: &str = "there is no containerd";
const NO_SWARM: &str = "there is no swarm mode yet";

/// Every setting, in the order of the help text.
pub(crate) static FLAGS: &[Flag] = &[
    flag(
        "add-runtime",
        "runtimes",
        Free,
        "Register an additional OCI compatible runtime, NAME=PATH",
    ),
    ignored(
        "allow-direct-routing",
        "allow-direct-routing",
        Switch,
        "the default bridge has no such limit",
    ),
    flag(
        "authorization-plugin",
        "authorization-plugins",
        List,
        "Authorization plugins to ask, in this order",
    ),
    flag("plugin-dir", "plugin-dirs", List, "Folders in which plugins are looked for"),
    flag(
        "plugin-timeout",
        "plugin-timeout",
        Number,
        "Seconds that a plugin may take for an answer",
    ),
    flag("bip", "bip", Text, "IPv4 address for the default bridge"),
    flag("bip6", "bip6", Text, "IPv6 address for the default bridge"),
    short('b', flag("bridge", "bridge", Text, "Attach containers to a network bridge, or none")),
    ignored(
        "bridge-accept-fwmark",
        "bridge-accept-fwmark",
        Text,
        "no rule of ours drops such packets",
    ),
    flag(
        "builder",
        "builder",
        Free,
        "Limits of the build cache and what builds may be allowed (in the file)",
    ),
    flag("cdi-spec-dir", "cdi-spec-dirs", List, "CDI specification directories to use"),
    flag("cgroup-parent", "cgroup-parent", Text, "Set parent cgroup for all containers"),
    flag("config-file", "", Text, "Daemon configuration file"),
    ignored("containerd", "containerd", Text, NO_CONTAINERD),
    ignored("containerd-namespace", "containerd-namespace", Text, NO_CONTAINERD),
    ignored("containerd-plugins-namespace", "containerd-plugins-namespace", Text, NO_CONTAINERD),
    ignored("cpu-rt-period", "cpu-rt-period", Number, "the parent cgroup keeps the system's value"),
    ignored(
        "cpu-rt-runtime",
        "cpu-rt-runtime",
        Number,
        "the parent cgroup keeps the system's value",
    ),
    ignored("cri-containerd", "cri-containerd", Switch, NO_CONTAINERD),
    flag("data-root", "data-root", Text, "Root directory of persistent state"),
    short('D', flag("debug", "debug", Switch, "Enable debug mode")),
    flag(
        "default-address-pool",
        "default-address-pools",
        Free,
        "Default address pools for networks (base=10.10.0.0/16,size=24)",
    ),
    flag(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Text,
        "Default mode for containers' cgroup namespace (\"host\" | \"private\")",
    ),
    flag(
        "default-gateway",
        "default-gateway",
        Text,
        "Default gateway IPv4 address for the default bridge",
    ),
    flag(
        "default-gateway-v6",
        "default-gateway-v6",
        Text,
        "Default gateway IPv6 address for the default bridge",
    ),
    flag(
        "default-ipc-mode",
        "default-ipc-mode",
        Text,
        "Default mode for containers' IPC (\"shareable\" | \"private\")",
    ),
    flag(
        "default-network-opt",
        "default-network-opts",
        Free,
        "Default options of networks (driver=option=value)",
    ),
    flag("default-runtime", "default-runtime", Text, "Default OCI runtime for containers"),
    flag("default-shm-size", "default-shm-size", Text, "Default shm size for containers"),
    flag(
        "default-stop-timeout",
        "default-stop-timeout",
        Number,
        "Default stop timeout for containers, in seconds",
    ),
    flag("default-ulimit", "default-ulimits", Free, "Default ulimits for containers"),
    flag("dns", "dns", List, "DNS server to use"),
    flag("dns-opt", "dns-opts", List, "DNS options to use"),
    flag("dns-search", "dns-search", List, "DNS search domains to use"),
    flag("exec-opt", "exec-opts", List, "Runtime execution options"),
    flag("exec-root", "exec-root", Text, "Root directory for execution state files"),
    flag("experimental", "experimental", Switch, "Enable experimental features"),
    ignored("feature", "features", Free, "every feature that is there is on"),
    flag(
        "firewall",
        "firewall",
        Text,
        "Filters of this machine that drop by default: told to let containers through (docker), or obeyed (obey)",
    ),
    flag("firewall-backend", "firewall-backend", Text, "Firewall backend to use (nftables)"),
    flag("fixed-cidr", "fixed-cidr", Text, "IPv4 subnet for the default bridge's containers"),
    flag("fixed-cidr-v6", "fixed-cidr-v6", Text, "IPv6 subnet of the default bridge"),
    short('G', flag("group", "group", Text, "Group for the unix socket")),
    short('h', flag("help", "", Switch, "Print usage")),
    short('H', flag("host", "hosts", List, "Daemon socket(s) to connect to")),
    flag("host-gateway-ip", "host-gateway-ips", List, "IP addresses that host-gateway resolves to"),
    flag("http-proxy", "", Text, "HTTP proxy URL to use for outgoing traffic"),
    flag("https-proxy", "", Text, "HTTPS proxy URL to use for outgoing traffic"),
    flag(
        "icc",
        "icc",
        Switch,
        "Enable inter-container communication for the default bridge network",
    ),
    flag(
        "init",
        "init",
        Switch,
        "Run an init in the container to forward signals and reap processes",
    ),
    ignored("init-path", "init-path", Text, "the init is built in"),
    flag(
        "insecure-registry",
        "insecure-registries",
        List,
        "Enable insecure registry communication",
    ),
    flag("ip", "ip", Text, "Host IP for port publishing from the default bridge network"),
    ignored(
        "ip-forward-no-drop",
        "ip-forward-no-drop",
        Switch,
        "the policy of the host's FORWARD chain is never changed",
    ),
    flag("ip-forward", "ip-forward", Switch, "Enable IP forwarding in system configuration"),
    flag("ip-masq", "ip-masq", Switch, "Enable IP masquerading for the default bridge network"),
    ignored("ip6tables", "ip6tables", Switch, "--iptables means both families"),
    flag("iptables", "iptables", Switch, "Enable addition of packet filter rules"),
    flag("ipv6", "ipv6", Switch, "Enable IPv6 on the default bridge network"),
    flag("label", "labels", List, "Set key=value labels to the daemon"),
    flag(
        "live-restore",
        "live-restore",
        Switch,
        "Keep containers running when the daemon is stopped",
    ),
    flag("log-driver", "log-driver", Text, "Default driver for container logs"),
    flag("log-format", "log-format", Text, "Set the logging format (\"text\"|\"json\")"),
    short(
        'l',
        flag(
            "log-level",
            "log-level",
            Text,
            "Set the logging level (\"debug\"|\"info\"|\"warn\"|\"error\"|\"fatal\")",
        ),
    ),
    flag("log-opt", "log-opts", Pairs, "Default log driver options for containers"),
    flag(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Number,
        "Set the max concurrent downloads (default 6)",
    ),
    flag(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Number,
        "Set the max concurrent uploads (default 5)",
    ),
    flag(
        "max-download-attempts",
        "max-download-attempts",
        Number,
        "Set the max download attempts for each pull (default 5)",
    ),
    flag("metrics-addr", "metrics-addr", Text, "Address and port to serve the metrics API on"),
    flag("min-api-version", "min-api-version", Text, "Oldest API version that is served"),
    flag("mtu", "mtu", Number, "Set the MTU of the default bridge network, in bytes"),
    ignored("network-control-plane-mtu", "network-control-plane-mtu", Number, NO_SWARM),
    ignored("network-diagnostic-port", "network-diagnostic-port", Number, NO_SWARM),
    flag("no-proxy", "", Text, "Hosts or networks to reach without a proxy"),
    flag(
        "no-new-privileges",
        "no-new-privileges",
        Switch,
        "Set no-new-privileges by default for new containers",
    ),
    ignored("node-generic-resource", "node-generic-resources", List, NO_SWARM),
    ignored("nri-opts", "nri-opts", Free, "there are no NRI plugins"),
    flag("oom-score-adjust", "oom-score-adjust", Number, "Set the oom_score_adj for the daemon"),
    short('p', flag("pidfile", "pidfile", Text, "Path to use for daemon PID file")),
    flag("raw-logs", "raw-logs", Switch, "Full timestamps without ANSI coloring"),
    flag("proxies", "proxies", Pairs, "The three proxy settings in the configuration file"),
    flag(
        "push-compression",
        "push-compression",
        Text,
        "Compression of layers that are pushed, gzip or zstd (default gzip)",
    ),
    flag(
        "registry-allow",
        "registry-allow",
        List,
        "Registries that may be reached, HOST, HOST:PORT or HOST/PREFIX; all when none is given (none at strict)",
    ),
    flag(
        "registry-certs-dir",
        "registry-certs-dirs",
        List,
        "Folders with a folder of certificates for each registry",
    ),
    flag("registry-mirror", "registry-mirrors", List, "Preferred mirror, URL or REGISTRY=URL"),
    flag(
        "registry-token-server",
        "registry-token-servers",
        List,
        "Further hosts that may be shown a registry's credentials",
    ),
    ignored("resolv-conf", "resolv-conf", Text, "the host's own is read"),
    ignored("restart", "restart", Switch, "restart policies decide"),
    refused("rootless", "rootless", Switch, "rootless mode is not available yet"),
    flag(
        "seccomp-profile",
        "seccomp-profile",
        Text,
        "Default seccomp profile: builtin, unconfined or a file",
    ),
    flag(
        "security-allow",
        "security-allow",
        List,
        "What is allowed in spite of the security level, such as host-paths",
    ),
    flag(
        "security-level",
        "security-level",
        Text,
        "Level of defaults: compat (Docker's), secure, strict",
    ),
    flag(
        "selinux-enabled",
        "selinux-enabled",
        Switch,
        "Give containers SELinux labels, where the kernel has a policy",
    ),
    flag(
        "shutdown-timeout",
        "shutdown-timeout",
        Number,
        "Seconds that an ordered stop gives containers",
    ),
    short('s', flag("storage-driver", "storage-driver", Text, "Storage driver to use (overlay2)")),
    flag("storage-opt", "storage-opts", List, "Storage driver options (overlay2.size)"),
    ignored("swarm-default-advertise-addr", "swarm-default-advertise-addr", Text, NO_SWARM),
    ignored("swarm-raft-election-tick", "swarm-raft-election-tick", Number, NO_SWARM),
    ignored("swarm-raft-heartbeat-tick", "swarm-raft-heartbeat-tick", Number, NO_SWARM),
    flag("tls", "tls", Switch, "Use TLS; implied by --tlsverify; =false allows TCP without it"),
    flag("tlscacert", "tlscacert", Text, "Trust certs signed only by this CA"),
    flag("tlscert", "tlscert", Text, "Path to TLS certificate file"),
    flag("tlskey", "tlskey", Text, "Path to TLS key file"),
    flag("tlsverify", "tlsverify", Switch, "Use TLS and verify the remote"),
    ignored("userland-proxy", "userland-proxy", Switch, "ports are published without a proxy"),
    ignored(
        "userland-proxy-path",
        "userland-proxy-path",
        Text,
        "ports are published without a proxy",
    ),
    flag("userns-remap", "userns-remap", Text, "User/Group setting for user namespaces"),
    flag("validate", "", Switch, "Validate daemon configuration and exit"),
    flag("verify", "", Switch, "Check store, blobs and layers, mend what can be mended, and exit"),
    short('v', flag("version", "", Switch, "Print version information and quit")),
];

/// Values by name of flag.
pub(crate) type Values = BTreeMap<&'static str, Value>;

/// The setting of this name.
pub(crate) fn by_name(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|f| f.name == name)
}

/// Parses the command line, the program's and the role's names left out.
///
/// # Errors
/// `Invalid` with pflag's wording.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Values> {
    let mut values = Values::new();
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            if let Some(stray) = rest.next() {
                return Err(stray_argument(&stray));
            }
        } else if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let flag =
                by_name(name).ok_or_else(|| Error::invalid(format!("unknown flag: --{name}")))?;
            take(&mut values, flag, value, &mut rest, &format!("--{name}"))?;
        } else if argument.len() > 1 && argument.starts_with('-') {
            letters(&mut values, &argument[1..], &mut rest)?;
        } else {
            return Err(stray_argument(&argument));
        }
    }
    Ok(values)
}

fn stray_argument(argument: &str) -> Error {
    Error::invalid(format!("the daemon accepts no arguments: {argument:?}"))
}

/// `-D`, `-Hx`, `-H=x`, `-H x`, `-DH x`.
fn letters(
    values: &mut Values,
    letters: &str,
    rest: &mut impl Iterator<Item = String>,
) -> Result<()> {
    for (at, letter) in letters.char_indices() {
        let flag = FLAGS.iter().find(|f| f.short == Some(letter)).ok_or_else(|| {
            Error::invalid(format!("unknown shorthand flag: {letter:?} in -{letters}"))
        })?;
        let tail = &letters[at + letter.len_utf8()..];
        let value = match tail.strip_prefix('=') {
            Some(value) => Some(value),
            None if flag.kind != Switch && !tail.is_empty() => Some(tail),
            None => None,
        };
        take(values, flag, value.map(str::to_owned), rest, &format!("-{letter}"))?;
        if value.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

fn take(
    values: &mut Values,
    flag: &'static Flag,
    value: Option<String>,
    rest: &mut impl Iterator<Item = String>,
    shown: &str,
) -> Result<()> {
    let text = match value {
        Some(text) => text,
        None if flag.kind == Switch => "true".into(),
        None => {
            rest.next().ok_or_else(|| Error::invalid(format!("flag needs an argument: {shown}")))?
        }
    };
    let bad = |why: &str| {
        Error::invalid(format!("invalid argument {text:?} for \"{shown}\" flag: {why}"))
    };
    match flag.kind {
        Switch => {
            let on = truth(&text).ok_or_else(|| bad("want true or false"))?;
            values.insert(flag.name, Value::Bool(on));
        }
        Number => {
            let number: i64 = text.parse().map_err(|_| bad("want a number"))?;
            values.insert(flag.name, number.into());
        }
        Text => {
            values.insert(flag.name, text.into());
        }
        List | Free => {
            let list = values.entry(flag.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(text.into());
            }
        }
        Pairs => {
            let (key, value) = text.split_once('=').ok_or_else(|| bad("want key=value"))?;
            let map = values.entry(flag.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key.into(), value.into());
            }
        }
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The help text.
pub(crate) fn usage(program: &str) -> String {
    let mut text =
        format!("Usage:  {program} [OPTIONS]\n\nA daemon that runs containers.\n\nOptions:\n");
    for flag in FLAGS {
        let letter = flag.short.map_or("    ".into(), |c| format!("-{c}, "));
        let kind = match flag.kind {
            Switch => "",
            Text => " string",
            Number => " int",
            List => " list",
            Pairs => " map",
            Free => " list",
        };
        let left = format!("  {letter}--{}{kind}", flag.name);
        let why = match flag.fate {
            Fate::Used => String::new(),
            Fate::Ignored(why) | Fate::Refused(why) => format!(" ({why})"),
        };
        text.push_str(&format!("{left:<44} {}{why}\n", flag.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(line: &str, want: std::result::Result<Value, &str>) {
        let got = parse(line.split_whitespace().map(str::to_owned));
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(json!(got), want, "{line}"),
            (Err(got), Err(want)) => assert_eq!(got.to_string(), want, "{line}"),
            (got, want) => panic!("{line}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn all_forms_of_pflag_are_taken() {
        check(
            "-D -H unix:///a --host=tcp://b -Hfd:// -H=c",
            Ok(json!({"debug": true, "host": ["unix:///a", "tcp://b", "fd://", "c"]})),
        );
        check("-DHx --debug=false", Ok(json!({"debug": false, "host": ["x"]})));
        check(
            "--log-opt max-size=1m --log-opt max-file=2 --mtu 1400",
            Ok(json!({"log-opt": {"max-size": "1m", "max-file": "2"}, "mtu": 1400})),
        );
        check("--bip= --", Ok(json!({"bip": ""})));
    }

    #[test]
    fn unknown_and_malformed_flags_are_named() {
        check("--nope", Err("unknown flag: --nope"));
        check("-Dx", Err("unknown shorthand flag: 'x' in -Dx"));
        check("--host", Err("flag needs an argument: --host"));
        check("--mtu x", Err("invalid argument \"x\" for \"--mtu\" flag: want a number"));
        check(
            "--debug=maybe",
            Err("invalid argument \"maybe\" for \"--debug\" flag: want true or false"),
        );
        check("--log-opt x", Err("invalid argument \"x\" for \"--log-opt\" flag: want key=value"));
        check("start", Err("the daemon accepts no arguments: \"start\""));
    }

    #[test]
    fn no_name_letter_or_key_is_taken_twice() {
        for (at, flag) in FLAGS.iter().enumerate() {
            for other in &FLAGS[..at] {
                assert_ne!(flag.name, other.name);
                assert!(flag.short.is_none() || flag.short != other.short, "{}", flag.name);
                assert!(flag.key.is_empty() || flag.key != other.key, "{}", flag.name);
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_parsed_or_refused(words in proptest::collection::vec("[-=a-zA-Z0-9é]{0,12}", 0..6)) {
            let _ = parse(words);
        }
    }
}
