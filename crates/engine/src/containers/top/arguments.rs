//! What arguments of ps(1) ask for: columns, which processes, order, threads, tree.
//!
//! Unix words begin with a dash and may be put together (`-ef`), BSD words have none (`aux`), long ones have two.

use super::columns::{self, Column};
use base::{Error, Result};

/// A column chosen, with its title.
pub(super) struct Chosen {
    pub(super) title: String,
    pub(super) column: &'static Column,
}

/// All that the arguments say.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) columns: Vec<Chosen>,
    /// Each thread is a row.
    pub(super) threads: bool,
    /// Children stand below their parents.
    pub(super) forest: bool,
    /// Columns to sort by, and whether downward.
    pub(super) sort: Vec<(&'static Column, bool)>,
    /// Only processes for which one of these holds; all when there is none.
    pub(super) only: Vec<Only>,
}

/// One choice of processes.
pub(super) enum Only {
    Pid(i32),
    Parent(i32),
    User(String),
    Command(String),
}

type Preset = &'static [(&'static str, &'static str)];

const FULL: Preset = &[
    ("user", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("cmd", "CMD"),
];
const EXTRA_FULL: Preset = &[
    ("user", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("sz", "SZ"),
    ("rss", "RSS"),
    ("psr", "PSR"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("cmd", "CMD"),
];
const LONG: Preset = &[
    ("f", "F"),
    ("s", "S"),
    ("uid", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("pri", "PRI"),
    ("ni", "NI"),
    ("addr", "ADDR"),
    ("sz", "SZ"),
    ("wchan", "WCHAN"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("comm", "CMD"),
];
const JOBS: Preset = &[
    ("pid", "PID"),
    ("pgid", "PGID"),
    ("sid", "SID"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("comm", "CMD"),
];
const SHORT: Preset = &[("pid", "PID"), ("tty", "TTY"), ("time", "TIME"), ("comm", "CMD")];
const BSD_USER: Preset = &[
    ("user", "USER"),
    ("pid", "PID"),
    ("pcpu", "%CPU"),
    ("pmem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("stat", "STAT"),
    ("stime", "START"),
    ("time", "TIME"),
    ("args", "COMMAND"),
];
const BSD_SHORT: Preset =
    &[("pid", "PID"), ("tty", "TTY"), ("stat", "STAT"), ("time", "TIME"), ("args", "COMMAND")];
const BSD_JOBS: Preset = &[
    ("ppid", "PPID"),
    ("pid", "PID"),
    ("pgid", "PGID"),
    ("sid", "SID"),
    ("tty", "TTY"),
    ("tpgid", "TPGID"),
    ("stat", "STAT"),
    ("uid", "UID"),
    ("time", "TIME"),
    ("args", "COMMAND"),
];

/// Reads `arguments`; none mean `-ef`.
///
/// # Errors
/// `Invalid` for what ps would not understand, and for a format without PID.
pub(super) fn read(arguments: &str) -> Result<Wanted> {
    let mut reader = Reader { wanted: Wanted::default(), preset: None, behind: Vec::new() };
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            reader.long(word, long, &mut words)?;
        } else if let Some(letters) = word.strip_prefix('-') {
            reader.unix(word, letters, &mut words)?;
        } else {
            reader.bsd(word, &mut words)?;
        }
    }
    reader.finish()
}

struct Reader {
    wanted: Wanted,
    preset: Option<Preset>,
    /// Columns of `-O`, which come behind the PID.
    behind: Vec<Chosen>,
}

fn unknown(word: &str) -> Error {
    Error::invalid(format!("unsupported ps argument {word:?}: see ps(1) for those that there are"))
}

/// The rest of a word, or the next one.
fn value<'w>(
    word: &str,
    rest: &'w str,
    words: &mut impl Iterator<Item = &'w str>,
) -> Result<&'w str> {
    match rest {
        "" => words.next().ok_or_else(|| {
            Error::invalid(format!("the ps argument {word:?} wants a value behind it"))
        }),
        rest => Ok(rest),
    }
}

impl Reader {
    fn long<'w>(
        &mut self,
        word: &str,
        long: &'w str,
        words: &mut impl Iterator<Item = &'w str>,
    ) -> Result<()> {
        let (key, rest) = long.split_once('=').unwrap_or((long, ""));
        match key {
            "format" => self.format(value(word, rest, words)?)?,
            "sort" => self.sort(value(word, rest, words)?)?,
            "forest" => self.wanted.forest = true,
            "pid" | "Pid" => self.choose(value(word, rest, words)?, Self::pid)?,
            "ppid" => {
                self.choose(value(word, rest, words)?, |t| Self::number(t).map(Only::Parent))?;
            }
            "user" | "User" => {
                self.choose(value(word, rest, words)?, |t| Ok(Only::User(t.into())))?;
            }
            "cols" | "columns" | "width" | "rows" | "lines" => drop(value(word, rest, words)?),
            "headers" | "header" | "no-headers" | "no-heading" => {}
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    fn unix<'w>(
        &mut self,
        word: &str,
        letters: &'w str,
        words: &mut impl Iterator<Item = &'w str>,
    ) -> Result<()> {
        // `-aux` is `aux` to everybody but the standard.
        if matches!(letters, "aux" | "auxw" | "auxww" | "axu") {
            return self.bsd(letters, words);
        }
        let chars = letters.char_indices();
        for (at, letter) in chars {
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'e' | 'A' | 'a' | 'd' | 'w' | 'y' | 'c' | 'x' | 'N' => {}
                'f' => self.preset = self.preset.or(Some(FULL)),
                'F' => self.preset = Some(EXTRA_FULL),
                'l' => self.preset = Some(LONG),
                'j' => self.preset = Some(JOBS),
                'H' => self.wanted.forest = true,
                'L' | 'T' | 'm' => self.wanted.threads = true,
                'o' => return self.format(value(word, rest, words)?),
                'O' => return self.add(value(word, rest, words)?),
                'p' | 'q' => return self.choose(value(word, rest, words)?, Self::pid),
                'u' | 'U' => {
                    return self.choose(value(word, rest, words)?, |t| Ok(Only::User(t.into())));
                }
                'C' => {
                    return self.choose(value(word, rest, words)?, |t| Ok(Only::Command(t.into())));
                }
                _ => return Err(unknown(word)),
            }
        }
        Ok(())
    }

    fn bsd<'w>(&mut self, word: &'w str, words: &mut impl Iterator<Item = &'w str>) -> Result<()> {
        if word.bytes().all(|b| b.is_ascii_digit() || b == b',') {
            return self.choose(word, Self::pid);
        }
        if self.preset.is_none() && self.wanted.columns.is_empty() {
            self.preset = Some(BSD_SHORT);
        }
        for (at, letter) in word.char_indices() {
            let rest = &word[at + letter.len_utf8()..];
            match letter {
                'a' | 'x' | 'g' | 'w' | 'e' | 'c' | 'r' | 'S' | 'n' | 'h' => {}
                'u' => self.preset = Some(BSD_USER),
                'l' => self.preset = Some(LONG),
                'j' => self.preset = Some(BSD_JOBS),
                'f' => self.wanted.forest = true,
                'H' | 'm' => self.wanted.threads = true,
                'o' => return self.format(value(word, rest, words)?),
                'O' => return self.add(value(word, rest, words)?),
                'k' => return self.sort(value(word, rest, words)?),
                'p' => return self.choose(value(word, rest, words)?, Self::pid),
                'U' => {
                    return self.choose(value(word, rest, words)?, |t| Ok(Only::User(t.into())));
                }
                _ => return Err(unknown(word)),
            }
        }
        Ok(())
    }

    fn number(text: &str) -> Result<i32> {
        text.parse().map_err(|_| Error::invalid(format!("{text:?} is no process id")))
    }

    fn pid(text: &str) -> Result<Only> {
        Self::number(text).map(Only::Pid)
    }

    fn choose(&mut self, list: &str, one: impl Fn(&str) -> Result<Only>) -> Result<()> {
        for item in list.split(',').filter(|i| !i.is_empty()) {
            self.wanted.only.push(one(item)?);
        }
        Ok(())
    }

    fn sort(&mut self, list: &str) -> Result<()> {
        for item in list.split(',') {
            let (name, down) = match item.strip_prefix('-') {
                Some(name) => (name, true),
                None => (item.strip_prefix('+').unwrap_or(item), false),
            };
            self.wanted.sort.push((Self::known(name)?, down));
        }
        Ok(())
    }

    fn known(name: &str) -> Result<&'static Column> {
        columns::find(name).ok_or_else(|| {
            Error::invalid(format!(
                "unknown user-defined format specifier {name:?}: there are {}",
                columns::names()
            ))
        })
    }

    fn chosen(list: &str) -> Result<Vec<Chosen>> {
        let mut chosen = Vec::new();
        // A title takes the rest, commas too.
        let (names, last) = match list.split_once('=') {
            Some((names, title)) => (names, Some(title)),
            None => (list, None),
        };
        for item in names.split(',') {
            // The width that a column may have is not ours to give.
            let name = item.split(':').next().unwrap_or(item);
            let column = Self::known(name)?;
            chosen.push(Chosen { title: column.title.to_owned(), column });
        }
        if let (Some(title), Some(column)) = (last, chosen.last_mut()) {
            match title.split_once(',') {
                // `pid=A,comm=B`, which ps(1) takes for one title, but people do not.
                Some((own, rest))
                    if Self::known(rest.split(['=', ',', ':']).next().unwrap_or(rest)).is_ok() =>
                {
                    column.title = own.to_owned();
                    chosen.extend(Self::chosen(rest)?);
                }
                _ => column.title = title.to_owned(),
            }
        }
        for column in chosen.iter_mut().filter(|c| c.title.is_empty()) {
            column.title = column.column.title.to_owned();
        }
        Ok(chosen)
    }

    fn format(&mut self, list: &str) -> Result<()> {
        self.wanted.columns.extend(Self::chosen(list)?);
        Ok(())
    }

    fn add(&mut self, list: &str) -> Result<()> {
        self.behind.extend(Self::chosen(list)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Wanted> {
        if self.wanted.columns.is_empty() {
            // Every choice but one of columns leaves docker's own format.
            let preset = match self.preset {
                Some(preset) => preset,
                None if self.behind.is_empty() && !self.wanted.threads => FULL,
                None => SHORT,
            };
            let named = |(name, title): &(&str, &str)| {
                let column = columns::find(name)?;
                Some(Chosen { title: (*title).to_owned(), column })
            };
            self.wanted.columns = preset.iter().filter_map(named).collect();
            let place = self.wanted.columns.iter().position(|c| c.title == "PID");
            let at = place.map_or(0, |at| at + 1);
            self.wanted.columns.splice(at..at, std::mem::take(&mut self.behind));
            if self.wanted.threads {
                self.with_threads();
                return Ok(self.wanted);
            }
        }
        // Docker matches processes by this column and refuses formats without it.
        if !self.wanted.columns.iter().any(|c| c.title == "PID") {
            return Err(Error::invalid("Couldn't find PID field in ps output"));
        }
        Ok(self.wanted)
    }
}

impl Reader {
    /// The thread's id behind the process's, in a full format the number of threads behind its share.
    fn with_threads(&mut self) {
        let columns = &mut self.wanted.columns;
        let behind = |columns: &[Chosen], title: &str| {
            columns.iter().position(|c| c.title == title).map(|at| at + 1)
        };
        let own = |name: &str| {
            columns::find(name).map(|column| Chosen { title: column.title.to_owned(), column })
        };
        if let (Some(at), Some(count)) = (behind(columns, "C"), own("nlwp")) {
            columns.insert(at, count);
        }
        let at = behind(columns, "PPID").or_else(|| behind(columns, "PID"));
        if let (Some(at), Some(id)) = (at, own("lwp")) {
            columns.insert(at, id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> String {
        read(text).unwrap().columns.into_iter().map(|c| c.title).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_usual_formats_have_the_usual_titles() {
        for (text, want) in [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-o pid,comm=NAME,etime", "PID NAME ELAPSED"),
            ("-eopid,comm", "PID COMMAND"),
            ("axo pid,rss:10", "PID RSS"),
            ("-O rss -e", "PID RSS TTY TIME CMD"),
            ("-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            ("--format=pid,args --sort=-rss,pid", "PID COMMAND"),
        ] {
            assert_eq!(titles(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in ["-o comm", "--bogus", "-Z", "-o", "-o pid,bogus", "-p x", "--sort=bogus", "zz"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(
            read("-o comm").err().map(|e| e.to_string()).unwrap_or_default(),
            "Couldn't find PID field in ps output"
        );
    }
}
