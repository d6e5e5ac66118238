//! The Compose specification: files into a project, and a project into what an engine is asked for.
//!
//! Flow: [`Options`] find the files; [`Project::load`] reads them into trees whose values know their place (`yaml`),
//! completes variables (`template`, `dotenv`), extends, includes and merges (`load`, `extends`, `merge`, `unique`),
//! holds the result to the tables of the specification (`tables`, `validate`), brings it into its long form
//! (`canonical`, `normal`) and checks that it fits together (`check`).
//! Invariants: a mistake is told with file, line and what to do; every size, depth and chain is bounded; what is
//! printed and hashed is byte for byte what docker compose 2.40.3 prints and hashes.
//! Source: the Compose specification (compose-spec.io); docker compose 2.40.3 where it is silent.
//! Not here: the engine (that is `cli`'s), files from git or OCI registries, providers and models.

mod canonical;
mod check;
mod container;
mod decode;
mod dotenv;
mod error;
mod extends;
mod files;
mod hash;
pub mod labels;
mod load;
mod merge;
mod node;
mod normal;
mod plan;
mod project;
mod render;
mod scalar;
mod shape;
mod short;
mod tables;
mod template;
mod unique;
mod validate;
mod value;
mod view;
mod yaml;

pub use container::{Asked, Body, Injected, Service};
pub use error::{At, Error, Result};
pub use files::Options;
pub use plan::{
    Action, Fate, Look, Observed, Recreate, Request, Step, converge, is_regular, name_of, number_of,
};
pub use project::{Dependencies, KeepFiles, Model, Project};
pub use template::Variable;
pub use view::{
    Aliases, Build, Condition, Hook, Moment, Need, OneOff, OnlyBuilds, Pull, Trigger, words,
};

impl Project {
    /// Hashes of these services by name, of all when there are no names.
    ///
    /// # Errors
    /// A name that is no service.
    pub fn hashes(&self, names: &[String]) -> Result<Vec<(String, String)>> {
        let mut names = if names.is_empty() { self.service_names() } else { names.to_vec() };
        names.sort();
        names.into_iter().map(|n| Ok((n.clone(), hash::service(self.service(&n)?)))).collect()
    }

    /// Checks that no two services want one container name.
    ///
    /// # Errors
    /// The second one that does.
    pub fn check_container_names(&self) -> Result<()> {
        check::container_names(&self.services)
    }
}
