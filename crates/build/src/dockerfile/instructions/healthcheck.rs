//! `HEALTHCHECK [--interval= --timeout= --start-period= --start-interval= --retries=] CMD ...` or `NONE`.

use super::{Flags, Form, Instruction, Parsed, Raw, Syntax, at_least_one, step};
use crate::{
    dockerfile::words,
    draft::{Draft, Work},
    go,
};
use base::{Error, Result, units};
use image::{config::Healthcheck, edit::Change};
use std::time::Duration;

pub(super) static HEALTHCHECK: Syntax =
    Syntax { name: "HEALTHCHECK", heredocs: false, form: Form::Plain, parse };

/// Docker's `container.MinimumDuration`.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Check(Healthcheck);

fn parse(mut raw: Raw<'_>) -> Result<Parsed> {
    let (kind, rest) = raw.rest.split_once(char::is_whitespace).unwrap_or((raw.rest, ""));
    let rest = rest.trim_start();
    let upper = kind.to_ascii_uppercase();
    if kind.is_empty() {
        return Err(at_least_one("HEALTHCHECK"));
    }
    if upper == "NONE" {
        if !rest.is_empty() {
            return Err(Error::invalid("HEALTHCHECK NONE takes no arguments"));
        }
        return Ok(step(Check(Healthcheck { test: vec![upper], ..Healthcheck::default() })));
    }
    let check = Healthcheck {
        interval: interval(&mut raw.flags, "interval")?,
        timeout: interval(&mut raw.flags, "timeout")?,
        start_period: interval(&mut raw.flags, "start-period")?,
        start_interval: interval(&mut raw.flags, "start-interval")?,
        retries: retries(&mut raw.flags)?,
        test: Vec::new(),
    };
    raw.flags.end()?;
    if upper != "CMD" {
        return Err(Error::invalid(format!(
            "Unknown type {} in HEALTHCHECK (try CMD)",
            go::quote(&upper)
        )));
    }
    let (kind, command) = match words::json(rest) {
        Some(words) => ("CMD", words?),
        None if rest.is_empty() => ("CMD-SHELL", Vec::new()),
        None => ("CMD-SHELL", vec![rest.to_owned()]),
    };
    if command.is_empty() {
        return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
    }
    let test = std::iter::once(kind.to_owned()).chain(command).collect();
    Ok(step(Check(Healthcheck { test, ..check })))
}

fn interval(flags: &mut Flags, name: &str) -> Result<i64> {
    let Some(text) = flags.text(name)?.filter(|t| !t.is_empty()) else { return Ok(0) };
    let duration = if text == "0" { Duration::ZERO } else { units::parse_go_duration(&text)? };
    if duration > Duration::ZERO && duration < SHORTEST {
        return Err(Error::invalid(format!(
            "Interval {} cannot be less than 1ms",
            go::quote(name)
        )));
    }
    i64::try_from(duration.as_nanos())
        .map_err(|_| Error::invalid(format!("time: invalid duration {}", go::quote(&text))))
}

fn retries(flags: &mut Flags) -> Result<i64> {
    let Some(text) = flags.text("retries")?.filter(|t| !t.is_empty()) else { return Ok(0) };
    let retries: i32 = text.parse().map_err(|_| {
        Error::invalid(format!("strconv.ParseInt: parsing {}: invalid syntax", go::quote(&text)))
    })?;
    if retries < 0 {
        return Err(Error::invalid(format!("--retries cannot be negative ({retries})")));
    }
    Ok(retries.into())
}

impl Instruction for Check {
    fn apply(&self, draft: &mut Draft) -> Result<Work> {
        let before = draft.config.healthcheck.as_ref().map(|h| h.test.clone()).unwrap_or_default();
        if self.0.test[0] != "NONE" && before.first().is_some_and(|kind| kind != "NONE") {
            draft
                .notes
                .push(format!("Note: overriding previous HEALTHCHECK: {}", go::list(&before)));
        }
        draft.edit(Change::Healthcheck(self.0.clone()))?;
        Ok(Work::Config { comment: format!("HEALTHCHECK {}", shown(&self.0)) })
    }
}

/// The check as Go prints the struct with `%q`.
fn shown(check: &Healthcheck) -> String {
    let time =
        |nanos: i64| go::quote(&units::go_duration(Duration::from_nanos(nanos.unsigned_abs())));
    format!(
        "&{{{} {} {} {} {} {}}}",
        go::quote_list(&check.test),
        time(check.interval),
        time(check.timeout),
        time(check.start_period),
        time(check.start_interval),
        go::quote_char(check.retries)
    )
}
