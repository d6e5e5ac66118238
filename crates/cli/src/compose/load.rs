//! From options and files to a project.

use super::Compose;
use crate::error::{Fail, Result};
use compose::{Dependencies, KeepFiles, Options, Project};
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

    /// The project with these services and what they need, for commands that change something.
    pub(crate) fn project(&mut self, services: &[String]) -> Result<Project> {
        let mut project = self.bare_project(services)?;
        project.resolve_env_files()?;
        let warnings = std::mem::take(&mut project.warnings);
        self.warn(&warnings)?;
        Ok(project)
    }

    /// The same without the variables of `env_file`s, which need not be there to look at containers or remove them.
    fn bare_project(&mut self, services: &[String]) -> Result<Project> {
        let mut project = Project::load(&self.options()?)?;
        project.resolve_label_files(KeepFiles::Yes)?;
        project.enable(services);
        project.select(services, Dependencies::Follow)?;
        if !self.global.is("all-resources") {
            project.drop_unused();
        }
        Ok(project)
    }

    /// The project, where there are files, and its name in any case.
    pub(crate) fn project_or_name(
        &mut self,
        services: &[String],
    ) -> Result<(Option<Project>, String)> {
        let given = self.global.text("project-name").map(str::to_owned).filter(|n| !n.is_empty());
        if let Some(name) = &given
            && self.global.list("file").is_empty()
        {
            return Ok((None, name.clone()));
        }
        match self.bare_project(services) {
            Ok(mut project) => {
                let warnings = std::mem::take(&mut project.warnings);
                self.warn(&warnings)?;
                let name = project.name.clone();
                Ok((Some(project), name))
            }
            Err(fail) => match std::env::var("COMPOSE_PROJECT_NAME") {
                Ok(name) if !name.is_empty() => Ok((None, name)),
                _ => Err(fail),
            },
        }
    }
}
