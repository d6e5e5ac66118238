//! What a step was made of, beside what the same step was made of before.

use super::trace::{Kept, Outcome, Reason, Step, Trace};
use base::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Files that are named of one list.
const FILES: usize = 10;

type Names = BTreeMap<String, String>;
type Lists<'l> = dyn Fn(&str) -> Result<Names> + 'l;

fn reason(kind: &str, name: impl Into<String>, detail: impl Into<String>) -> Reason {
    Reason { kind: kind.to_owned(), name: name.into(), detail: detail.into() }
}

/// Why `step` of `own` was done; `earlier` are the builds before, newest first.
pub(super) fn reasons(
    own: &Trace,
    step: &Step,
    earlier: &[Trace],
    lists: &Lists<'_>,
) -> Vec<Reason> {
    if step.no_cache {
        return vec![reason("no-cache", "", "the build was asked to do it again")];
    }
    let all = || earlier.iter().flat_map(|t| t.steps.iter().map(move |s| (t, s)));
    if let Some((_, same)) = all().find(|(_, s)| s.key == step.key) {
        return vec![match same.outcome {
            Outcome::Cached | Outcome::Ran => {
                reason("pruned", "", "what it came to before is no longer in the cache")
            }
            Outcome::Failed => reason("failed-before", "", "it failed when it was done before"),
            Outcome::Begun => {
                reason("failed-before", "", "it was not finished when it was begun before")
            }
        }];
    }
    let is_kin = |t: &Trace| !own.project.is_empty() && t.project == own.project;
    let named = |s: &Step| s.name == step.name && !s.key.is_empty();
    let before =
        all().find(|(t, s)| is_kin(t) && named(s)).or_else(|| all().find(|(_, s)| named(s)));
    if let Some((old, before)) = before {
        return differences(own, step, old, before, lists);
    }
    let place = place(&step.name);
    let other = all().find(|(t, s)| {
        is_kin(t) && !s.key.is_empty() && place.is_some() && self::place(&s.name) == place
    });
    match other {
        Some((_, other)) => vec![reason("instruction", "", format!("it was {}", other.name))],
        None => vec![reason("new", "", "it was never built here")],
    }
}

/// Where a step stands in its stage: `[build 2/4]`.
fn place(name: &str) -> Option<&str> {
    let end = name.strip_prefix('[')?.find(']')?;
    name[1..=end].contains('/').then(|| &name[..end + 2])
}

fn differences(
    own: &Trace,
    step: &Step,
    old: &Trace,
    before: &Step,
    lists: &Lists<'_>,
) -> Vec<Reason> {
    let mut found: Vec<Reason> = Vec::new();
    let of = |parts: &[Kept], name: &str, nth: usize| {
        parts.iter().filter(|p| p.name == name).nth(nth).cloned()
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pairs: Vec<(Option<Kept>, Option<Kept>)> = Vec::new();
    for part in &step.parts {
        let nth = seen.entry(&part.name).or_default();
        pairs.push((of(&before.parts, &part.name, *nth), Some(part.clone())));
        *nth += 1;
    }
    for part in &before.parts {
        if !step.parts.iter().any(|p| p.name == part.name) {
            pairs.push((Some(part.clone()), None));
        }
    }
    for (was, is) in pairs {
        if was.as_ref().map(|w| &w.value) == is.as_ref().map(|i| &i.value) {
            continue;
        }
        found.extend(difference(own, old, was, is, lists));
    }
    if found.is_empty() {
        found.push(reason("option", "", "something of it changed that is not kept"));
    }
    found.dedup();
    found
}

/// What one part differs in.
fn difference(
    own: &Trace,
    old: &Trace,
    was: Option<Kept>,
    is: Option<Kept>,
    lists: &Lists<'_>,
) -> Vec<Reason> {
    let how = match (&was, &is) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
    let name = if is.name.is_empty() { was.name.as_str() } else { is.name.as_str() };
    let named = |kept: &Kept| match kept.list.as_str() {
        "" => Ok(Names::new()),
        digest => lists(digest),
    };
    if !is.list.is_empty() || !was.list.is_empty() {
        let (Ok(before), Ok(after)) = (named(&was), named(&is)) else {
            return vec![reason("file", name, how)];
        };
        if name == "environment" {
            return variables(own, old, &before, &after);
        }
        let files = files(own, &is, &before, &after);
        if !files.is_empty() {
            return files;
        }
    }
    if !is.from.is_empty() || !was.from.is_empty() {
        return vec![input(own, old, &was, &is)];
    }
    if let Some(target) = name.strip_prefix("mount ") {
        let word = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
        let kind = if is.value.is_empty() { word(&was.value) } else { word(&is.value) };
        let kind = if matches!(kind.as_str(), "secret" | "ssh") { kind } else { "mount".into() };
        return vec![reason(&kind, target, how)];
    }
    match name {
        "secret variables" => vec![reason("secret", is.value, how)],
        "command" => vec![reason("instruction", "", "its text changed")],
        name if name.starts_with("copy ") || name == "action" => {
            vec![reason("instruction", "", "its options changed")]
        }
        name => vec![reason("option", name, how)],
    }
}

/// What changed of `before`: name, and how.
fn changes(before: &Names, after: &Names) -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        match (before.get(name), after.get(name)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(_), Some(_)) => all.push((name.clone(), "changed")),
            (None, _) => all.push((name.clone(), "added")),
            (_, None) => all.push((name.clone(), "removed")),
        }
    }
    all
}

