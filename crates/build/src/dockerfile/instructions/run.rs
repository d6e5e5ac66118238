//! `RUN <command>`: runs a command and keeps what it changed. Shell, exec and here-document forms.

use super::{Form, Instruction, Parsed, Raw, Syntax, command, step};
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
}

fn parse(raw: Raw<'_>) -> Result<Parsed> {
    if let Some(flag) = raw.flags.any_of(BUILDKIT_FLAGS) {
        return Err(Error::invalid(format!(
            "the --{flag} option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled"
        )));
    }
    raw.flags.end()?;
    let command = command(raw.rest)?;
    let Command::Shell(text) = &command else {
        return Ok(step(RunCommand { command, script: None }));
    };
    let Some(first) = raw.heredocs.first() else {
        return Ok(step(RunCommand { command, script: None }));
    };
    if heredoc::opening(text).is_none() {
        // The shell reads the here-documents itself: they go back behind the line.
        let mut full = text.clone();
        for heredoc in raw.heredocs {
            full.push('\n');
            full.push_str(&heredoc.content);
            full.push_str(&heredoc.name);
        }
        return Ok(step(RunCommand { command: Command::Shell(full), script: None }));
    }
    let content = first.chomped();
    if content.starts_with("#!") {
        let script = Heredoc { content, ..first.clone() };
        return Ok(step(RunCommand { command, script: Some(script) }));
    }
    Ok(step(RunCommand { command: Command::Shell(content), script: None }))
}

impl Instruction for RunCommand {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        if let Some(script) = &self.script {
            let name = script.name.replace('/', "_");
            let run = Run {
                command: vec![format!("/dev/pipes/{name}")],
                script: Some((name, script.content.clone())),
            };
            return Ok(Work::Run(run));
        }
        let command = match &self.command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => draft.shell().into_iter().chain([text.clone()]).collect(),
        };
        Ok(Work::Run(Run { command, script: None }))
    }
}
