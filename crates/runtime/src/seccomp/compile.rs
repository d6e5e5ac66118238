//! Rules to program: per entry a map from number to verdict, made into ranges, made into a search tree.

use super::{
    Action, Arch, Profile, Program, Rule,
    arch::X32_BIT,
    assemble::{self, Code, Place},
    profile::Condition,
};
use crate::defaults::Capabilities;
use base::{Error, Result};
use std::collections::BTreeMap;

/// The kernel's limit.
const MOST: usize = 4096;
const ENOSYS: u32 = 38;

/// What happens with one number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict<'a> {
    /// Tried in order; the first whose conditions hold decides.
    conditional: Vec<(&'a [Condition], Action)>,
    otherwise: Action,
}

impl Verdict<'_> {
    fn plain(action: Action) -> Self {
        Self { conditional: Vec::new(), otherwise: action }
    }
}

/// Verdicts by the number from which on they count.
type Ranges<'a> = Vec<(u32, Verdict<'a>)>;

/// Compiles `profile` for a container with `capabilities` (its bounding set) on `arch`.
///
/// # Errors
/// `Invalid` when the profile is larger than a kernel filter may be, or names a bad kernel version.
pub fn compile(profile: &Profile, capabilities: Capabilities, arch: Arch) -> Result<Program> {
    let rules = profile.rules(capabilities, arch)?;
    let mut code = Code::default();
    let mut audits: Vec<u32> = profile.entries.iter().map(|e| e.audit()).collect();
    audits.sort_unstable();
    audits.dedup();
    // The machine's own entry is asked for first: it is the one that is used.
    audits.sort_by_key(|audit| *audit == arch.audit());
    // An entry that the profile does not name.
    let mut place = code.answer(Action::KillProcess.value());
    for audit in audits {
        let wide = profile.entries.iter().any(|e| e.audit() == audit && e.wide());
        let ranges = ranges(profile, &rules, audit);
        let mut tree = Tree { code: &mut code, wide, made: Vec::new() };
        let body = tree.search(&ranges);
        let body = code.then(assemble::LOAD, assemble::NUMBER, body);
        place = code.branch(assemble::JUMP_EQUAL, audit, body, place);
    }
    code.then(assemble::LOAD, assemble::ARCH, place);
    let instructions = code.finish();
    if instructions.len() > MOST {
        return Err(Error::invalid(format!(
            "seccomp profile needs {} instructions, the kernel takes {MOST}",
            instructions.len()
        )));
    }
    Ok(Program { instructions, flags: profile.flags })
}

/// All entries with this audit number, together.
fn ranges<'a>(profile: &Profile, rules: &[&'a Rule], audit: u32) -> Ranges<'a> {
    let mut ranges = Vec::new();
    for entry in profile.entries.iter().filter(|e| e.audit() == audit) {
        let first = if *entry == Arch::X32 { X32_BIT } else { 0 };
        ranges.extend(entry_ranges(profile, rules, *entry, first));
    }
    if audit == Arch::X32.audit() && !profile.entries.contains(&Arch::X32) {
        ranges.push((X32_BIT, Verdict::plain(Action::KillProcess)));
    }
    ranges.sort_by_key(|(start, _)| *start);
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

/// What the rules say about one number.
#[derive(Default)]
struct Found<'a> {
    conditional: Vec<(&'a [Condition], Action)>,
    otherwise: Option<Action>,
}

/// From which number on which verdict counts, over one entry's numbers from `first`.
fn entry_ranges<'a>(profile: &Profile, rules: &[&'a Rule], entry: Arch, first: u32) -> Ranges<'a> {
    let numbers = entry.numbers();
    let mut verdicts: BTreeMap<u32, Found<'a>> = BTreeMap::new();
    for rule in rules {
        // A rule that says what happens anyway would only hide later ones.
        if rule.action == profile.default_action && rule.conditions.is_empty() {
            continue;
        }
        for name in &rule.names {
            let Some(number) = numbers.get(name.as_str()) else { continue };
            let verdict = verdicts.entry(*number).or_default();
            if rule.conditions.is_empty() {
                verdict.otherwise.get_or_insert(rule.action);
            } else {
                verdict.conditional.push((&rule.conditions, rule.action));
            }
        }
    }
    // ARM's own numbers stand far above the common ones and do not tell how new the profile is.
    let newest = verdicts.keys().rev().find(|n| *n & !X32_BIT < 0xF_0000).copied();
    let mut ranges = vec![(first, Verdict::plain(profile.default_action))];
    for (number, Found { mut conditional, otherwise }) in verdicts {
        let otherwise = otherwise.unwrap_or(profile.default_action);
        // Conditions that lead where everything leads need not be looked at.
        if conditional.iter().all(|(_, action)| *action == otherwise) {
            conditional.clear();
        }
        ranges.push((number, Verdict { conditional, otherwise }));
        ranges.push((number + 1, Verdict::plain(profile.default_action)));
    }
    // compat(runc): numbers that the profile's author could not know answer ENOSYS.
    if let (Action::Errno(errno), Some(newest)) = (profile.default_action, newest)
        && errno != ENOSYS
    {
        ranges.push((newest + 1, Verdict::plain(Action::Errno(ENOSYS))));
    }
    // Of two that begin at one number the later counts.
    ranges.sort_by_key(|(start, _)| *start);
    ranges.reverse();
    ranges.dedup_by_key(|(start, _)| *start);
    ranges.reverse();
    ranges
}

/// Builds the search over one entry's numbers.
struct Tree<'c, 'a> {
    code: &'c mut Code,
    wide: bool,
    /// Conditional verdicts that are there already.
    made: Vec<(Verdict<'a>, Place)>,
}

impl<'a> Tree<'_, 'a> {
    /// `if number < middle { left } else { right }`.
    fn search(&mut self, ranges: &[(u32, Verdict<'a>)]) -> Place {
        match ranges {
            [] => self.code.answer(Action::KillProcess.value()),
            [(_, verdict)] => self.leaf(verdict),
            _ => {
                let (left, right) = ranges.split_at(ranges.len() / 2);
                let not_less = self.search(right);
                let less = self.search(left);
                self.code.branch(assemble::JUMP_NOT_LESS, right[0].0, not_less, less)
            }
        }
    }

    fn leaf(&mut self, verdict: &Verdict<'a>) -> Place {
        if verdict.conditional.is_empty() {
            return self.code.answer(verdict.otherwise.value());
        }
        if let Some((_, place)) = self.made.iter().find(|(made, _)| made == verdict) {
            return *place;
        }
        let mut place = self.code.answer(verdict.otherwise.value());
        for (conditions, action) in verdict.conditional.iter().rev() {
            let no = place;
            place = self.code.answer(action.value());
            for condition in conditions.iter().rev() {
                place = self.code.check(condition, self.wide, place, no);
            }
        }
        self.made.push((verdict.clone(), place));
        place
    }
}
