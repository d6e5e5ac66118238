//! Labels as texts: their parts, the policy's contexts for containers, options, free categories.
//!
//! Pure but for [`Contexts::of_host`] and [`random`]. A level of categories is written `s0:c1,c2`, the lower one first;
//! two of 1024 make 523,776 of them, of which the last is nobody's.
//! Source: opencontainers/selinux (behaviour, texts); `lxc_contexts` of policies.

use base::{Error, Result};
use std::{collections::BTreeSet, fmt, io, path::Path, str::FromStr};

/// Categories of a policy for containers.
const CATEGORIES: u32 = 1024;
/// The level of files of containers without confinement: no confined one gets these categories.
const UNCONFINED_LEVEL: &str = "s0:c1022,c1023";
/// The level of files that all containers share.
const SHARED_LEVEL: &str = "s0";

/// `user:role:type[:level]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) user: String,
    pub(crate) role: String,
    pub(crate) kind: String,
    /// Empty in policies without levels.
    pub(crate) level: String,
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        match (next(), next(), next()) {
            (Some(user), Some(role), Some(kind)) => {
                Ok(Self { user, role, kind, level: parts.next().unwrap_or_default() })
            }
            _ => {
                Err(Error::invalid(format!("invalid SELinux label {text:?}: want USER:ROLE:TYPE")))
            }
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, role, kind, level } = self;
        match level.as_str() {
            "" => write!(f, "{user}:{role}:{kind}"),
            level => write!(f, "{user}:{role}:{kind}:{level}"),
        }
    }
}

impl Label {
    /// As security options that give another container the same.
    pub(crate) fn as_options(&self) -> Vec<String> {
        let parts = [
            ("user", &self.user),
            ("role", &self.role),
            ("type", &self.kind),
            ("level", &self.level),
        ];
        let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(key, value)| format!("label={key}:{value}")).collect()
    }

    /// The same for files that all containers share.
    pub(crate) fn shared(&self) -> Self {
        Self { level: SHARED_LEVEL.into(), ..self.clone() }
    }
}

/// What the policy has for containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contexts {
    pub(crate) process: Label,
    pub(crate) file: Label,
    /// Of what containers may read and execute, but not change.
    pub(crate) read_only: Label,
}

impl Default for Contexts {
    /// Those of the reference policy. Where a policy has others it says so; where it does not know these, the kernel
    /// refuses them, and nothing runs unconfined without a word.
    fn default() -> Self {
        let label = |role: &str, kind: &str| Label {
            user: "system_u".into(),
            role: role.into(),
            kind: kind.into(),
            level: SHARED_LEVEL.into(),
        };
        let file = label("object_r", "container_file_t");
        Self { process: label("system_r", "container_t"), read_only: file.clone(), file }
    }
}

impl Contexts {
    /// Those that the files below `root` tell.
    pub(crate) fn of_host(root: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
        let text = read("usr/share/containers/selinux/contexts").or_else(|| {
            let config = read("etc/selinux/config").unwrap_or_default();
            let policy = setting(&config, "SELINUXTYPE").unwrap_or_default();
            read(&format!("etc/selinux/{policy}/contexts/lxc_contexts"))
        });
        Self::parse(&text.unwrap_or_default())
    }

    /// Reads `process = "..."`, `file = "..."` and `ro_file = "..."`; the default's for those that are missing or none, and
    /// for the last one that of other files.
    pub(crate) fn parse(text: &str) -> Self {
        let label = |key: &str| setting(text, key).and_then(|value| value.parse().ok());
        let default = Self::default();
        let file = label("file").unwrap_or(default.file);
        Self {
            process: label("process").unwrap_or(default.process),
            read_only: label("ro_file").unwrap_or_else(|| file.clone()),
            file,
        }
    }

