//! The command line, as runc's: options before the command, options of the command before its arguments.
//!
//! `--name value`, `--name=value`, `-n value`, one dash for long names too, as Go's programs take them.

use super::commands::{self, Command};
use crate::container::Step;
use runtime::shim::StartError;

/// Options before the command that take a value, and that take none.
const GLOBAL: (&[&str], &[&str]) = (
    &["root", "log", "log-format", "rootless", "criu"],
    &["debug", "systemd-cgroup", "version|v", "help|h"],
);

/// What a call gives.
#[derive(Debug, Default)]
pub(super) struct Given {
    options: Vec<(&'static str, String)>,
    /// What follows the options.
    pub(super) rest: Vec<String>,
}

impl Given {
    /// Reads the arguments of `command`.
    pub(super) fn parse(command: &Command, args: &[String]) -> Step<Self> {
        let (given, rest) = options(command.values, command.switches, args)?;
        Ok(Self { rest: rest.to_vec(), ..given })
    }

    /// Whether a switch was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().rev().find(|(n, _)| *n == name).is_some_and(|(_, v)| v != "false")
    }

    /// The last value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().rev().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of an option.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        self.options.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.clone()).collect()
    }

    /// A number.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Step<Option<N>> {
        let Some(text) = self.value(name) else { return Ok(None) };
        let bad = || StartError::setup(format!("invalid value {text:?} for flag -{name}"));
        text.parse().map(Some).map_err(|_| bad())
    }

    /// The container's id: the first argument.
    pub(super) fn id(&self) -> Step<&str> {
        match self.rest.first() {
            Some(id) => Ok(id),
            None => Err(StartError::setup("container id cannot be empty")),
        }
    }
}

/// Options before the command, and the rest.
pub(super) fn global(args: &[String]) -> Step<(Given, &[String])> {
    options(GLOBAL.0, GLOBAL.1, args)
}

fn options<'a>(
    values: &'static [&'static str],
    switches: &'static [&'static str],
    mut args: &'a [String],
) -> Step<(Given, &'a [String])> {
    let mut given = Given::default();
    while let Some((first, rest)) = args.split_first() {
        if first == "--" {
            return Ok((given, rest));
        }
        let Some(word) = first.strip_prefix('-').filter(|w| !w.is_empty()) else { break };
        let word = word.strip_prefix('-').unwrap_or(word);
        args = rest;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if let Some(name) = named(switches, name).or_else(|| named(&["help|h"], name)) {
            given.options.push((name, value.unwrap_or_default()));
        } else if let Some(name) = named(values, name) {
            let value = match (value, args.split_first()) {
                (Some(value), _) => value,
                (None, Some((next, rest))) => {
                    args = rest;
                    next.clone()
                }
                (None, None) => {
                    return Err(StartError::setup(format!("flag needs an argument: -{name}")));
                }
            };
            given.options.push((name, value));
        } else {
            return Err(StartError::setup(format!("flag provided but not defined: -{name}")));
        }
    }
    Ok((given, args))
}

/// The long name of what was given by one of its names, `bundle|b`.
fn named(all: &'static [&'static str], given: &str) -> Option<&'static str> {
    all.iter().find_map(|names| {
        let mut words = names.split('|');
        words.clone().any(|w| w == given).then(|| words.next().unwrap_or_default())
    })
}

/// The help text.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Usage: gantry-shim [--root DIR] [--log FILE] [--log-format text|json] COMMAND\n\nCommands:\n",
    );
    for command in commands::COMMANDS {
        text += &format!("  {:<10} {}\n", command.name, command.help);
    }
    text
}

/// The help text of a command.
pub(super) fn help_of(command: &Command) -> String {
    let mut text = format!(
        "Usage: gantry-shim {} [OPTIONS] {}\n\n{}\n",
        command.name, command.args, command.help
    );
    let long =
        |names: &str| names.split('|').map(|n| format!("--{n}")).collect::<Vec<_>>().join(", ");
    for names in command.values {
        text += &format!("  {} VALUE\n", long(names));
    }
    for names in command.switches {
        text += &format!("  {}\n", long(names));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_call_of_containerd_is_read() {
        let call = strings(&[
            "--root",
            "/r",
            "--log=/l",
            "--log-format",
            "json",
            "create",
            "--bundle",
            "/b",
            "--pid-file=/p",
            "--no-pivot",
            "id",
        ]);
        let (global, rest) = global(&call).unwrap();
        assert_eq!((global.value("root"), global.value("log")), (Some("/r"), Some("/l")));
        let given = Given::parse(commands::find(&rest[0]).unwrap(), &rest[1..]).unwrap();
        assert_eq!((given.value("bundle"), given.value("pid-file")), (Some("/b"), Some("/p")));
        assert!(given.has("no-pivot") && !given.has("no-new-keyring"));
        assert_eq!(given.id().unwrap(), "id");
    }

    #[test]
    fn options_end_at_the_first_argument() {
        let exec = commands::find("exec").unwrap();
        let call = strings(&["-d", "-e", "A=b", "--env", "C=d", "id", "ls", "-l"]);
        let given = Given::parse(exec, &call).unwrap();
        assert!(given.has("detach"));
        assert_eq!(given.values("env"), ["A=b", "C=d"]);
        assert_eq!(given.rest, ["id", "ls", "-l"]);
    }

    #[test]
    fn mistakes_are_named_as_go_names_them() {
        let refused = |list: &[&str]| {
            Given::parse(commands::find("kill").unwrap(), &strings(list)).unwrap_err().text
        };
        assert_eq!(refused(&["--no-such"]), "flag provided but not defined: -no-such");
        let create = commands::find("create").unwrap();
        let err = Given::parse(create, &strings(&["--bundle"])).unwrap_err();
        assert_eq!(err.text, "flag needs an argument: -bundle");
        assert!(Given::default().id().is_err());
    }
}
