//! Options of a command: a table, the parser that reads it, and the help text made from it.
//!
//! Rules are those of docker's parser: `--name value`, `--name=value`, `-n value`, `-nvalue`, clusters
//! (`-itp 80:80`), switches that may be `--rm=false`, `--` ends the options; a command may say that its
//! first plain word ends them too (`run IMAGE -x`).

use crate::options::values;
use std::collections::BTreeMap;

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A switch.
    Bool,
    /// Any text; the last counts.
    Text,
    /// Any text, several times.
    List,
    /// Comma-separated, several times.
    Strings,
    /// A signed number.
    Int,
    /// An unsigned number.
    Uint,
    /// A 16-bit number.
    Uint16,
    /// A size such as `64m`.
    Bytes,
    /// As `Bytes`, or -1.
    SwapBytes,
    /// A duration such as `1m30s`.
    Duration,
    /// A decimal number of processors.
    Decimal,
    /// `key=value`, several times.
    Map,
    /// A list under a name of its own in the help (`mount`, `ulimit`, ...).
    Named(&'static str),
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Bool => "",
            Self::Text => "string",
            Self::List => "list",
            Self::Strings => "strings",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Uint16 => "uint16",
            Self::Bytes | Self::SwapBytes => "bytes",
            Self::Duration => "duration",
            Self::Decimal => "decimal",
            Self::Map => "map",
            Self::Named(word) => word,
        }
    }

    fn check(self, value: &str) -> Result<(), String> {
        let number = |parsed: Result<(), &str>, function: &str| {
            parsed.map_err(|why| format!("strconv.{function}: parsing {value:?}: {why}"))
        };
        match self {
            Self::Named("filter") if !value.is_empty() && !value.contains('=') => {
                Err("bad format of filter (expected name=value)".into())
            }
            Self::Text | Self::List | Self::Strings | Self::Named(_) | Self::Map => Ok(()),
            Self::Bool => values::boolean(value).map(drop),
            Self::Int => number(values::int(value).map(drop), "ParseInt"),
            Self::Uint => number(values::uint(value, u64::MAX).map(drop), "ParseUint"),
            Self::Uint16 => number(values::uint(value, u16::MAX.into()).map(drop), "ParseUint"),
            Self::SwapBytes if value == "-1" => Ok(()),
            Self::Bytes | Self::SwapBytes => {
                base::units::parse_bytes(value).map(drop).map_err(|e| e.chain())
            }
            Self::Duration => {
                base::units::parse_go_duration(value).map(drop).map_err(|e| e.chain())
            }
            Self::Decimal => values::nano_cpus(value).map(drop),
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub short: Option<char>,
    pub long: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Not shown in the help.
    pub hidden: bool,
}

/// An option without a short form.
pub(crate) const fn flag(long: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { short: None, long, kind, help, hidden: false }
}

/// An option with a short form.
pub(crate) const fn short(short: char, long: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { short: Some(short), long, kind, help, hidden: false }
}

/// An option that is taken but not shown.
pub(crate) const fn hidden(long: &'static str, kind: Kind) -> Flag {
    Flag { short: None, long, kind, help: "", hidden: true }
}

/// Options given and the words left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    values: BTreeMap<&'static str, Vec<String>>,
    /// Words that are no options.
    pub words: Vec<String>,
}

/// Why reading stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `--help`; true when by the deprecated `-h`.
    Help(bool),
    /// A mistake, in docker's words.
    Mistake(String),
}

/// Where plain words may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Words {
    /// Among options.
    Anywhere,
    /// The first one ends the options.
    EndOptions,
}

