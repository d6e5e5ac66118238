//! Rules that need the file alone.

use super::{Comments, Config, Rule, Warning, hint, near, rules};
use crate::{
    dockerfile::{Dockerfile, Lines, Stage, Step, words},
    expand::{self, Variables},
    ignore::Ignore,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// Stage names that mean something else.
const RESERVED: [&str; 2] = ["context", "scratch"];
/// Instructions of which the last one counts.
const ONCE: [&str; 3] = ["CMD", "ENTRYPOINT", "HEALTHCHECK"];
/// Words in a name that make it a secret's, unless one of the second list is there.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

/// Warnings in the making.
struct Finder<'f> {
    file: &'f Dockerfile,
    comments: Comments<'f>,
    config: &'f Config,
    found: Vec<Warning>,
}

/// Runs the rules over `file`, whose text is `text`. `globals` are the arguments that `FROM` sees, `ignore` is
/// what the context leaves out.
pub fn check(
    file: &Dockerfile,
    text: &str,
    config: &Config,
    globals: &[(String, String)],
    ignore: Option<&Ignore>,
) -> Vec<Warning> {
    let mut finder = Finder { file, comments: Comments::of(text), config, found: Vec::new() };
    finder.casing();
    finder.stage_names();
    for at in file.empty_continuations.clone() {
        finder.add(&rules::NO_EMPTY_CONTINUATION, "Empty continuation line".into(), &(at..=at));
    }
    finder.default_args();
    for step in &file.args {
        finder.described(step, "ARG");
        for (name, _) in step.instruction.declares() {
            finder.secret("ARG", name, &step.lines);
        }
    }
    for stage in &file.stages {
        finder.head(stage, globals);
        finder.steps(stage, ignore);
    }
    finder.found
}

/// Values, with what was asked for and is not there.
struct Asked<'v> {
    values: &'v [(String, String)],
    matched: RefCell<BTreeSet<String>>,
    missing: RefCell<BTreeSet<String>>,
}

impl<'v> Asked<'v> {
    fn of(values: &'v [(String, String)]) -> Self {
        Self { values, matched: RefCell::default(), missing: RefCell::default() }
    }
}

impl Variables for Asked<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        let found = self.values.value(name);
        let list = if found.is_some() { &self.matched } else { &self.missing };
        list.borrow_mut().insert(name.to_owned());
        found
    }
}

/// The first word of a line, as it is written.
fn word(code: &str) -> &str {
    code.split_whitespace().next().unwrap_or_default()
}