fn variables(own: &Trace, old: &Trace, before: &Names, after: &Names) -> Vec<Reason> {
    let given = |name: &str| own.arguments.contains(name) || old.arguments.contains(name);
    let all = changes(before, after).into_iter();
    all.map(|(name, how)| {
        let kind = if given(&name) { "argument" } else { "variable" };
        reason(kind, name, how)
    })
    .collect()
}

fn files(own: &Trace, is: &Kept, before: &Names, after: &Names) -> Vec<Reason> {
    let all = changes(before, after);
    // A folder is changed by what is in it; what is in it says more.
    let more = all.len().saturating_sub(FILES);
    let from = own.steps.iter().find(|s| s.vertex == is.from);
    let place = match from {
        Some(step) if step.found != "local" => format!(" in {}", step.name),
        _ => String::new(),
    };
    let mut found: Vec<Reason> = all
        .into_iter()
        .take(FILES)
        .map(|(name, how)| reason("file", name, format!("{how}{place}")))
        .collect();
    if more > 0 {
        found.push(reason("file", "", format!("{more} more differ{place}")));
    }
    found
}

/// What a step stands on, or takes from, is another.
fn input(own: &Trace, old: &Trace, was: &Kept, is: &Kept) -> Reason {
    let step = |trace: &Trace, kept: &Kept| {
        trace.steps.iter().find(|s| s.vertex == kept.from).cloned().unwrap_or_default()
    };
    let (before, now) = (step(old, was), step(own, is));
    let named = if now.name.is_empty() { &before.name } else { &now.name };
    if now.key.is_empty() && !now.found.is_empty() {
        let image = named.rsplit("FROM ").next().unwrap_or(named).to_owned();
        let detail = match before.found == now.found || before.found.is_empty() {
            true => format!("it was {}", before.name),
            false => format!("{} -> {}", before.found, now.found),
        };
        return reason("base", image, detail);
    }
    let detail = match now.outcome {
        Outcome::Ran => "it was done again and came to something else",
        _ => "what it came to is another than before",
    };
    reason("parent", named.clone(), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, value: &str, from: &str, list: &str) -> Kept {
        let text = str::to_owned;
        Kept { name: text(name), value: text(value), from: text(from), list: text(list) }
    }

    fn step(vertex: &str, name: &str, key: &str, parts: Vec<Kept>) -> Step {
        Step {
            vertex: vertex.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            parts,
            outcome: Outcome::Ran,
            ..Step::default()
        }
    }

    fn base(found: &str) -> Step {
        let name = "[1/2] FROM docker.io/library/busybox:latest";
        Step { found: found.to_owned(), ..step("base", name, "", Vec::new()) }
    }

    fn build(steps: Vec<Step>) -> Trace {
        let arguments = BTreeSet::from(["WHO".to_owned()]);
        Trace { project: "p".into(), arguments, steps, ..Trace::default() }
    }

    fn lists(digest: &str) -> Result<Names> {
        let pairs: &[(&str, &str)] = match digest {
            "files 1" => &[("a", "1"), ("b", "1")],
            "files 2" => &[("a", "2"), ("c", "1")],
            "env 1" => &[("WHO", "1"), ("PATH", "1")],
            "env 2" => &[("WHO", "2"), ("PATH", "1"), ("NEW", "1")],
            _ => return Err(base::Error::not_found("no such list")),
        };
        Ok(pairs.iter().map(|(n, h)| ((*n).to_owned(), (*h).to_owned())).collect())
    }

    /// What is said of the last step of `now`, `before` being the build before.
    #[track_caller]
    fn told(now: Trace, before: Trace) -> Vec<(String, String)> {
        let step = now.steps.last().unwrap().clone();
        let all = reasons(&now, &step, &[before], &lists);
        all.into_iter().map(|r| (r.kind, r.name)).collect()
    }

    fn pair(kind: &str, name: &str) -> (String, String) {
        (kind.to_owned(), name.to_owned())
    }

    const RUN: &str = "[2/2] RUN make";

    #[test]
    fn each_kind_of_change_has_its_reason() {
        let run = |key: &str, parts| build(vec![base("sha256:1"), step("run", RUN, key, parts)]);
        let root = || part("root", "c1", "base", "");
        let old = || run("k1", vec![root(), part("environment", "e1", "", "env 1")]);
        assert_eq!(told(old(), build(Vec::new())), [pair("new", "")]);
        assert_eq!(told(old(), old()), [pair("pruned", "")]);
        let now = run("k2", vec![root(), part("environment", "e2", "", "env 2")]);
        assert_eq!(told(now, old()), [pair("variable", "NEW"), pair("argument", "WHO")]);
        let mut now =
            run("k2", vec![part("root", "c2", "base", ""), part("environment", "e1", "", "env 1")]);
        now.steps[0] = base("sha256:2");
        assert_eq!(told(now, old()), [pair("base", "docker.io/library/busybox:latest")]);
        let secret = |value: &str| run(value, vec![root(), part("mount /s", value, "", "")]);
        assert_eq!(told(secret("secret a 0"), secret("secret b 0")), [pair("secret", "/s")]);
        assert_eq!(told(secret("ssh a"), run("x", vec![root()])), [pair("ssh", "/s")]);
        let mut asked = old();
        asked.steps[1].no_cache = true;
        assert_eq!(told(asked, old()), [pair("no-cache", "")]);
        let mut failed = old();
        failed.steps[1].outcome = Outcome::Failed;
        assert_eq!(told(old(), failed), [pair("failed-before", "")]);
        let mut other = old();
        other.steps[1].name = "[2/2] RUN make all".into();
        other.steps[1].key = "k3".into();
        assert_eq!(told(other.clone(), old()), [pair("instruction", "")]);
        other.project = "another".into();
        assert_eq!(told(other, old()), [pair("new", "")]);
    }

    #[test]
    fn files_and_steps_below_are_named() {
        let copy = |key: &str, list: &str| {
            let local = Step {
                found: "local".into(),
                ..step("ctx", "[internal] load build context", "", Vec::new())
            };
            build(vec![
                local,
                step(
                    "copy",
                    "[2/3] COPY . .",
                    key,
                    vec![part("content of copy", list, "ctx", list)],
                ),
            ])
        };
        let files = told(copy("k2", "files 2"), copy("k1", "files 1"));
        assert_eq!(files, [pair("file", "a"), pair("file", "b"), pair("file", "c")]);
        let above = |key: &str, chain: &str| {
            let mut all = copy(key, "files 1");
            let parts = vec![part("root", chain, "copy", "")];
            all.steps.push(step("run", "[3/3] RUN make", key, parts));
            all
        };
        assert_eq!(told(above("k2", "c2"), above("k1", "c1")), [pair("parent", "[2/3] COPY . .")]);
    }
}