impl Given {
    /// Reads `arguments` by the table.
    pub(crate) fn read(
        table: &'static [&'static [Flag]],
        words: Words,
        arguments: &[String],
    ) -> Result<Self, Stop> {
        let mut given = Self::default();
        let mut rest = arguments.iter();
        let all = || table.iter().copied().flatten();
        while let Some(argument) = rest.next() {
            if argument == "--" {
                given.words.extend(rest.cloned());
                break;
            }
            if let Some(long) = argument.strip_prefix("--") {
                given.read_long(all(), long, &mut rest)?;
            } else if argument.len() > 1 && argument.starts_with('-') {
                given.read_cluster(all, argument, &mut rest)?;
            } else {
                given.words.push(argument.clone());
                if words == Words::EndOptions {
                    given.words.extend(rest.cloned());
                    break;
                }
            }
        }
        Ok(given)
    }

    fn read_long<'a>(
        &mut self,
        mut all: impl Iterator<Item = &'static Flag>,
        argument: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Stop> {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument, None),
        };
        if name == "help" {
            return Err(Stop::Help(false));
        }
        let Some(flag) = all.find(|f| f.long == name) else {
            return Err(Stop::Mistake(format!("unknown flag: --{name}")));
        };
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => rest
                .next()
                .cloned()
                .ok_or_else(|| Stop::Mistake(format!("flag needs an argument: --{name}")))?,
        };
        self.set(flag, value)
    }

    fn read_cluster<'a, I: Iterator<Item = &'static Flag>>(
        &mut self,
        all: impl Fn() -> I,
        argument: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), Stop> {
        let cluster = argument.strip_prefix('-').unwrap_or(argument);
        for (at, letter) in cluster.char_indices() {
            let Some(flag) = all().find(|f| f.short == Some(letter)) else {
                if letter == 'h' {
                    return Err(Stop::Help(true));
                }
                let mistake = format!("unknown shorthand flag: {letter:?} in {argument}");
                return Err(Stop::Mistake(mistake));
            };
            let behind = &cluster[at + letter.len_utf8()..];
            if let Some(value) = behind.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if flag.kind == Kind::Bool {
                self.set(flag, "true".to_owned())?;
                continue;
            }
            if !behind.is_empty() {
                return self.set(flag, behind.to_owned());
            }
            let value = rest.next().cloned().ok_or_else(|| {
                Stop::Mistake(format!("flag needs an argument: {letter:?} in {argument}"))
            })?;
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), Stop> {
        if let Err(why) = flag.kind.check(&value) {
            let name = match flag.short {
                Some(short) => format!("-{short}, --{}", flag.long),
                None => format!("--{}", flag.long),
            };
            return Err(Stop::Mistake(format!(
                "invalid argument {value:?} for {name:?} flag: {why}"
            )));
        }
        let values = self.values.entry(flag.long).or_default();
        match flag.kind {
            Kind::List | Kind::Map | Kind::Named(_) => values.push(value),
            Kind::Strings => values.extend(value.split(',').map(str::to_owned)),
            _ => *values = vec![value],
        }
        Ok(())
    }

    /// Whether the option was given at all.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.values.contains_key(long)
    }

    /// A switch.
    pub(crate) fn is(&self, long: &str) -> bool {
        self.is_or(long, false)
    }

    /// A switch that may be on by itself.
    pub(crate) fn is_or(&self, long: &str, default: bool) -> bool {
        self.text(long).and_then(|v| values::boolean(v).ok()).unwrap_or(default)
    }

    /// The value, if given.
    pub(crate) fn text(&self, long: &str) -> Option<&str> {
        self.values.get(long).and_then(|v| v.last()).map(String::as_str)
    }

    /// The value or nothing.
    pub(crate) fn text_or_empty(&self, long: &str) -> String {
        self.text(long).unwrap_or_default().to_owned()
    }

    /// All values.
    pub(crate) fn list(&self, long: &str) -> &[String] {
        self.values.get(long).map_or(&[], Vec::as_slice)
    }

    /// All values, `None` when there are none.
    pub(crate) fn some_list(&self, long: &str) -> Option<Vec<String>> {
        Some(self.list(long).to_vec()).filter(|l| !l.is_empty())
    }

    /// A number; was checked when read.
    pub(crate) fn int(&self, long: &str) -> Option<i64> {
        self.text(long).and_then(|v| values::int(v).ok())
    }

    /// A size in bytes, 0 when absent.
    pub(crate) fn bytes(&self, long: &str) -> i64 {
        match self.text(long) {
            None => 0,
            Some("-1") => -1,
            Some(text) => base::units::parse_bytes(text).unwrap_or(0),
        }
    }

    /// A duration in nanoseconds, 0 when absent.
    pub(crate) fn nanos(&self, long: &str) -> i64 {
        let duration = self.text(long).and_then(|t| base::units::parse_go_duration(t).ok());
        duration.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// The `Options:` part of a help text, wrapped to `columns`.
pub(crate) fn help(table: &[&[Flag]], columns: usize) -> String {
    let mut shown: Vec<&Flag> = table.iter().copied().flatten().filter(|f| !f.hidden).collect();
    shown.sort_by_key(|f| f.long);
    let fronts: Vec<String> = shown
        .iter()
        .map(|f| {
            let short = f.short.map_or_else(|| "    ".to_owned(), |s| format!("-{s}, "));
            let word = f.kind.word();
            let gap = if word.is_empty() { "" } else { " " };
            format!("  {short}--{}{gap}{word}", f.long)
        })
        .collect();
    let indent = fronts.iter().map(String::len).max().unwrap_or(0) + 3;
    let mut out = String::new();
    for (flag, front) in shown.iter().zip(fronts) {
        out.push_str(&format!("{front:indent$}"));
        out.push_str(&wrap(flag.help, indent, columns));
        out.push('\n');
    }
    out
}

/// Breaks at spaces; a last word may stand out five columns rather than alone.
fn wrap(text: &str, indent: usize, columns: usize) -> String {
    const SLOP: usize = 5;
    let width = columns.saturating_sub(indent).max(24) - SLOP;
    let margin = format!("\n{}", " ".repeat(indent));
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if width + SLOP > rest.len() {
            lines.push(rest);
            break;
        }
        let mut edge = width;
        while !rest.is_char_boundary(edge) {
            edge -= 1;
        }
        let window = &rest[..edge];
        let Some(space) = window.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else {
            lines.push(rest);
            break;
        };
        let at = window.rfind('\n').filter(|nl| *nl > 0 && *nl < space).unwrap_or(space);
        lines.push(&rest[..at]);
        rest = &rest[at + 1..];
    }
    lines.join("\n").replace('\n', &margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[&[Flag]] = &[&[
        short('i', "interactive", Kind::Bool, ""),
        short('t', "tty", Kind::Bool, ""),
        short('p', "publish", Kind::List, ""),
        short('m', "memory", Kind::Bytes, ""),
        flag("rm", Kind::Bool, ""),
        flag("security-opt", Kind::Strings, ""),
    ]];

    fn read(words: Words, arguments: &[&str]) -> Result<Given, Stop> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Given::read(TABLE, words, &arguments)
    }

    #[test]
    fn clusters_values_and_switches_are_read() {
        let given = read(
            Words::EndOptions,
            &[
                "-itp80:80",
                "-p",
                "81",
                "--rm=false",
                "-m=64m",
                "--security-opt",
                "a,b",
                "img",
                "-x",
            ],
        )
        .unwrap();
        assert!(given.is("interactive") && given.is("tty") && !given.is("rm") && given.has("rm"));
        assert_eq!(given.list("publish"), ["80:80", "81"]);
        assert_eq!(given.bytes("memory"), 64 << 20);
        assert_eq!(given.list("security-opt"), ["a", "b"]);
        assert_eq!(given.words, ["img", "-x"]);
        let given = read(Words::Anywhere, &["a", "-t", "--", "-b"]).unwrap();
        assert_eq!(given.words, ["a", "-b"]);
        assert!(given.is("tty"));
    }

    #[test]
    fn mistakes_have_dockers_words() {
        for (arguments, want) in [
            (vec!["--foo"], "unknown flag: --foo"),
            (vec!["-z"], "unknown shorthand flag: 'z' in -z"),
            (vec!["--memory"], "flag needs an argument: --memory"),
            (vec!["-tp"], "flag needs an argument: 'p' in -tp"),
            (
                vec!["-m", "x"],
                "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'",
            ),
            (
                vec!["--rm=x"],
                "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            let Err(Stop::Mistake(got)) = read(Words::Anywhere, &arguments) else {
                panic!("{arguments:?}")
            };
            assert_eq!(got, want);
        }
        assert_eq!(read(Words::Anywhere, &["--help"]).unwrap_err(), Stop::Help(false));
        assert_eq!(read(Words::Anywhere, &["-h"]).unwrap_err(), Stop::Help(true));
    }

    proptest::proptest! {
        #[test]
        fn no_arguments_make_it_panic(arguments: Vec<String>, text in "\\PC*") {
            let _ = Given::read(TABLE, Words::Anywhere, &arguments);
            let _ = wrap(&text, 30, 79);
        }
    }
}
