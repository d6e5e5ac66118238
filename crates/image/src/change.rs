//! Reads the lines of `--change` (import, commit) into [`Change`]s: Dockerfile instructions that touch the
//! configuration only.
//!
//! Words are unquoted and `$NAME`, `${NAME}`, `${NAME:-x}`, `${NAME:+x}` expanded from the environment as
//! it is at that line. Not here: the Dockerfile language as a whole (crate `build`).

use crate::{
    config::{Healthcheck, RunConfig},
    edit::{Change, Command, Editor, get_env},
};
use base::{Error, Result, units};

/// Applies `lines` to `config`.
///
/// # Errors
/// `Invalid` with docker's wording for an instruction that is not allowed here or malformed.
pub fn apply(config: &mut RunConfig, lines: &[String]) -> Result<()> {
    let mut editor = Editor::new();
    let mut changed = config.clone();
    for line in lines.iter().flat_map(|l| l.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let change = parse(line, &changed.env)?;
        editor.apply(&mut changed, &change)?;
    }
    *config = changed;
    Ok(())
}

/// Reads one instruction; `env` is what variables expand from.
///
/// # Errors
/// `Invalid` as above.
pub fn parse(line: &str, env: &[String]) -> Result<Change> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let name = word.to_ascii_uppercase();
    if !matches!(
        name.as_str(),
        "CMD"
            | "ENTRYPOINT"
            | "ENV"
            | "EXPOSE"
            | "HEALTHCHECK"
            | "LABEL"
            | "ONBUILD"
            | "SHELL"
            | "STOPSIGNAL"
            | "USER"
            | "VOLUME"
            | "WORKDIR"
    ) {
        return Err(Error::invalid(format!(
            "{} is not a valid change command",
            word.to_ascii_lowercase()
        )));
    }
    if rest.is_empty() && !matches!(name.as_str(), "CMD" | "ENTRYPOINT") {
        return Err(Error::invalid(format!("{name} requires at least one argument")));
    }
    let one = |text: &str| expand(text, env);
    Ok(match name.as_str() {
        "CMD" => Change::Cmd(command(rest)),
        "ENTRYPOINT" => Change::Entrypoint(command(rest)),
        "ENV" => Change::Env(pairs(&name, rest, env)?),
        "LABEL" => Change::Label(pairs(&name, rest, env)?),
        "EXPOSE" => Change::Expose(split(rest)?.iter().map(|w| one(w)).collect::<Result<_>>()?),
        "HEALTHCHECK" => Change::Healthcheck(healthcheck(rest)?),
        "ONBUILD" => Change::OnBuild(rest.to_owned()),
        "SHELL" => match json(rest) {
            Some(words) if !words.is_empty() => Change::Shell(words),
            _ => return Err(Error::invalid("SHELL requires the arguments to be in JSON form")),
        },
        "STOPSIGNAL" => Change::StopSignal(one(rest)?),
        "USER" => Change::User(one(rest)?),
        "VOLUME" => Change::Volume(match json(rest) {
            Some(words) => words,
            None => split(rest)?.iter().map(|w| one(w)).collect::<Result<_>>()?,
        }),
        _ => Change::WorkDir(one(rest)?),
    })
}

fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

fn command(text: &str) -> Command {
    match json(text) {
        Some(words) => Command::Exec(words),
        None if text.is_empty() => Command::Exec(Vec::new()),
        None => Command::Shell(text.to_owned()),
    }
}

/// `NAME=value NAME="a b"`, or the old `NAME all the rest`.
fn pairs(name: &str, text: &str, env: &[String]) -> Result<Vec<(String, String)>> {
    let words = split(text)?;
    let first = words.first().map_or("", String::as_str);
    if !first.contains('=') {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{name} must have two arguments")))?;
        return Ok(vec![(expand(key, env)?, expand(value.trim_start(), env)?)]);
    }
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Error::invalid(format!(
                    "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                ))
            })?;
            let key = expand(key, env)?;
            if key.is_empty() {
                return Err(Error::invalid(format!("{name} names can not be blank")));
            }
            Ok((key, expand(value, env)?))
        })
        .collect()
}

/// Splits at white space outside quotes; quotes and backslashes stay for [`expand`].
fn split(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err(Error::invalid(format!(
            "unexpected end of statement while looking for matching quote in {text:?}"
        )));
    }
    words.extend(Some(word).filter(|w| !w.is_empty()));
    Ok(words)
}

/// Takes quotes away and puts variables in.
fn expand(text: &str, env: &[String]) -> Result<String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (Some('\''), c) => out.push(c),
            (_, '\\') => match chars.next() {
                Some(next) if quote.is_some() && !matches!(next, '"' | '$' | '\\') => {
                    out.push('\\');
                    out.push(next);
                }
                Some(next) => out.push(next),
                None => out.push('\\'),
            },
            (_, '$') if chars.peek() == Some(&'{') => {
                chars.next();
                let mut inner = String::new();
                loop {
                    match chars.next() {
                        Some('}') => break,
                        Some(c) => inner.push(c),
                        None => {
                            return Err(Error::invalid("syntax error: missing '}' in variable"));
                        }
                    }
                }
                out.push_str(&variable(&inner, env)?);
            }
            (_, '$') => {
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                match name.as_str() {
                    "" => out.push('$'),
                    name => out.push_str(get_env(env, name).unwrap_or_default()),
                }
            }
            (_, c) => out.push(c),
        }
    }
    Ok(out)
}

