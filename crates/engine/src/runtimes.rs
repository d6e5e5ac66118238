//! Which runtime carries a container out: the own one by Docker's names for its default, others by the names
//! that the administrator gave them, or by an absolute path.
//!
//! Source: Docker's `daemon/runtime_unix.go` (names, texts). Docker itself takes no path in `--runtime`.
//! Not here: calling them (crate `shim`).

use crate::Engine;
use base::{Error, Result};
use runtime::shim::OciRuntime;
use std::collections::BTreeMap;

/// Names of the own runtime.
const OWN: [&str; 3] = ["gantry", "io.containerd.runc.v2", "runc"];
/// Docker's name for what runs a container when nothing else is said.
pub const STOCK: &str = "runc";

/// Another OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Its program: a path, or a name that is looked for in the usual folders.
    pub path: String,
    /// Arguments before all others.
    pub args: Vec<String>,
}

/// The runtimes that containers may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtimes {
    default: String,
    named: BTreeMap<String, Runtime>,
}

impl Runtimes {
    /// `named` beside the own one; `default` (empty: the own one) is what a container gets that asks for none.
    ///
    /// # Errors
    /// `Invalid` for a name that is taken and a default that is not there.
    pub fn new(default: &str, named: BTreeMap<String, Runtime>) -> Result<Self> {
        if let Some(name) = named.keys().find(|n| OWN.contains(&n.as_str())) {
            return Err(Error::invalid(format!("runtime name '{name}' is reserved")));
        }
        if let Some(name) = named.keys().find(|n| n.is_empty() || n.contains('/')) {
            return Err(Error::invalid(format!("invalid runtime name: {name:?}")));
        }
        let default = if default.is_empty() { STOCK } else { default };
        if !OWN.contains(&default) && !named.contains_key(default) {
            return Err(Error::invalid(format!(
                "specified default runtime '{default}' does not exist"
            )));
        }
        Ok(Self { default: default.to_owned(), named })
    }

    /// What a container gets that asks for none.
    pub fn default_name(&self) -> &str {
        if self.default.is_empty() { STOCK } else { &self.default }
    }

    /// Names and programs of the other runtimes.
    pub fn named(&self) -> &BTreeMap<String, Runtime> {
        &self.named
    }

    /// All names.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            OWN.iter().map(|n| (*n).to_owned()).chain(self.named.keys().cloned()).collect();
        names.sort();
        names
    }

    /// Names of the own runtime.
    pub fn own() -> [&'static str; 3] {
        OWN
    }

    /// The runtime that `name` means; `None` is the own one.
    ///
    /// # Errors
    /// `Invalid` for a name that nobody has.
    pub fn find(&self, name: &str) -> Result<Option<Runtime>> {
        let name = if name.is_empty() { self.default_name() } else { name };
        if OWN.contains(&name) {
            return Ok(None);
        }
        if let Some(runtime) = self.named.get(name) {
            return Ok(Some(runtime.clone()));
        }
        if name.starts_with('/') && !name.contains('\0') {
            return Ok(Some(Runtime { path: name.to_owned(), args: Vec::new() }));
        }
        Err(Error::invalid(format!("unknown or invalid runtime name: {name}")))
    }
}

/// Whether `name` means the own runtime.
pub(crate) fn is_own(name: &str) -> bool {
    name.is_empty() || OWN.contains(&name)
}

impl Engine {
    /// What the shim is told of a container's runtime when it is not the own one.
    pub(crate) fn other_runtime(
        &self,
        record: &crate::containers::Record,
    ) -> Result<Option<OciRuntime>> {
        // Steps of BuildKit's builds need what only the own runtime has.
        if record.hidden {
            return Ok(None);
        }
        let Some(runtime) = self.reloadable().runtimes.find(&record.host.runtime)? else {
            return Ok(None);
        };
        Ok(Some(OciRuntime {
            program: runtime.path,
            args: runtime.args,
            init: self.config.shim.clone(),
            seccomp: crate::containers::seccomp_section(record, self)?,
            annotations: record.host.annotations.clone().unwrap_or_default().into_iter().collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> BTreeMap<String, Runtime> {
        let runtime = |n: &&str| Runtime { path: format!("/bin/{n}"), args: Vec::new() };
        names.iter().map(|n| ((*n).to_owned(), runtime(n))).collect()
    }

    #[test]
    fn names_are_found_as_docker_finds_them() {
        let runtimes = Runtimes::new("crun", named(&["crun"])).unwrap();
        for own in ["runc", "gantry", "io.containerd.runc.v2"] {
            assert_eq!(runtimes.find(own).unwrap(), None);
        }
        assert_eq!(runtimes.find("").unwrap().unwrap().path, "/bin/crun");
        assert_eq!(runtimes.find("/x/youki").unwrap().unwrap().path, "/x/youki");
        let unknown = runtimes.find("youki").unwrap_err().chain();
        assert_eq!(unknown, "unknown or invalid runtime name: youki");
        assert_eq!(Runtimes::default().find("").unwrap(), None);
        assert_eq!(Runtimes::default().default_name(), "runc");
    }

    #[test]
    fn bad_settings_are_refused_in_dockers_words() {
        let refused = |default: &str, names: &[&str]| {
            Runtimes::new(default, named(names)).unwrap_err().chain()
        };
        assert_eq!(refused("", &["runc"]), "runtime name 'runc' is reserved");
        assert_eq!(refused("x", &["y"]), "specified default runtime 'x' does not exist");
        assert_eq!(refused("", &["a/b"]), "invalid runtime name: \"a/b\"");
    }
}