impl Finder<'_> {
    fn add(&mut self, rule: &'static Rule, detail: String, lines: &Lines) {
        if self.comments.config(self.config, *lines.start()).counts(rule) {
            self.found.push(Warning { rule, detail, lines: lines.clone() });
        }
    }

    fn casing(&mut self) {
        let heads = self.file.stages.iter().map(|s| (word(&s.code).to_owned(), s.lines.clone()));
        let steps = self.file.stages.iter().flat_map(|s| &s.steps);
        let steps = steps.map(|s| (word(&s.code).to_owned(), s.lines.clone()));
        let all: Vec<(String, Lines)> = heads.chain(steps).collect();
        let lower = all.iter().filter(|(w, _)| *w == w.to_lowercase()).count();
        let upper = all.iter().filter(|(w, _)| *w == w.to_uppercase()).count();
        let (wanted, mostly_lower) =
            if lower > upper { ("lowercase", true) } else { ("uppercase", false) };
        for (word, lines) in all {
            let right = if mostly_lower { word.to_lowercase() } else { word.to_uppercase() };
            if word != right {
                let detail = format!(
                    "Command '{word}' should match the case of the command majority ({wanted})"
                );
                self.add(&rules::CONSISTENT_CASING, detail, &lines);
            }
        }
    }

    fn stage_names(&mut self) {
        let mut seen = BTreeSet::new();
        for stage in &self.file.stages {
            let Some(name) = &stage.head.name else { continue };
            if RESERVED.contains(&name.as_str()) {
                let detail =
                    format!("Stage name should not use the same name as reserved stage \"{name}\"");
                self.add(&rules::RESERVED_STAGE_NAME, detail, &stage.lines);
            }
            if !seen.insert(name.clone()) {
                let detail =
                    format!("Duplicate stage name \"{name}\", stage names should be unique");
                self.add(&rules::DUPLICATE_STAGE_NAME, detail, &stage.lines);
            }
        }
    }

    /// Names of images as they are when nobody gives an argument.
    fn default_args(&mut self) {
        let mut known: Vec<(String, String)> = Vec::new();
        for (name, default) in self.file.args.iter().flat_map(|s| s.instruction.declares()) {
            let value = default.as_deref().unwrap_or_default();
            let value = expand::word(value, self.file.escape, &known[..]).unwrap_or_default();
            known.push((name.clone(), value));
        }
        for stage in &self.file.stages {
            let base = &stage.head.base;
            if !base.contains('$') {
                continue;
            }
            let Ok(name) = expand::word(base, self.file.escape, &known[..]) else { continue };
            if name.parse::<base::Reference>().is_err() {
                let detail = format!(
                    "Default value for ARG {base} results in empty or invalid base image name"
                );
                self.add(&rules::DEFAULT_ARG_IN_FROM, detail, &stage.lines);
            }
        }
    }

    fn head(&mut self, stage: &Stage, globals: &[(String, String)]) {
        let mut words = stage.code.split_whitespace().filter(|w| !w.starts_with("--"));
        let (from, _, word, name) = (words.next(), words.next(), words.next(), words.next());
        if let (Some(from), Some(word), Some(name)) = (from, word, name) {
            if name != name.to_lowercase() {
                let detail = format!("Stage name '{name}' should be lowercase");
                self.add(&rules::STAGE_NAME_CASING, detail, &stage.lines);
            }
            let fits = if from == from.to_lowercase() {
                word == word.to_lowercase()
            } else {
                from != from.to_uppercase() || word == word.to_uppercase()
            };
            if !fits {
                let detail = format!("'{word}' and '{from}' keywords' casing do not match");
                self.add(&rules::FROM_AS_CASING, detail, &stage.lines);
            }
            let comments = self.comments.before(*stage.lines.start());
            self.description("FROM", &[name.to_owned()], &comments, &stage.lines);
        }
        let escape = self.file.escape;
        let asked = Asked::of(globals);
        let _image = expand::word(&stage.head.base, escape, &asked);
        let known = || globals.iter().map(|(n, _)| n.as_str());
        let mut missing = asked.missing.into_inner();
        if let Some(platform) = &stage.head.platform {
            let asked = Asked::of(globals);
            let expanded = expand::word(platform, escape, &asked);
            let (matched, unset) = (asked.matched.into_inner(), asked.missing.into_inner());
            if let Ok(expanded) = expanded {
                self.platform(stage, platform, &expanded, (&matched, &unset), globals);
            }
            missing.extend(unset);
        }
        for name in missing {
            let near = near(&name, known()).map(str::to_owned);
            let detail =
                format!("FROM argument '{name}' is not declared{}", hint(near.as_deref(), ""));
            self.add(&rules::UNDEFINED_ARG_IN_FROM, detail, &stage.lines);
        }
    }

    fn platform(
        &mut self,
        stage: &Stage,
        written: &str,
        expanded: &str,
        (matched, unset): (&BTreeSet<String>, &BTreeSet<String>),
        globals: &[(String, String)],
    ) {
        if matched.len() == 1 && unset.is_empty() && matched.contains("TARGETPLATFORM") {
            if globals.value("TARGETPLATFORM") == Some(expanded) {
                let detail = format!(
                    "Setting platform to predefined {written} in FROM is redundant as this is the default behavior"
                );
                self.add(&rules::REDUNDANT_PLATFORM, detail, &stage.lines);
            }
        } else if matched.is_empty()
            && unset.is_empty()
            && let Ok(platform) = expanded.parse::<base::Platform>()
        {
            let name = stage.head.name.as_deref().unwrap_or_default();
            if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
                let detail =
                    format!("FROM --platform flag should not use constant value \"{expanded}\"");
                self.add(&rules::CONST_PLATFORM, detail, &stage.lines);
            }
        }
    }

    fn steps(&mut self, stage: &Stage, ignore: Option<&Ignore>) {
        let mut last: BTreeMap<String, Lines> = BTreeMap::new();
        let (mut shell, mut workdir) = (false, false);
        for step in &stage.steps {
            let (name, _, rest) = words::split(&step.code, self.file.escape);
            let (written, name) = (name.to_owned(), name.to_uppercase());
            let rest = rest.to_owned();
            if ONCE.contains(&name.as_str())
                && let Some(before) = last.insert(name.clone(), step.lines.clone())
            {
                let detail = format!(
                    "Multiple {written} instructions should not be used in the same stage because only the last one will be used"
                );
                self.add(&rules::MULTIPLE, detail, &before);
            }
            match name.as_str() {
                "MAINTAINER" => {
                    let detail = "Maintainer instruction is deprecated in favor of using label";
                    self.add(&rules::MAINTAINER, detail.into(), &step.lines);
                }
                "SHELL" => shell = true,
                "CMD" | "ENTRYPOINT" if !shell && words::json(&rest).is_none() => {
                    let detail = format!(
                        "JSON arguments recommended for {written} to prevent unintended behavior related to OS signals"
                    );
                    self.add(&rules::JSON_ARGS, detail, &step.lines);
                }
                "WORKDIR" => {
                    if !workdir && !rest.starts_with(['/', '$']) {
                        let detail = format!(
                            "Relative workdir \"{}\" can have unexpected results if the base image changes",
                            rest.trim()
                        );
                        self.add(&rules::WORKDIR_RELATIVE, detail, &step.lines);
                    }
                    workdir = true;
                }
                "ENV" | "LABEL" => self.pairs(&written, &name, &rest, step),
                "ARG" => {
                    self.described(step, "ARG");
                    for (arg, _) in step.instruction.declares() {
                        self.secret("ARG", arg, &step.lines);
                    }
                }
                "EXPOSE" => self.expose(&rest, step),
                "COPY" | "ADD" => self.copy(&name, &rest, step, ignore),
                _ => {}
            }
        }
    }

    fn pairs(&mut self, written: &str, name: &str, rest: &str, step: &Step) {
        let first = words::quoted(rest, self.file.escape).into_iter().next().unwrap_or_default();
        if !first.contains('=') {
            let detail = format!(
                "\"{written} key=value\" should be used instead of legacy \"{written} key value\" format"
            );
            self.add(&rules::LEGACY_PAIRS, detail, &step.lines);
        }
        if name == "ENV" {
            let pairs = words::pairs(rest, name, self.file.escape).unwrap_or_default();
            for (key, _) in pairs {
                self.secret("ENV", &key, &step.lines);
            }
        }
    }

    fn secret(&mut self, instruction: &str, key: &str, lines: &Lines) {
        let lower = key.to_lowercase();
        let has = |list: &[&str]| lower.split('_').any(|part| list.contains(&part));
        if has(&SECRET) && !has(&NO_SECRET) {
            let detail = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{key}\")"
            );
            self.add(&rules::SECRETS, detail, lines);
        }
    }

    fn expose(&mut self, rest: &str, step: &Step) {
        for port in words::plain(rest) {
            let (number, protocol) = port.split_once('/').unwrap_or((&port, ""));
            if protocol != protocol.to_lowercase() {
                let detail =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.add(&rules::EXPOSE_CASING, detail, &step.lines);
            }
            if number.contains(':') && !number.contains('$') {
                let detail = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.add(&rules::EXPOSE_FORMAT, detail, &step.lines);
            }
        }
    }

    fn copy(&mut self, name: &str, rest: &str, step: &Step, ignore: Option<&Ignore>) {
        // What an exception may bring back cannot be told from the file alone.
        let Some(ignore) = ignore.filter(|i| !i.has_exceptions()) else { return };
        if step.instruction.from().is_some() {
            return;
        }
        let mut paths = words::json_or_plain(rest).unwrap_or_default();
        paths.pop();
        for path in paths {
            let path = crate::go::clean(&path);
            let path = path.trim_start_matches('/');
            if path.is_empty() || path.contains(['$', '*', '?', '[']) || path.contains("<<") {
                continue;
            }
            if !path.contains("://") && ignore.excludes(path) {
                let verb = if name == "ADD" { "Add" } else { "Copy" };
                let detail = format!(
                    "Attempting to {verb} file \"{path}\" that is excluded by .dockerignore"
                );
                self.add(&rules::COPY_IGNORED, detail, &step.lines);
            }
        }
    }

    fn described(&mut self, step: &Step, instruction: &str) {
        let names: Vec<String> =
            step.instruction.declares().iter().map(|(name, _)| name.clone()).collect();
        let comments = self.comments.before(*step.lines.start());
        self.description(instruction, &names, &comments, &step.lines);
    }

    fn description(
        &mut self,
        instruction: &str,
        names: &[String],
        comments: &[&str],
        lines: &Lines,
    ) {
        let Some(last) = comments.last() else { return };
        let first = last.split(' ').next().unwrap_or_default();
        if names.is_empty() || names.iter().any(|n| n == first) {
            return;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { &names[0] };
        let detail = format!(
            "Comment for {instruction} should follow the format: `# {example} <description>`"
        );
        self.add(&rules::DEFINITION_DESCRIPTION, detail, lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Dialect;

    fn found(text: &str) -> Vec<String> {
        with(text, "skip=none")
    }

    fn with(text: &str, config: &str) -> Vec<String> {
        let file = Dockerfile::parse_as("Dockerfile", text.as_bytes(), Dialect::BuildKit).unwrap();
        let config = Config::parse(config).unwrap();
        let globals = [("TARGETPLATFORM".to_owned(), "linux/amd64".to_owned())];
        let ignore = Ignore::parse("ignored\n").unwrap();
        let all = check(&file, text, &config, &globals, Some(&ignore));
        all.iter().map(|w| format!("{} {}", w.rule.name, w.lines.start())).collect()
    }

    #[test]
    fn each_rule_finds_what_it_is_about() {
        for (text, want) in [
            ("FROM a AS Base\n", "StageNameCasing 1"),
            ("FROM a as b\n", "FromAsCasing 1"),
            ("FROM a\nRUN x \\\n\n  y\n", "NoEmptyContinuation 3"),
            ("FROM a\nRUN x\nrun y\n", "ConsistentInstructionCasing 3"),
            ("FROM a AS x\nFROM b AS x\n", "DuplicateStageName 2"),
            ("FROM a AS context\n", "ReservedStageName 1"),
            ("FROM a\nCMD x\n", "JSONArgsRecommended 2"),
            ("FROM a\nMAINTAINER x\n", "MaintainerDeprecated 2"),
            ("FROM a:$TAGS\n", "UndefinedArgInFrom 1"),
            ("FROM a\nWORKDIR x\n", "WorkdirRelativePath 2"),
            ("FROM a\nCMD [\"x\"]\nCMD [\"y\"]\n", "MultipleInstructionsDisallowed 2"),
            ("FROM a\nENV a b\n", "LegacyKeyValueFormat 2"),
            ("FROM --platform=$TARGETPLATFORM a\n", "RedundantTargetPlatform 1"),
            ("FROM a\nARG API_KEY\n", "SecretsUsedInArgOrEnv 2"),
            ("FROM a\nENV DB_PASSWORD=x\n", "SecretsUsedInArgOrEnv 2"),
            ("FROM --platform=linux/arm64 a AS b\n", "FromPlatformFlagConstDisallowed 1"),
            ("FROM a\nCOPY ignored /x\n", "CopyIgnoredFile 2"),
            ("FROM a\nEXPOSE 80/TCP\n", "ExposeProtoCasing 2"),
            ("FROM a\nEXPOSE 127.0.0.1:80:80\n", "ExposeInvalidFormat 2"),
        ] {
            assert!(found(text).contains(&want.to_owned()), "{text:?}: {:?}", found(text));
        }
        let default = with("ARG V\nFROM a:$V\n", "");
        assert!(default.contains(&"InvalidDefaultArgInFrom 2".to_owned()), "{default:?}");
        let described = with("# odd words\nFROM a AS b\n", "experimental=all");
        assert_eq!(described, ["InvalidDefinitionDescription 2"]);
    }

    #[test]
    fn what_is_fine_is_not_told() {
        for text in [
            "FROM a AS b\nSHELL [\"sh\"]\nCMD x\n",
            "from a as b\nrun x\n",
            "FROM a\nWORKDIR /x\nWORKDIR y\n",
            "FROM a\nARG PUBLIC_KEY\nENV KEY_FILE=/x\n",
            "FROM a AS b\nCOPY --from=b ignored /x\n",
            "FROM --platform=linux/arm64 a AS for-arm64\n",
            "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\n",
            "ARG V=1\nFROM a:${V}\n",
        ] {
            let found = found(text);
            let odd: Vec<_> =
                found.iter().filter(|f| !f.starts_with("UndefinedArgInFrom")).collect();
            assert!(odd.is_empty(), "{text:?}: {odd:?}");
        }
        assert!(with("FROM a\nCMD x\nMAINTAINER y\n", "skip=all").is_empty());
    }
}