    /// Labels of a container with such options, at `level` unless they say another one.
    ///
    /// # Errors
    /// `Invalid` with docker's words for an option that is none.
    pub(crate) fn pair(&self, options: &[&str], level: &str) -> Result<Pair> {
        let (mut process, mut mount) = (self.process.clone(), self.file.clone());
        if !process.level.is_empty() {
            level.clone_into(&mut process.level);
            level.clone_into(&mut mount.level);
        }
        for option in options.iter().filter(|option| **option != "nested") {
            if *option == "disable" {
                let mount = Label { level: UNCONFINED_LEVEL.into(), ..self.file.clone() };
                return Ok(Pair { process: None, mount });
            }
            let (key, value) = option.split_once(':').unwrap_or((option, ""));
            let value = || value.to_owned();
            match key {
                "user" => (process.user, mount.user) = (value(), value()),
                "role" => process.role = value(),
                "type" => process.kind = value(),
                "level" => (process.level, mount.level) = (value(), value()),
                "filetype" => mount.kind = value(),
                _ => {
                    return Err(Error::invalid(format!(
                        "bad label option {key:?}, valid options 'disable, user, role, level, type, filetype'"
                    )));
                }
            }
        }
        Ok(Pair { process: Some(process), mount })
    }
}

/// A value of a file of `key = "value"` lines.
fn setting<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';']));
    let mut settings = lines.filter_map(|line| line.split_once('='));
    let (_, value) = settings.find(|(found, _)| found.trim() == key)?;
    Some(value.trim().trim_matches('"')).filter(|value| !value.is_empty())
}

/// The labels of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Of its processes; none leaves them to the policy.
    pub(crate) process: Option<Label>,
    /// Of its files.
    pub(crate) mount: Label,
}

impl Pair {
    /// As they are kept: of its processes, empty for none, and of its files.
    pub(crate) fn texts(&self) -> (String, String) {
        let process = self.process.as_ref().map(ToString::to_string);
        (process.unwrap_or_default(), self.mount.to_string())
    }

    /// The level of its processes.
    pub(crate) fn level(&self) -> Option<&str> {
        self.process.as_ref().map(|label| label.level.as_str())
    }

    /// Fails for a label of which the policy says that it does not know it. Who may not ask hears it when the container
    /// is started.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check(&self, is_known: impl Fn(&str) -> io::Result<bool>) -> Result<()> {
        for label in self.process.iter().chain([&self.mount]) {
            if let Ok(false) = is_known(&label.to_string()) {
                return Err(Error::invalid(format!(
                    "the SELinux policy does not know the label {label}: give --security-opt label=... a user, role, type and level of the policy that is loaded"
                )));
            }
        }
        Ok(())
    }
}

/// A level with two categories that is not `taken`: the first one from number `from` on.
pub(crate) fn free(taken: &BTreeSet<String>, from: u32) -> Option<String> {
    let all = CATEGORIES * (CATEGORIES - 1) / 2;
    (0..all)
        .map(|step| level((from % all + step) % all))
        .find(|level| level != UNCONFINED_LEVEL && !taken.contains(level))
}

/// The level of a number below 523,776: pairs go by their higher category.
fn level(number: u32) -> String {
    let (mut high, mut left) = (1, number);
    while left >= high {
        left -= high;
        high += 1;
    }
    format!("s0:c{left},c{high}")
}

