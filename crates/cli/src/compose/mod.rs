//! `gantry compose`: projects of several containers, as docker compose runs them.
//!
//! Flow: [`run`] reads the options in front of the command (`-f`, `-p`, ...), finds the command in [`COMMANDS`] and
//! runs it with a [`Compose`]; `load` makes the project of the files. What a project is and what it needs of an
//! engine is said by the crate `compose`; here it is asked for, many things at once (`work`).
//! Source: docker compose 2.40.3 (commands, options, texts, exit codes).

mod attached;
mod build;
mod config;
mod cp;
mod create;
mod down;
mod engine;
mod graph;
mod images;
mod lives;
mod load;
mod logs;
mod look;
mod observe;
mod output;
mod plan;
mod ps;
mod run;
mod start;
mod up;
mod watch;

use crate::{
    command,
    error::{Fail, Result},
    flags::{self, Flag, Given, Kind, Stop, Words, flag, short},
    ui::Ui,
};
use std::io::Write;

/// One command below `compose`.
pub(crate) struct Sub {
    pub name: &'static str,
    /// What stands behind the name in the usage line.
    pub usage: &'static str,
    pub about: &'static str,
    pub words: Words,
    /// How many plain words it takes at least and at most.
    pub count: (usize, usize),
    pub flags: &'static [&'static [Flag]],
    pub run: fn(&mut Compose<'_>, &Given) -> Result<()>,
}

/// Any number of words.
const ANY: (usize, usize) = (0, usize::MAX);

static COMMANDS: &[&Sub] = &[
    &build::BUILD,
    &config::CONFIG,
    &cp::CP,
    &up::CREATE,
    &down::DOWN,
    &look::EVENTS,
    &run::EXEC,
    &ps::IMAGES,
    &lives::KILL,
    &logs::LOGS,
    &ps::LS,
    &lives::PAUSE,
    &plan::PLAN,
    &look::PORT,
    &ps::PS,
    &build::PULL,
    &build::PUSH,
    &lives::RESTART,
    &lives::RM,
    &run::RUN,
    &lives::START,
    &lives::STOP,
    &look::TOP,
    &lives::UNPAUSE,
    &up::UP,
    &lives::WAIT,
    &watch::WATCH,
];

const GLOBAL: &[Flag] = &[
    flag("all-resources", Kind::Bool, "Include all resources, even those not used by services"),
    flag(
        "ansi",
        Kind::Text,
        "Control when to print ANSI control characters (\"never\"|\"always\"|\"auto\")",
    ),
    flag("compatibility", Kind::Bool, "Run compose in backward compatibility mode"),
    flag("dry-run", Kind::Bool, "Execute command in dry run mode"),
    flag("env-file", Kind::List, "Specify an alternate environment file"),
    short('f', "file", Kind::List, "Compose configuration files"),
    flag("parallel", Kind::Int, "Control max parallelism, -1 for unlimited (default -1)"),
    flag("profile", Kind::List, "Specify a profile to enable"),
    flag("progress", Kind::Text, "Set type of progress output (auto, tty, plain, quiet)"),
    flag(
        "project-directory",
        Kind::Text,
        "Specify an alternate working directory (default: the path of the, first specified, Compose file)",
    ),
    short('p', "project-name", Kind::Text, "Project name"),
    short('v', "version", Kind::Bool, "Show the version information"),
];

/// The surroundings of a command.
pub(crate) struct Compose<'a> {
    pub ui: &'a mut Ui,
    pub global: Given,
}

/// Runs `compose` with what stands behind the word.
pub(crate) fn run(program: &'static str, top: &Given, arguments: &[String]) -> Result<()> {
    let full = format!("{program} compose");
    let global = match Given::read(&[GLOBAL], Words::EndOptions, arguments) {
        Ok(global) => global,
        Err(Stop::Help(_)) => return overview(&full),
        Err(Stop::Mistake(text)) => {
            let more = format!(
                "Usage:  {full} [OPTIONS] COMMAND\n\nRun '{full} --help' for more information"
            );
            return Err(Fail::new(format!("{text}\n\n{more}")));
        }
    };
    if global.is("version") {
        return version();
    }
    let Some((name, rest)) = global.words.split_first() else { return overview(&full) };
    let (name, rest) = match (name.as_str(), rest.first()) {
        ("help", None) => return overview(&full),
        ("help", Some(other)) => (other.clone(), vec!["--help".to_owned()]),
        _ => (name.clone(), rest.to_vec()),
    };
    if name == "version" {
        return version();
    }
    let Some(sub) = COMMANDS.iter().find(|s| s.name == name) else {
        return Err(Fail::new(format!(
            "unknown docker command: \"compose {name}\"\n\nRun '{full} --help' for more information"
        )));
    };
    let usage = format!("Usage:  {full} {}{}", sub.name, sub.usage);
    let given = match Given::read(sub.flags, sub.words, &rest) {
        Ok(given) => given,
        Err(Stop::Help(_)) => {
            let options = flags::help(sub.flags, command::columns());
            let text = format!("{usage}\n\n{}\n\nOptions:\n{options}", sub.about);
            return Ok(writeln!(std::io::stdout(), "{}", text.trim_end())?);
        }
        Err(Stop::Mistake(text)) => {
            let more = format!("Run '{full} {} --help' for more information", sub.name);
            return Err(Fail::new(format!("{text}\n\n{usage}\n\n{more}")));
        }
    };
    let many = given.words.len();
    if many < sub.count.0 || many > sub.count.1 {
        let text = if many < sub.count.0 {
            format!(
                "requires at least {} argument{}",
                sub.count.0,
                if sub.count.0 == 1 { "" } else { "s" }
            )
        } else {
            format!(
                "accepts at most {} argument{}",
                sub.count.1,
                if sub.count.1 == 1 { "" } else { "s" }
            )
        };
        return Err(Fail::new(format!("\"{full} {}\" {text}.\n\n{usage}", sub.name)));
    }
    if global.is("dry-run") {
        return Err(Fail::new(format!(
            "--dry-run is not supported; `{full} plan` tells what `up` would do"
        )));
    }
    let mut ui = Ui::new(program, top)?;
    let done = (sub.run)(&mut Compose { ui: &mut ui, global }, &given);
    ui.out.flush()?;
    done
}

fn version() -> Result<()> {
    let line = concat!("Gantry Compose version ", env!("CARGO_PKG_VERSION"));
    Ok(writeln!(
        std::io::stdout(),
        "{line}, on a par with Docker Compose {}",
        compose::labels::OUR_VERSION
    )?)
}

fn overview(full: &str) -> Result<()> {
    let mut text = format!(
        "Usage:  {full} [OPTIONS] COMMAND\n\nDefine and run multi-container applications\n\nOptions:\n"
    );
    text.push_str(&flags::help(&[GLOBAL], command::columns()));
    text.push_str("\nCommands:\n");
    for sub in COMMANDS {
        text.push_str(&format!("  {:<11} {}\n", sub.name, sub.about));
    }
    text.push_str(&format!("\nRun '{full} COMMAND --help' for more information on a command."));
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
