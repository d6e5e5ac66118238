//! A command and how it is found and run: global options, help, mistakes, exit codes.

use crate::{
    commands::{COMMANDS, GROUPS},
    compose,
    error::{Fail, Result},
    flags::{self, Flag, Given, Kind, Stop, Words, flag, short},
    ui::Ui,
};
use std::io::Write;

/// How many plain words a command takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// One command, complete in its file.
pub(crate) struct Command {
    /// Under which words it is found; the first is its own in help texts.
    pub names: &'static [&'static str],
    /// What stands behind the name in the usage line.
    pub usage: &'static str,
    pub about: &'static str,
    pub count: Count,
    pub words: Words,
    pub flags: &'static [&'static [Flag]],
    pub run: fn(&mut Ui, &Given) -> Result<()>,
}

const GLOBAL: &[Flag] = &[
    flag("config", Kind::Text, "Location of client config files"),
    short('c', "context", Kind::Text, "Name of the context to use to connect to the daemon"),
    short('D', "debug", Kind::Bool, "Enable debug mode"),
    short('H', "host", Kind::List, "Daemon socket to connect to"),
    short('l', "log-level", Kind::Text, "Set the logging level (default \"info\")"),
    flag("tls", Kind::Bool, "Use TLS; implied by --tlsverify"),
    flag("tlscacert", Kind::Text, "Trust certs signed only by this CA"),
    flag("tlscert", Kind::Text, "Path to TLS certificate file"),
    flag("tlskey", Kind::Text, "Path to TLS key file"),
    flag("tlsverify", Kind::Bool, "Use TLS and verify the remote"),
    short('v', "version", Kind::Bool, "Print version information and quit"),
];

/// Runs the command line and gives its exit code.
pub(crate) fn run(program: &'static str, arguments: &[String]) -> i32 {
    match try_run(program, arguments) {
        Ok(()) => 0,
        Err(fail) => {
            if !fail.message.is_empty() {
                // Standard error is the last place to say anything.
                let _ = writeln!(std::io::stderr(), "{}", fail.message);
            }
            fail.code
        }
    }
}

fn try_run(program: &'static str, arguments: &[String]) -> Result<()> {
    let global = match Given::read(&[GLOBAL], Words::EndOptions, arguments) {
        Ok(global) => global,
        Err(Stop::Help(_)) => return overview(program),
        Err(Stop::Mistake(text)) => {
            let more = format!(
                "Usage:  {program} [OPTIONS] COMMAND [ARG...]\n\nRun '{program} --help' for more information"
            );
            return Err(Fail::new(format!("{text}\n\n{more}")).with_code(125));
        }
    };
    if global.is("version") {
        let line = concat!("Gantry version ", env!("CARGO_PKG_VERSION"));
        writeln!(std::io::stdout(), "{line}")?;
        return Ok(());
    }
    if global.words.is_empty() || global.words[0] == "help" && global.words.len() == 1 {
        return overview(program);
    }
    let mut words = global.words.clone();
    let wants_help = words[0] == "help";
    if wants_help {
        words.remove(0);
    }
    if words[0] == "compose" {
        let mut rest = words[1..].to_vec();
        if wants_help {
            rest.push("--help".to_owned());
        }
        return compose::run(program, &global, &rest);
    }
    let (command, used) = find(program, &words)?;
    let rest = if wants_help { vec!["--help".to_owned()] } else { words[used..].to_vec() };
    let mut ui = Ui::new(program, &global)?;
    let given = match Given::read(command.flags, command.words, &rest) {
        Ok(given) => given,
        Err(Stop::Help(by_short)) => {
            if by_short {
                writeln!(ui.err, "Flag shorthand -h has been deprecated, use --help")?;
            }
            return Ok(writeln!(ui.out, "{}", command.help(program).trim_end())?);
        }
        Err(Stop::Mistake(text)) => return Err(command.mistake(program, &text)),
    };
    command.check_count(program, &given)?;
    let done = (command.run)(&mut ui, &given);
    ui.out.flush()?;
    done
}

