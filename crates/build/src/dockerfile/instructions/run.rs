//! `RUN <command>`: runs a command and keeps what it changed. Shell, exec and here-document forms.

use super::{Dialect, Form, Instruction, Parsed, Raw, Syntax, command, step};
use crate::{
    dockerfile::{Heredoc, heredoc},
    draft::{Draft, Run, Work},
};
use base::{Error, Result};
use image::edit::Command;

pub(super) static RUN: Syntax = Syntax { name: "RUN", heredocs: true, form: Form::Json, parse };

/// Flags of BuildKit's front end, which the classic builder refuses by name.
const BUILDKIT_FLAGS: &[&str] = &["mount", "network", "security", "device"];

#[derive(Debug)]
struct RunCommand {
    command: Command,
    script: Option<Heredoc>,
    options: Options,
}

/// What only BuildKit knows.
#[derive(Clone, Debug, Default)]
struct Options {
    mounts: Vec<String>,
    network: Option<String>,
    security: Option<String>,
    devices: Vec<String>,
}

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let mut options = Options::default();
    if raw.dialect == Dialect::BuildKit {
        options = Options {
            mounts: raw.flags.all("mount")?,
            network: raw.flags.text("network")?,
            security: raw.flags.text("security")?,
            devices: raw.flags.all("device")?,
        };
    } else if let Some(flag) = raw.flags.any_of(BUILDKIT_FLAGS) {
        return Err(Error::invalid(format!(
            "the --{flag} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
        )));
    }
    raw.flags.end()?;
    let command = command(raw.rest)?;
    let Command::Shell(text) = &command else {
        return Ok(step(RunCommand { command, script: None, options }));
    };
    let Some(first) = raw.heredocs.first() else {
        return Ok(step(RunCommand { command, script: None, options }));
    };
    if heredoc::opening(text).is_none() {
        // The shell reads the here-documents itself: they go back behind the line.
        let mut full = text.clone();
        for heredoc in raw.heredocs {
            full.push('\n');
            full.push_str(&heredoc.content);
            full.push_str(&heredoc.name);
        }
        return Ok(step(RunCommand { command: Command::Shell(full), script: None, options }));
    }
    let content = first.chomped();
    if content.starts_with("#!") {
        let script = Heredoc { content, ..first.clone() };
        return Ok(step(RunCommand { command, script: Some(script), options }));
    }
    Ok(step(RunCommand { command: Command::Shell(content), script: None, options }))
}

impl Instruction for RunCommand {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let run = Run {
            mounts: draft.each(&self.options.mounts)?,
            network: self.options.network.clone(),
            security: self.options.security.clone(),
            devices: self.options.devices.clone(),
            ..Run::default()
        };
        if let Some(script) = &self.script {
            let name = script.name.replace('/', "_");
            let run = Run {
                command: vec![format!("/dev/pipes/{name}")],
                script: Some((name, script.content.clone())),
                ..run
            };
            return Ok(Work::Run(run));
        }
        let command = match &self.command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => draft.shell().into_iter().chain([text.clone()]).collect(),
        };
        Ok(Work::Run(Run { command, ..run }))
    }

    fn sources(&self) -> Vec<String> {
        let parts = self.options.mounts.iter().flat_map(|mount| mount.split(','));
        parts.filter_map(|part| part.strip_prefix("from=")).map(str::to_owned).collect()
    }
}
