//! What is asked of a Dockerfile instead of building it: `--check`, `--call=check|outline|targets`.
//!
//! Source: buildx 0.29 `build --call` (names, options, what is printed, exit codes).

use super::outcome;
use crate::{
    error::{Fail, Result},
    flags::Given,
    options::values,
};
use serde_json::{Value, json};
use std::{collections::HashMap, io::Write};

/// A question to the front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// As the front end names it, without `frontend.`.
    name: String,
    json: bool,
    /// Findings do not fail the command.
    ignore_status: bool,
}

impl Call {
    /// What `--check` and `--call` ask for; nothing when the build is to be done.
    ///
    /// # Errors
    /// For options that there are not.
    pub(super) fn of(given: &Given) -> Result<Option<Self>> {
        let text = given.text("call").unwrap_or_default();
        if given.is("check") && !matches!(text, "" | "build" | "check" | "lint") {
            return Err(Fail::new(format!("--check and --call={text} ask for different things")));
        }
        Self::parse(if given.is("check") { "check" } else { text })
    }

    fn parse(text: &str) -> Result<Option<Self>> {
        let mut call = Self { name: String::new(), json: false, ignore_status: false };
        for field in values::csv(text)? {
            match field.split_once('=') {
                None => call.name = field,
                Some(("format", "json")) => call.json = true,
                Some(("format", "text" | "")) => call.json = false,
                Some(("ignorestatus", value)) => {
                    call.ignore_status = values::boolean(value).map_err(Fail::new)?;
                }
                Some(_) => {
                    return Err(Fail::new(format!(
                        "invalid --call option {field:?}: format=json, format=text or ignorestatus=true"
                    )));
                }
            }
        }
        match call.name.as_str() {
            "" | "build" => return Ok(None),
            "check" => call.name = "lint".into(),
            "describe" => call.name = "subrequests.describe".into(),
            _ => {}
        }
        Ok(Some(call))
    }

    /// The request, as the front end knows it.
    pub(super) fn request(&self) -> String {
        format!("frontend.{}", self.name)
    }

    /// Prints the answer.
    ///
    /// # Errors
    /// What stops the build, and the exit code that findings end with.
    pub(super) fn print(
        &self,
        answer: &HashMap<String, String>,
        out: &mut dyn Write,
    ) -> Result<()> {
        if !answer.keys().any(|key| key.starts_with("result.")) {
            return Err(Fail::new(format!(
                "the engine does not answer --call={} at the end of a build: ask by docker buildx",
                self.name
            )));
        }
        let get = |key: &str| answer.get(key).map(String::as_str).unwrap_or_default();
        let findings: Value = match self.name.as_str() {
            "lint" => serde_json::from_str(get("result.json")).unwrap_or_default(),
            _ => Value::Null,
        };
        if self.json {
            writeln!(out, "{}", get("result.json"))?;
        } else {
            if self.name == "lint" {
                count(&findings, out)?;
            }
            write!(out, "{}", get("result.txt"))?;
        }
        if let Some(fail) = stopped(&findings) {
            return Err(fail);
        }
        match get("result.statuscode").parse() {
            Ok(code) if code != 0 && !self.ignore_status => Err(Fail::code(code)),
            _ => Ok(()),
        }
    }
}

/// Tells how many warnings there are.
fn count(findings: &Value, out: &mut dyn Write) -> Result<()> {
    match findings["warnings"].as_array().map_or(0, Vec::len) {
        0 if findings["buildError"].is_null() => {
            writeln!(out, "Check complete, no warnings found.")?;
        }
        0 => {}
        1 => writeln!(out, "Check complete, 1 warning has been found!")?,
        many => writeln!(out, "Check complete, {many} warnings have been found!")?,
    }
    Ok(())
}

/// What stops the build, with its lines.
fn stopped(findings: &Value) -> Option<Fail> {
    let error = &findings["buildError"];
    let message = error["message"].as_str()?;
    let place = json!({ "info": findings["sources"][0], "ranges": error["location"]["ranges"] });
    let lines = outcome::snippet(&place).unwrap_or_default();
    Some(Fail::new(format!("ERROR: {message}\n{lines}").trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Call> {
        Call::parse(text).unwrap()
    }

    #[test]
    fn questions_are_read_as_buildx_reads_them() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("build"), None);
        let call =
            |name: &str, json, ignore_status| Some(Call { name: name.into(), json, ignore_status });
        assert_eq!(parse("check"), call("lint", false, false));
        assert_eq!(parse("lint,format=json,ignorestatus=true"), call("lint", true, true));
        assert_eq!(parse("format=json,targets"), call("targets", true, false));
        for wrong in ["check,format=xml", "check,odd=1", "check,ignorestatus=maybe"] {
            assert!(Call::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn findings_are_printed_and_told_by_the_exit_code() {
        let print = |call: &str, found: &str, code: &str| {
            let answer =
                [("result.json", found), ("result.txt", "text\n"), ("result.statuscode", code)];
            let answer = answer.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            let mut out = Vec::new();
            let done =
                parse(call).unwrap().print(&answer, &mut out).map_err(|e| (e.code, e.message));
            (String::from_utf8(out).unwrap(), done)
        };
        let none = r#"{"warnings":null,"sources":[]}"#;
        let two = r#"{"warnings":[{},{}]}"#;
        let stop = r#"{"warnings":null,"sources":[{"filename":"F","data":"T05FClRXTwo="}],"buildError":{"message":"no","location":{"ranges":[{"start":{"line":2},"end":{"line":2}}]}}}"#;
        assert_eq!(
            print("check", none, "0"),
            ("Check complete, no warnings found.\ntext\n".into(), Ok(()))
        );
        let (out, done) = print("check", two, "1");
        assert_eq!(out, "Check complete, 2 warnings have been found!\ntext\n");
        assert_eq!(done, Err((1, String::new())));
        assert_eq!(print("check,ignorestatus=1", two, "1").1, Ok(()));
        assert_eq!(print("check,format=json", two, "1").0, format!("{two}\n"));
        let (out, done) = print("check", stop, "1");
        assert_eq!(out, "text\n");
        let (code, message) = done.unwrap_err();
        assert!(code == 1 && message.starts_with("ERROR: no\nF:2\n"), "{message}");
        assert!(message.contains("2 | >>> TWO"), "{message}");
        assert_eq!(print("outline", "{}", ""), ("text\n".into(), Ok(())));
        let none = parse("outline").unwrap().print(&HashMap::new(), &mut Vec::new());
        assert!(none.unwrap_err().message.contains("does not answer"));
    }
}