/// The command and how many words its name takes.
fn find(program: &str, words: &[String]) -> Result<(&'static Command, usize)> {
    for length in [2, 1] {
        let Some(front) = words.get(..length) else { continue };
        let name = front.join(" ");
        if let Some(command) = COMMANDS.iter().find(|c| c.names.contains(&name.as_str())) {
            return Ok((command, length));
        }
    }
    if let Some((group, about)) = GROUPS.iter().find(|(name, _)| *name == words[0]) {
        let mut text = format!("Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n");
        let prefix = format!("{group} ");
        for command in COMMANDS {
            if let Some(name) = command.names.iter().find_map(|n| n.strip_prefix(&prefix)) {
                text.push_str(&format!("  {name:<11} {}\n", command.about));
            }
        }
        text.push_str(&format!(
            "\nRun '{program} {group} COMMAND --help' for more information on a command."
        ));
        return match words.get(1).map(String::as_str) {
            None | Some("--help" | "help") => {
                writeln!(std::io::stdout(), "{text}")?;
                Err(Fail::code(0))
            }
            Some(other) => Err(Fail::new(format!(
                "{program}: unknown command: {program} {group} {other}\n\nUsage:  {program} {group}\n\n\
                 Run '{program} {group} --help' for more information"
            ))),
        };
    }
    Err(Fail::new(format!(
        "{program}: unknown command: {program} {}\n\nRun '{program} --help' for more information",
        words[0]
    )))
}

fn overview(program: &str) -> Result<()> {
    let mut text = format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nImages, containers and their lives\n\nCommands:\n"
    );
    for command in COMMANDS.iter().filter(|c| !c.names[0].contains(' ')) {
        text.push_str(&format!("  {:<11} {}\n", command.names[0], command.about));
    }
    text.push_str("\nManagement Commands:\n");
    for (name, about) in GROUPS {
        text.push_str(&format!("  {name:<11} {about}\n"));
    }
    text.push_str("\nGlobal Options:\n");
    text.push_str(&flags::help(&[GLOBAL], columns()));
    text.push_str(&format!("\nRun '{program} COMMAND --help' for more information on a command."));
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Width for help texts: the terminal's, else 80, less one.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    usize::from(size.map_or(0, |s| s.ws_col)).max(1).saturating_sub(1).max(if size.is_some() {
        1
    } else {
        79
    })
}

/// A mistake in the options of the command of this name.
pub(crate) fn mistake(program: &str, name: &str, text: &str) -> Fail {
    match COMMANDS.iter().find(|c| c.names.contains(&name)) {
        Some(command) => command.mistake(program, text),
        None => Fail::new(text).with_code(125),
    }
}

impl Command {
    fn usage_line(&self, program: &str) -> String {
        let options = if self.flags.iter().all(|f| f.is_empty()) { "" } else { " [OPTIONS]" };
        let gap = if self.usage.is_empty() { "" } else { " " };
        format!("Usage:  {program} {}{options}{gap}{}", self.names[0], self.usage)
    }

    fn help(&self, program: &str) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage_line(program), self.about);
        if self.names.len() > 1 {
            let mut names: Vec<String> =
                self.names.iter().map(|n| format!("{program} {n}")).collect();
            // The long names come first; another group's name for it comes last.
            let foreign = self.names.iter().filter(|n| n.starts_with("builder ")).count();
            let own = names.len() - foreign;
            names[..own].rotate_left(1);
            text.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
        }
        if self.flags.iter().any(|f| !f.is_empty()) {
            text.push_str("\nOptions:\n");
            text.push_str(&flags::help(self.flags, columns()));
        }
        text
    }

    fn mistake(&self, program: &str, text: &str) -> Fail {
        let usage = self.usage_line(program);
        let more = format!("Run '{program} {} --help' for more information", self.names[0]);
        Fail::new(format!("{text}\n\n{usage}\n\n{more}")).with_code(125)
    }

    fn check_count(&self, program: &str, given: &Given) -> Result<()> {
        let many = given.words.len();
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let wrong = match self.count {
            Count::None if many > 0 => "accepts no arguments".to_owned(),
            Count::Exactly(n) if many != n => format!("requires {n} argument{}", plural(n)),
            Count::AtLeast(n) if many < n => format!("requires at least {n} argument{}", plural(n)),
            Count::AtMost(n) if many > n => format!("requires at most {n} argument{}", plural(n)),
            Count::Between(from, to) if many < from || many > to => {
                format!("requires at least {from} and at most {to} arguments")
            }
            _ => return Ok(()),
        };
        let name = self.names[0];
        let see = if matches!(self.count, Count::AtLeast(_)) { "See" } else { "Run" };
        Err(Fail::new(format!(
            "{program}: '{program} {name}' {wrong}\n\n{}\n\n{see} '{program} {name} --help' for more information",
            self.usage_line(program)
        )))
    }
}
