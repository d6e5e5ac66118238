//! Pure edits of an image's run configuration: what the Dockerfile instructions without files do, shared
//! by builds, `commit --change` and `import --change`.
//!
//! A [`Change`] is an instruction whose words are read and expanded; [`Editor`] applies a row of them.
//! Source: Docker's Dockerfile reference; texts of errors as its classic builder gives them.

use crate::config::{Empty, Healthcheck, RunConfig};
use base::{Error, Result, signal};

/// A command: shell text, or words as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run by the image's shell.
    Shell(String),
    /// Run as it is.
    Exec(Vec<String>),
}

/// One edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `ENV`
    Env(Vec<(String, String)>),
    /// `EXPOSE`, as written: `80`, `80/udp`, `8000-8010/tcp`.
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<(String, String)>),
    /// `ONBUILD`, the text of the instruction.
    OnBuild(String),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    WorkDir(String),
}

/// Applies changes in order. It remembers whether `CMD` was given, because `ENTRYPOINT` drops the `CMD`
/// of a base image but not one given before it.
#[derive(Clone, Debug, Default)]
pub struct Editor {
    cmd_given: bool,
}

impl Editor {
    /// A new row of changes (a build stage, or one `--change` list).
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one change.
    ///
    /// # Errors
    /// `Invalid` with docker's wording; `config` is then unchanged.
    pub fn apply(&mut self, config: &mut RunConfig, change: &Change) -> Result<()> {
        match change {
            Change::Cmd(command) => {
                config.cmd = Some(words(config, command));
                config.args_escaped = false;
                self.cmd_given = true;
            }
            Change::Entrypoint(command) => {
                config.entrypoint = Some(words(config, command)).filter(|w| !w.is_empty());
                if !self.cmd_given {
                    config.cmd = None;
                }
            }
            Change::Env(pairs) => {
                pairs.iter().for_each(|(name, value)| set_env(&mut config.env, name, value));
            }
            Change::Expose(specs) => {
                let ports: Vec<String> =
                    specs.iter().map(|s| ports(s)).collect::<Result<Vec<_>>>()?.concat();
                config.exposed_ports.extend(ports.into_iter().map(|p| (p, Empty {})));
            }
            Change::Healthcheck(check) => config.healthcheck = Some(check.clone()),
            Change::Label(pairs) => config.labels.extend(pairs.iter().cloned()),
            Change::OnBuild(text) => config.on_build.push(trigger(text)?),
            Change::Shell(shell) => config.shell = Some(shell.clone()),
            Change::StopSignal(name) => {
                signal::parse(name)
                    .map_err(|_| Error::invalid(format!("Invalid signal: {name}")))?;
                config.stop_signal.clone_from(name);
            }
            Change::User(user) => config.user.clone_from(user),
            Change::Volume(paths) => {
                if paths.iter().any(|p| p.trim().is_empty()) {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.extend(paths.iter().map(|p| (p.clone(), Empty {})));
            }
            Change::WorkDir(path) => {
                if path.is_empty() {
                    return Err(Error::invalid("cannot normalize nothing"));
                }
                config.working_dir = join(&config.working_dir, path);
            }
        }
        Ok(())
    }
}

/// The shell that shell forms run in.
pub fn shell(config: &RunConfig) -> Vec<String> {
    config
        .shell
        .clone()
        .filter(|s| !s.is_empty())
        .unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
}

/// The words that `command` runs.
pub fn words(config: &RunConfig, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(text) => {
            let mut words = shell(config);
            words.push(text.clone());
            words
        }
    }
}

/// Sets one variable, keeping the place of one that is there.
pub fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|e| e.split('=').next() == Some(name)) {
        Some(found) => *found = entry,
        None => env.push(entry),
    }
}

/// The value of a variable.
pub fn get_env<'e>(env: &'e [String], name: &str) -> Option<&'e str> {
    env.iter().find_map(|e| e.split_once('=').filter(|(n, _)| *n == name).map(|(_, v)| v))
}

/// `base` joined with `path`, without `.`, `..` and doubled slashes; always absolute.
pub fn join(base: &str, path: &str) -> String {
    let start = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Expands `8000-8002/udp` to `8000/udp`, `8001/udp`, `8002/udp`.
///
/// # Errors
/// `Invalid` for anything that is no container port.
pub fn ports(spec: &str) -> Result<Vec<String>> {
    let bad = || Error::invalid(format!("invalid containerPort: {spec}"));
    let (range, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    // A host part as in `-p` is accepted and ignored, as Docker does.
    let range = range.rsplit(':').next().unwrap_or(range);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    let number = |text: &str| -> Result<u16> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        text.parse().map_err(|_| bad())
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(range)?, number(range)?),
    };
    if last < first {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn trigger(text: &str) -> Result<String> {
    let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "" => Err(Error::invalid("ONBUILD requires at least one argument")),
        "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "FROM" | "MAINTAINER" => {
            Err(Error::invalid(format!("{word} isn't allowed as an ONBUILD trigger")))
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(base: RunConfig, changes: &[Change]) -> RunConfig {
        let mut config = base;
        let mut editor = Editor::new();
        changes.iter().for_each(|c| editor.apply(&mut config, c).unwrap());
        config
    }

    #[test]
    fn entrypoint_drops_an_inherited_cmd_only() {
        let base = RunConfig { cmd: Some(vec!["x".into()]), ..RunConfig::default() };
        let entry = Change::Entrypoint(Command::Exec(vec!["/e".into()]));
        assert_eq!(edited(base.clone(), std::slice::from_ref(&entry)).cmd, None);
        let cmd = Change::Cmd(Command::Shell("echo a".into()));
        let both = edited(base, &[cmd, entry]);
        assert_eq!(both.cmd.unwrap(), ["/bin/sh", "-c", "echo a"]);
        assert_eq!(both.entrypoint.unwrap(), ["/e"]);
    }

    #[test]
    fn edits_do_what_the_instructions_say() {
        let config = edited(
            RunConfig { env: vec!["A=1".into(), "B=2".into()], ..RunConfig::default() },
            &[
                Change::Env(vec![("A".into(), "3".into()), ("C".into(), "x=y".into())]),
                Change::Expose(vec!["80".into(), "53-54/udp".into()]),
                Change::WorkDir("/a".into()),
                Change::WorkDir("b/../c/".into()),
                Change::Volume(vec!["/v".into()]),
                Change::Shell(vec!["/bin/ash".into(), "-ec".into()]),
                Change::Cmd(Command::Shell("x".into())),
            ],
        );
        assert_eq!(config.env, ["A=3", "B=2", "C=x=y"]);
        assert_eq!(get_env(&config.env, "C"), Some("x=y"));
        assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "54/udp", "80/tcp"]);
        assert_eq!(config.working_dir, "/a/c");
        assert_eq!(config.cmd.unwrap(), ["/bin/ash", "-ec", "x"]);
    }

    #[test]
    fn wrong_edits_are_refused() {
        let mut config = RunConfig::default();
        for bad in [
            Change::Expose(vec!["x".into()]),
            Change::Expose(vec!["90-80".into()]),
            Change::Expose(vec!["70000".into()]),
            Change::Expose(vec!["80/icmp".into()]),
            Change::StopSignal("SIGNOPE".into()),
            Change::Volume(vec![" ".into()]),
            Change::OnBuild("ONBUILD RUN x".into()),
            Change::OnBuild("from x".into()),
        ] {
            assert!(Editor::new().apply(&mut config, &bad).is_err(), "{bad:?}");
        }
        assert_eq!(config, RunConfig::default());
    }
}