fn variable(inner: &str, env: &[String]) -> Result<String> {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(end);
    let value = get_env(env, name).unwrap_or_default();
    match modifier {
        "" if !name.is_empty() => Ok(value.to_owned()),
        _ if name.is_empty() => {
            Err(Error::invalid(format!("unsupported modifier in ${{{inner}}}")))
        }
        other => match (other.strip_prefix(":-"), other.strip_prefix(":+")) {
            (Some(word), _) if value.is_empty() => Ok(word.to_owned()),
            (Some(_), _) => Ok(value.to_owned()),
            (_, Some(word)) if !value.is_empty() => Ok(word.to_owned()),
            (_, Some(_)) => Ok(String::new()),
            _ => Err(Error::invalid(format!("unsupported modifier in ${{{inner}}}"))),
        },
    }
}

fn healthcheck(text: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let nanos = || -> Result<i64> {
            let nanos = units::parse_go_duration(value)?.as_nanos();
            i64::try_from(nanos)
                .map_err(|_| Error::invalid(format!("Interval {name:?} is too long")))
        };
        match name {
            "interval" => check.interval = nanos()?,
            "timeout" => check.timeout = nanos()?,
            "start-period" => check.start_period = nanos()?,
            "start-interval" => check.start_interval = nanos()?,
            "retries" => {
                check.retries = value.parse().ok().filter(|n| *n >= 0).ok_or_else(|| {
                    Error::invalid(format!("--retries must be at least 1 (not {value})"))
                })?;
            }
            _ => return Err(Error::invalid(format!("Unknown flag: {name}"))),
        }
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.trim().is_empty() => vec!["NONE".into()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" => match command(rest.trim()) {
            Command::Exec(words) if words.is_empty() => {
                return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
            }
            Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Command::Shell(text) => vec!["CMD-SHELL".into(), text],
        },
        other => {
            return Err(Error::invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")));
        }
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_docker_reads_them() {
        let mut config = RunConfig::default();
        let lines = [
            "ENV PATH=/bin A=\"x y\" B=one\\ two",
            "env PATH=/opt:$PATH",
            "ENV OLD the whole rest",
            "LABEL a=b 'c d'=\"e $A\"",
            "CMD [\"sh\", \"-c\", \"echo $A\"]",
            "ENTRYPOINT exec top -b",
            "EXPOSE 80 ${PORT:-53}/udp",
            "HEALTHCHECK --interval=5s --retries=3 CMD wget -q $X",
            "VOLUME [\"/a\", \"/b\"]",
            "WORKDIR /w\nUSER ${A:+root}",
            "STOPSIGNAL SIGTERM",
            "ONBUILD RUN x",
        ]
        .map(String::from);
        apply(&mut config, &lines).unwrap();
        assert_eq!(config.env, ["PATH=/opt:/bin", "A=x y", "B=one two", "OLD=the whole rest"]);
        assert_eq!(
            config.labels.into_iter().collect::<Vec<_>>(),
            [("a".into(), "b".into()), ("c d".into(), "e x y".to_owned())]
        );
        assert_eq!(config.cmd.unwrap(), ["sh", "-c", "echo $A"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec top -b"]);
        assert_eq!(config.exposed_ports.into_keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        let check = config.healthcheck.unwrap();
        assert_eq!(
            (check.test, check.interval, check.retries),
            (vec!["CMD-SHELL".into(), "wget -q $X".into()], 5_000_000_000, 3)
        );
        assert_eq!(config.volumes.into_keys().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(
            (config.working_dir, config.user, config.stop_signal),
            ("/w".into(), "root".into(), "SIGTERM".into())
        );
    }

    #[test]
    fn a_wrong_line_changes_nothing() {
        for (line, text) in [
            ("RUN x", "run is not a valid change command"),
            ("FROM x", "from is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV A=1 B", "can't find = in"),
            ("ENV =x", "names can not be blank"),
            ("LABEL a=\"x", "looking for matching quote"),
            ("USER ${A", "missing '}'"),
            ("USER ${A?x}", "unsupported modifier"),
            ("SHELL sh", "JSON form"),
            ("HEALTHCHECK --x=1 CMD a", "Unknown flag: x"),
            ("HEALTHCHECK CMD", "Missing command"),
        ] {
            let mut config = RunConfig::default();
            let err = apply(&mut config, &["ENV X=1".into(), line.into()]).unwrap_err();
            assert!(err.to_string().contains(text), "{line}: {err}");
            assert_eq!(config, RunConfig::default());
        }
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(line in "(ENV|LABEL|CMD|HEALTHCHECK|VOLUME|EXPOSE|USER|x) [ -~]{0,40}") {
            let _ = parse(&line, &["A=1".into()]);
        }
    }
}
