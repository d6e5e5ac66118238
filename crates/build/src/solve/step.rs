//! One step: configuration, folder, command or files; cache first, then work, then an image.

use super::{Failure, stage::Stage};
use crate::{
    copy,
    dockerfile::Step,
    draft::{Run, Work},
    go,
    graph::Op,
    host::{CacheKey, Commit, Container as _, Exec, Host, Layer, Workspace as _},
};
use base::{Error, ImageId, Result, Timestamp};
use image::{
    RunConfig,
    config::{Healthcheck, History},
    edit::shell,
};
use serde_json::Value;
use std::path::PathBuf;

/// `value` as JSON.
pub(super) fn json(value: &RunConfig) -> Value {
    serde_json::to_value(value).expect("a configuration is always valid JSON")
}

impl<H: Host> Stage<'_, H> {
    /// Does one step.
    pub(super) async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        self.name_parent();
        let work = step.instruction.apply(&mut self.draft)?;
        for note in std::mem::take(&mut self.draft.notes) {
            self.output.text(format!("{note}\n")).await;
        }
        match work {
            Work::Config { comment } => self.config(&comment).await.map_err(Failure::from),
            Work::WorkDir => self.workdir().await.map_err(Failure::from),
            Work::Run(run) => self.run(run).await,
            Work::Copy(copy) => self.copy(copy).await.map_err(Failure::from),
        }
    }

    /// `Config.Image` names the image that the step starts from.
    fn name_parent(&mut self) {
        let parent = self.image.id.as_ref().map_or(String::new(), ImageId::to_string);
        self.draft.config.rest.insert("Image".into(), parent.into());
    }

    /// The configuration that an image of this step gets.
    pub(super) fn recordable(&self) -> RunConfig {
        self.draft.config.clone()
    }

    /// The configuration as it stands for the step: its command tells what the step does.
    pub(super) fn recorded(&self, command: Vec<String>) -> RunConfig {
        RunConfig { cmd: Some(command), ..self.draft.config.clone() }
    }

    async fn config(&mut self, comment: &str) -> Result<()> {
        let mut command = shell(&self.draft.config);
        command.extend(["#(nop) ".to_owned(), comment.to_owned()]);
        let recorded = self.recorded(command);
        let key = self.key(&Op::Config { input: self.input(), config: recorded.clone() });
        if self.hit(&key, &recorded).await? {
            return Ok(());
        }
        let container = passing_id();
        self.output.running(&container).await;
        self.commit(key, &recorded, None).await?;
        self.removed(&container).await;
        Ok(())
    }

    async fn workdir(&mut self) -> Result<()> {
        let path = self.draft.config.working_dir.clone();
        let mut command = shell(&self.draft.config);
        command.push(format!("#(nop) WORKDIR {path}"));
        let recorded = self.recorded(command);
        let key = self.key(&Op::File { input: self.input(), config: recorded.clone() });
        if self.hit(&key, &recorded).await? {
            return Ok(());
        }
        let workspace = self.build.host.workspace(self.image.id.as_ref()).await?;
        let made = workspace.root().mkdir_all(&path, 0o755, Some((0, 0))).map_err(|e| {
            let cause: std::io::Error = e.into();
            if cause.kind() == std::io::ErrorKind::NotADirectory {
                return Error::invalid(format!("Cannot mkdir: {path} is not a directory"));
            }
            Error::io(format!("cannot create {path}"), cause)
        })?;
        let container = passing_id();
        self.output.running(&container).await;
        let layer = if made.is_empty() { None } else { workspace.commit().await? };
        self.commit(key, &recorded, layer).await?;
        self.removed(&container).await;
        Ok(())
    }

    async fn run(&mut self, run: Run) -> Result<(), Failure> {
        if self.image.id.is_none() {
            let program = run.command.first().map_or("", String::as_str);
            return Err(Error::invalid(format!(
                "there is nothing to run in an empty image: exec: {}: no such file or directory",
                go::quote(program)
            ))
            .into());
        }
        let mut command = self.draft.args.prefix(&self.draft.config.env);
        command.extend(run.command.iter().cloned());
        let recorded = RunConfig { entrypoint: None, ..self.recorded(command) };
        let key = self.key(&Op::Exec {
            input: self.input(),
            config: with_script(&recorded, &run),
            mounts: Vec::new(),
        });
        if self.hit(&key, &recorded).await? {
            return Ok(());
        }
        let env = self.draft.args.beside(&self.draft.config.env);
        let mut config = self.recorded(run.command.clone());
        config.env.extend(env.iter().map(|(name, value)| format!("{name}={value}")));
        // An entrypoint of one empty word: the image's own does not count.
        config.entrypoint = Some(vec![String::new()]);
        config.healthcheck =
            Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
        let script = self.script(&run)?;
        let exec = Exec { image: self.image.id.clone(), config, script };
        let mut container = self.build.host.container(exec).await?;
        for warning in container.warnings().to_vec() {
            self.output.text(format!(" ---> [Warning] {warning}\n")).await;
        }
        let id = container.id().to_owned();
        self.output.running(&id).await;
        let done = self.finish(&mut container, &run, key, &recorded).await;
        let options = &self.build.options;
        if options.force_rm || (options.rm && done.is_ok()) {
            match container.remove().await {
                Ok(()) => self.output.removed(&id).await,
                Err(err) => {
                    let short = &id[..12.min(id.len())];
                    let text =
                        format!("Error removing intermediate container {short}: {}\n", err.chain());
                    self.output.text(text).await;
                }
            }
        } else {
            container.keep();
        }
        done
    }

    async fn finish(
        &mut self,
        container: &mut H::Container,
        run: &Run,
        key: CacheKey,
        recorded: &RunConfig,
    ) -> Result<(), Failure> {
        let code = container.run(self.output).await?;
        if code != 0 {
            let command = run.command.join(" ");
            let error =
                Error::invalid(format!("The command '{command}' returned a non-zero code: {code}"));
            return Err(Failure { error, code: Some(code) });
        }
        let layer = container.commit().await?;
        self.commit(key, recorded, layer).await.map_err(Failure::from)
    }

    /// Puts a here-document that is a script where the container can see it.
    fn script(&self, run: &Run) -> Result<Option<(String, PathBuf)>> {
        use std::os::unix::fs::PermissionsExt as _;
        let Some((name, content)) = &run.script else { return Ok(None) };
        let folder = self.build.host.scratch().join(format!("script-{}", passing_id()));
        let path = folder.join(name);
        let fail = |e| Error::io(format!("cannot write the script {name}"), e);
        std::fs::create_dir_all(&folder).map_err(fail)?;
        std::fs::write(&path, content).map_err(fail)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        Ok(Some((name.clone(), path)))
    }

    /// Makes the image of the step; the stage goes on from it.
    pub(super) async fn commit(
        &mut self,
        key: CacheKey,
        recorded: &RunConfig,
        layer: Option<Layer>,
    ) -> Result<()> {
        let mut config = self.image.config.clone();
        config.config = self.recordable();
        if !self.draft.author.is_empty() {
            config.author.clone_from(&self.draft.author);
        }
        config.comment.clear();
        config.docker_version.clone_from(&self.build.options.version);
        config.rest.remove("container");
        config.rest.remove("parent");
        config.rest.insert("container_config".into(), json(recorded));
        let history = History {
            created: Some(Timestamp::now()),
            author: self.draft.author.clone(),
            created_by: recorded.cmd.clone().unwrap_or_default().join(" "),
            ..History::default()
        };
        config.push(history, layer.as_ref().map(|l| l.diff_id.clone()));
        let commit = Commit {
            parent: self.image.id.clone(),
            config,
            layer,
            layers_of: None,
            key: Some(key),
        };
        self.image = self.build.host.commit(commit).await?;
        Ok(())
    }

    async fn removed(&self, container: &str) {
        if self.build.options.rm || self.build.options.force_rm {
            self.output.removed(container).await;
        }
    }
}

/// What a script contains counts for the cache, though the command only names it.
fn with_script(recorded: &RunConfig, run: &Run) -> RunConfig {
    let mut config = recorded.clone();
    if let (Some((_, content)), Some(command)) = (&run.script, &mut config.cmd) {
        command.push(content.clone());
    }
    config
}

/// Runs blocking work on files where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(err) => Err(Error::internal("a step of the build ended early").caused_by(err)),
    }
}

/// The file operations of a copy: see [`copy`].
pub(super) type Found = copy::Found;
/// The id of a container that is over before it began: steps that change only configuration need none, but
/// clients expect to read of one.
pub(super) fn passing_id() -> String {
    base::ContainerId::random().to_string()
}
