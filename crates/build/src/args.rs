//! Build arguments: what `ARG` declares, what the caller gives, what a `RUN` sees.
//!
//! Rules (Dockerfile reference, `ARG`): a value from the caller beats the default; a stage sees only what it
//! declares itself; an `ARG` without default takes the value of the global one of its name; proxy variables
//! need no declaration and, undeclared, do not count for the cache.

use base::Platform;
use std::collections::{BTreeMap, BTreeSet};

/// Arguments that are always allowed.
const PROXIES: &[&str] = &[
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments as one stage sees them.
#[derive(Clone, Debug, Default)]
pub struct BuildArgs {
    given: BTreeMap<String, Option<String>>,
    global: BTreeMap<String, Option<String>>,
    declared: BTreeMap<String, Option<String>>,
}

impl BuildArgs {
    /// Arguments as the caller gives them; a name without value only says that it was mentioned.
    pub fn new(given: BTreeMap<String, Option<String>>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Lets the platform arguments (`TARGETARCH`, `BUILDPLATFORM`, ...) stand as global defaults.
    pub fn describe(&mut self, build: &Platform, target: &Platform) {
        for (prefix, platform) in [("BUILD", build), ("TARGET", target)] {
            let all = [
                ("PLATFORM", platform.to_string()),
                ("OS", platform.os.clone()),
                ("ARCH", platform.architecture.clone()),
                ("VARIANT", platform.variant.clone()),
            ];
            for (name, value) in all {
                self.global.insert(format!("{prefix}{name}"), Some(value));
            }
        }
    }

    /// Lets these stand as global defaults too.
    pub fn predefine(&mut self, all: BTreeMap<String, String>) {
        self.global.extend(all.into_iter().map(|(name, value)| (name, Some(value))));
    }

    /// An `ARG` before the first `FROM`.
    pub fn declare_global(&mut self, name: &str, default: Option<String>) {
        // A bare `ARG TARGETARCH` keeps the value that is there by itself.
        if default.is_some() || !self.global.contains_key(name) {
            self.global.insert(name.to_owned(), default.clone());
        }
        self.declare(name, default);
    }

    /// An `ARG` in a stage.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        self.declared.insert(name.to_owned(), default);
    }

    /// The same arguments at the start of a stage: nothing declared.
    #[must_use]
    pub fn stage(&self) -> Self {
        Self { declared: BTreeMap::new(), ..self.clone() }
    }

    /// Names that were declared here.
    pub fn declared(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().map(String::as_str)
    }

    fn value(&self, name: &str, defaults: &BTreeMap<String, Option<String>>) -> Option<String> {
        let given = self.given.get(name).cloned().flatten();
        let own = || defaults.get(name).cloned().flatten();
        let global = || self.global.get(name).cloned().flatten();
        given.or_else(own).or_else(global)
    }

    fn all(&self, defaults: &BTreeMap<String, Option<String>>) -> Vec<(String, String)> {
        let names: BTreeSet<&str> =
            defaults.keys().map(String::as_str).chain(PROXIES.iter().copied()).collect();
        names
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.value(name, defaults)?)))
            .collect()
    }

    /// What `FROM` expands from.
    pub fn globals(&self) -> Vec<(String, String)> {
        self.all(&self.global)
    }

    /// What instructions expand from, apart from `ENV`.
    pub fn allowed(&self) -> Vec<(String, String)> {
        self.all(&self.declared)
    }

    /// Allowed arguments that no variable of `env` hides.
    pub fn beside(&self, env: &[String]) -> Vec<(String, String)> {
        let hidden = |name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
        self.allowed().into_iter().filter(|(name, _)| !hidden(name)).collect()
    }

    /// `|2 A=1 B=2`: how the arguments of a `RUN` stand before its command for the cache; nothing when there
    /// are none.
    pub fn prefix(&self, env: &[String]) -> Vec<String> {
        let beside = self.beside(env);
        if beside.is_empty() {
            return Vec::new();
        }
        let counts = |name: &str| self.declared.contains_key(name) || !PROXIES.contains(&name);
        let mut shown: Vec<String> =
            beside.iter().filter(|(n, _)| counts(n)).map(|(n, v)| format!("{n}={v}")).collect();
        shown.sort();
        let mut prefix = vec![format!("|{}", shown.len())];
        prefix.extend(shown);
        prefix
    }

    /// Names that the caller gave and nobody in `declared` asked for.
    pub fn unused(&self, declared: &BTreeSet<String>) -> Vec<&str> {
        let used = |name: &str| declared.contains(name) || PROXIES.contains(&name);
        self.given.keys().map(String::as_str).filter(|name| !used(name)).collect()
    }

    /// Names that the caller gave: what a build record may say of them without telling secrets.
    pub fn given_names(&self) -> Vec<String> {
        self.given.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> BuildArgs {
        BuildArgs::new(
            pairs.iter().map(|(n, v)| ((*n).to_owned(), Some((*v).to_owned()))).collect(),
        )
    }

    #[test]
    fn a_stage_sees_what_it_declares() {
        let mut args = given(&[("A", "given"), ("X", "1")]);
        args.declare_global("G", Some("global".into()));
        let mut stage = args.stage();
        assert!(stage.allowed().is_empty());
        stage.declare("A", Some("default".into()));
        stage.declare("G", None);
        stage.declare("N", None);
        let seen: Vec<String> = stage.allowed().iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(seen, ["A=given", "G=global"]);
        assert_eq!(stage.prefix(&["G=env".into()]), ["|1", "A=given"]);
        let declared = stage.declared().map(str::to_owned).collect();
        assert_eq!(stage.unused(&declared), ["X"]);
    }

    #[test]
    fn proxies_need_no_declaration_and_do_not_count() {
        let mut args = given(&[("HTTP_PROXY", "p")]);
        assert_eq!(args.beside(&[]).len(), 1);
        assert_eq!(args.prefix(&[]), ["|0"]);
        assert!(args.unused(&BTreeSet::new()).is_empty());
        args.declare("HTTP_PROXY", None);
        assert_eq!(args.prefix(&[]), ["|1", "HTTP_PROXY=p"]);
    }
}
