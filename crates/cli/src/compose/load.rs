//! From options and files to a project.

use super::Compose;
use crate::error::{Fail, Result};
use compose::Options;
use std::{collections::BTreeMap, io::Write};

impl From<compose::Error> for Fail {
    fn from(err: compose::Error) -> Self {
        Self::new(err.to_string())
    }
}

impl Compose<'_> {
    /// What the files are looked for by.
    pub(crate) fn options(&self) -> Result<Options> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let mut env_files = self.global.list("env-file").to_vec();
        if env_files.is_empty()
            && let Some(listed) = environment.get("COMPOSE_ENV_FILES")
        {
            env_files = listed.split(',').filter(|f| !f.is_empty()).map(str::to_owned).collect();
        }
        Ok(Options {
            files: self.global.list("file").to_vec(),
            name: self.global.text("project-name").map(str::to_owned),
            directory: self.global.text("project-directory").map(str::to_owned),
            env_files,
            profiles: self.global.list("profile").to_vec(),
            here: std::env::current_dir()?,
            environment,
            compatibility: self.global.is("compatibility"),
            ..Options::default()
        })
    }

    /// Says what the user should know.
    pub(crate) fn warn(&mut self, warnings: &[String]) -> Result<()> {
        for warning in warnings {
            writeln!(self.ui.err, "WARN: {warning}")?;
        }
        Ok(())
    }
}