/// A number that nobody can foresee.
pub(crate) fn random() -> u32 {
    // Hexadecimal digits, so the first eight are one.
    u32::from_str_radix(&base::id::random_hex()[..8], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# comment\nprocess = \"system_u:system_r:svirt_lxc_net_t:s0\"\n\
        content=\"x\"\nfile = \"system_u:object_r:svirt_sandbox_file_t:s0\"\n";

    fn pair(options: &[&str]) -> (String, String) {
        let pair = Contexts::default().pair(options, "s0:c5,c9").unwrap();
        (pair.process.map(|p| p.to_string()).unwrap_or_default(), pair.mount.to_string())
    }

    #[test]
    fn labels_are_told_apart_into_their_parts_and_put_together_again() {
        for text in ["u:r:t", "u:r:t:s0", "u:r:t:s0:c1,c2", "u:r:t:s0-s15:c0.c1023"] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
        assert_eq!("u:r:t:s0:c1,c2".parse::<Label>().unwrap().level, "s0:c1,c2");
        for bad in ["", "u", "u:r", "u::t", ":r:t:s0", "kernel"] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn contexts_are_those_of_the_policy_or_the_usual_ones() {
        let own = Contexts::parse(TEXT);
        assert_eq!(own.process.kind, "svirt_lxc_net_t");
        assert_eq!(own.file.to_string(), "system_u:object_r:svirt_sandbox_file_t:s0");
        assert_eq!(own.read_only, own.file);
        let own = Contexts::parse(&format!("{TEXT}ro_file = \"u:object_r:ro_t:s0\""));
        assert_eq!(own.read_only.kind, "ro_t");
        assert_eq!(Contexts::parse("; nothing\nprocess = \"\"\n"), Contexts::default());
    }

    #[test]
    fn files_of_the_host_say_which_policy_counts() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Contexts::of_host(root.path()), Contexts::default());
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n");
        write("etc/selinux/targeted/contexts/lxc_contexts", TEXT);
        assert_eq!(Contexts::of_host(root.path()), Contexts::parse(TEXT));
        write("usr/share/containers/selinux/contexts", "process = \"a:b:c:s0\"");
        assert_eq!(Contexts::of_host(root.path()).process.to_string(), "a:b:c:s0");
    }

    #[test]
    fn options_change_the_parts_that_they_name() {
        let own = |process: &str, mount: &str| (process.to_owned(), mount.to_owned());
        let usual = own(
            "system_u:system_r:container_t:s0:c5,c9",
            "system_u:object_r:container_file_t:s0:c5,c9",
        );
        assert_eq!(pair(&[]), usual);
        assert_eq!(pair(&["nested"]), usual);
        assert_eq!(
            pair(&["user:u", "role:r", "type:t", "level:s0:c1"]),
            own("u:r:t:s0:c1", "u:object_r:container_file_t:s0:c1")
        );
        assert_eq!(
            pair(&["filetype:f", "type:a", "type:b"]),
            own("system_u:system_r:b:s0:c5,c9", "system_u:object_r:f:s0:c5,c9")
        );
        assert_eq!(
            pair(&["type:a", "disable"]),
            own("", "system_u:object_r:container_file_t:s0:c1022,c1023")
        );
        let err = Contexts::default().pair(&["color:red"], "s0").unwrap_err().chain();
        assert!(err.starts_with("bad label option \"color\", valid options"), "{err}");
    }

    #[test]
    fn a_policy_without_levels_has_no_categories() {
        let contexts = Contexts::parse("process = \"u:r:t\"\nfile = \"u:object_r:f\"\n");
        let pair = contexts.pair(&[], "s0:c5,c9").unwrap();
        assert_eq!((pair.level(), pair.mount.to_string()), (Some(""), "u:object_r:f".into()));
    }

    #[test]
    fn every_pair_of_categories_has_a_number() {
        let all: BTreeSet<String> = (0..523_776).map(level).collect();
        assert_eq!(all.len(), 523_776);
        assert_eq!(level(0), "s0:c0,c1");
        assert_eq!(level(523_775), "s0:c1022,c1023");
    }

    #[test]
    fn a_free_level_is_nobody_elses_and_not_that_of_unconfined_files() {
        let mut taken = BTreeSet::new();
        for want in ["s0:c0,c2", "s0:c1,c2", "s0:c0,c3"] {
            assert_eq!(free(&taken, 1).unwrap(), want);
            taken.insert(want.to_owned());
        }
        assert_eq!(free(&BTreeSet::new(), 523_775).unwrap(), "s0:c0,c1", "the last is skipped");
        assert_eq!(free(&(0..523_776).map(level).collect(), 7), None);
    }

    #[test]
    fn a_label_that_the_policy_does_not_know_is_refused_by_name() {
        let pair = Contexts::default().pair(&["type:nonsense_t"], "s0:c5,c9").unwrap();
        let known = |label: &str| Ok(!label.contains("nonsense"));
        let err = pair.check(known).unwrap_err().chain();
        assert!(err.contains("system_u:system_r:nonsense_t:s0:c5,c9"), "{err}");
        pair.check(|_| Err(io::ErrorKind::PermissionDenied.into())).unwrap();
        pair.check(|_| Ok(true)).unwrap();
    }

    #[test]
    fn shared_files_have_no_categories() {
        let label: Label = "u:object_r:f:s0:c1,c2".parse().unwrap();
        assert_eq!(label.shared().to_string(), "u:object_r:f:s0");
        assert_eq!(
            label.as_options(),
            ["label=user:u", "label=role:object_r", "label=type:f", "label=level:s0:c1,c2"]
        );
    }
}
