//! Environment and labels: options and files, and variables taken from our own environment.

use crate::error::{Fail, Result, text};
use std::{collections::BTreeMap, fs};

/// `-e` values after those of the files; a name alone takes our own value, or nothing if we have none.
pub(crate) fn variables(files: &[String], values: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            all.extend(resolve(&line));
        }
    }
    for value in values {
        if value.is_empty() || value.starts_with('=') {
            return Err(Fail::new(format!(
                "invalid argument {value:?} for \"-e, --env\" flag: invalid environment variable: {value}"
            ))
            .with_code(125));
        }
        all.extend(resolve(value));
    }
    Ok(all)
}

/// `name=value` as it is; a name alone with our value, `None` when we have none.
fn resolve(text: &str) -> Option<String> {
    if text.contains('=') {
        return Some(text.to_owned());
    }
    std::env::var(text).ok().map(|value| format!("{text}={value}"))
}

/// `-l` values after those of the files.
pub(crate) fn labels(files: &[String], values: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for file in files {
        for line in lines(file)? {
            let (key, value) = line.split_once('=').unwrap_or((&line, ""));
            all.insert(key.to_owned(), value.to_owned());
        }
    }
    all.extend(super::values::map(values));
    Ok(all)
}

/// The lines of a file that are neither empty nor comments; names without blanks.
fn lines(file: &str) -> Result<Vec<String>> {
    let bytes = fs::read(file).map_err(|e| Fail::new(format!("open {file}: {}", text(&e))))?;
    let content = String::from_utf8(bytes)
        .map_err(|_| Fail::new(format!("env file {file} contains invalid utf8 bytes")))?;
    let content = content.strip_prefix('\u{FEFF}').unwrap_or(&content);
    let mut out = Vec::new();
    for line in
        content.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let name = line.split('=').next().unwrap_or_default();
        let poorly = |why: String| Fail::new(format!("poorly formatted environment: {why}"));
        if name.is_empty() {
            return Err(poorly(format!("no variable name on line '{line}'")));
        }
        if name.contains([' ', '\t']) && line.contains('=') {
            return Err(poorly(format!("variable '{name}' contains whitespaces")));
        }
        out.push(line.to_owned());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_options() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        fs::write(&file, "# c\n\n A=1\nHOME\nNOT_SET_HERE_AT_ALL\n").unwrap();
        let file = file.to_str().unwrap().to_owned();
        let got =
            variables(std::slice::from_ref(&file), &["B=2".into(), "NOT_SET_HERE_EITHER".into()]);
        let home = format!("HOME={}", std::env::var("HOME").unwrap_or_default());
        assert_eq!(got.unwrap(), ["A=1".to_owned(), home, "B=2".to_owned()]);
        fs::write(&file, "A B=1").unwrap();
        let err = variables(&[file], &[]).unwrap_err();
        assert_eq!(
            err.message,
            "poorly formatted environment: variable 'A B' contains whitespaces"
        );
        assert!(
            variables(&["/nowhere".into()], &[])
                .unwrap_err()
                .message
                .starts_with("open /nowhere: no such")
        );
    }
}
