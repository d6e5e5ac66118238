//! The search for an order that explains a record.

use super::{
    Ask, Status, Told,
    model::{self, NAMES, Note, State, Step},
};
use std::collections::{BTreeMap, HashSet};

/// One operation of one client: between `began` and `ended` it took effect, if at all. Times are numbers of one
/// counter that all clients share.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who.
    pub client: usize,
    /// What was asked.
    pub ask: Ask,
    /// What was told.
    pub told: Told,
    /// Before it was sent.
    pub began: u64,
    /// After it was answered.
    pub ended: u64,
}

/// A way in which everything up to now can have gone: the state, and how far each pending operation is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    state: State,
    /// By operation: steps done, and what they noted.
    pending: BTreeMap<usize, (usize, Note)>,
}

/// Looks for an order that explains `records`, which begin with no container at all.
///
/// # Errors
/// The first answer that no order explains, with what happened around it.
pub fn check(records: &[Record]) -> Result<(), String> {
    being_removed(records)?;
    let kept: Vec<Record> =
        records.iter().filter(|r| !lost_to_a_claim(r, records)).cloned().collect();
    let records = &kept[..];
    let mut moments: Vec<(u64, usize, bool)> = records
        .iter()
        .enumerate()
        .flat_map(|(n, r)| [(r.began, n, false), (r.ended, n, true)])
        .collect();
    moments.sort_unstable();
    let mut ways = HashSet::from([Way { state: [None; NAMES], pending: BTreeMap::new() }]);
    for (_, n, is_end) in moments {
        if !is_end {
            ways = ways
                .into_iter()
                .map(|mut way| {
                    way.pending.insert(n, (0, None));
                    way
                })
                .collect();
            continue;
        }
        let before = ways.clone();
        ways = finish(ways, n, records);
        if ways.is_empty() {
            return Err(story(records, n, &before));
        }
    }
    Ok(())
}

fn steps(records: &[Record], n: usize) -> &'static [Step] {
    model::steps(records[n].ask, &records[n].told)
}

/// The ways in which operation `n` is done, with any steps of others before it.
fn finish(ways: HashSet<Way>, n: usize, records: &[Record]) -> HashSet<Way> {
    let mut done = HashSet::new();
    let mut seen: HashSet<Way> = HashSet::new();
    let mut queue: Vec<Way> = ways.into_iter().collect();
    while let Some(way) = queue.pop() {
        if !seen.insert(way.clone()) {
            continue;
        }
        if way.pending.get(&n).is_some_and(|(at, _)| *at == steps(records, n).len()) {
            let mut over = way;
            over.pending.remove(&n);
            done.insert(over);
            continue;
        }
        for (other, (at, note)) in &way.pending {
            let Some(step) = steps(records, *other).get(*at) else { continue };
            let record = &records[*other];
            for (state, note) in model::apply(&way.state, (record.ask, &record.told, *step, *note))
            {
                let mut next = Way { state, pending: way.pending.clone() };
                // Whoever kills thaws again what another freezes meanwhile.
                if *step == Step::Thaw && next.state != way.state {
                    queue.push(next.clone());
                }
                next.pending.insert(*other, (at + 1, note));
                queue.push(next);
            }
        }
    }
    done
}

/// Whoever was refused because of a removal under way, or was shown one, overlapped one.
fn being_removed(records: &[Record]) -> Result<(), String> {
    let seen = |told: &Told| matches!(told, Told::BeingRemoved | Told::Seen(_, Status::Removing));
    for record in records.iter().filter(|r| seen(&r.told)) {
        let other = records.iter().any(|r| {
            matches!(r.ask, Ask::Remove(_) | Ask::RemoveForced(_))
                && !std::ptr::eq(r, record)
                && r.began < record.ended
                && r.ended > record.began
        });
        if !other {
            return Err(format!("nobody was removing anything: {record:?}"));
        }
    }
    Ok(())
}

/// Whether a name was refused that another had claimed and did not bear yet: it is taken before there is anything
/// to be found by it, as in Docker.
fn lost_to_a_claim(record: &Record, records: &[Record]) -> bool {
    let claims = |ask: Ask| match ask {
        Ask::Create(name) | Ask::Rename(_, name) => Some(name),
        _ => None,
    };
    record.told == Told::Conflict
        && claims(record.ask).is_some()
        && records.iter().any(|r| {
            !std::ptr::eq(r, record)
                && claims(r.ask) == claims(record.ask)
                && r.began < record.ended
                && r.ended > record.began
        })
}

fn story(records: &[Record], n: usize, before: &HashSet<Way>) -> String {
    let record = &records[n];
    let mut text = format!("no order explains {record:?}\naround it:\n");
    let mut near: Vec<&Record> = records
        .iter()
        .filter(|r| r.ended > record.began.saturating_sub(25) && r.began < record.ended)
        .collect();
    near.sort_by_key(|r| r.began);
    for r in near {
        text += &format!(
            "  {:>6} to {:>6}  client {}  {:?} -> {:?}\n",
            r.began, r.ended, r.client, r.ask, r.told
        );
    }
    text += "states that were possible:\n";
    let states: HashSet<&State> = before.iter().map(|w| &w.state).collect();
    for state in states.iter().take(12) {
        text += &format!("  {state:?}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(client: usize, (began, ended): (u64, u64), ask: Ask, told: Told) -> Record {
        Record { client, ask, told, began, ended }
    }

    fn done() -> Told {
        Told::Done(None)
    }

    #[test]
    fn what_happened_one_after_the_other_is_explained() {
        let records = [
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(7))),
            record(0, (3, 4), Ask::Start(0), done()),
            record(1, (5, 6), Ask::Inspect(0), Told::Seen(7, Status::Running)),
            record(0, (7, 8), Ask::Rename(0, 1), done()),
            record(1, (9, 10), Ask::Inspect(0), Told::Missing),
            record(1, (11, 12), Ask::Pause(1), done()),
            record(1, (13, 14), Ask::RemoveForced(1), done()),
            record(1, (15, 16), Ask::Start(1), Told::Missing),
        ];
        check(&records).unwrap();
    }

    #[test]
    fn a_start_that_is_seen_and_then_not_is_a_fault() {
        let mut records = vec![
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 9), Ask::Start(0), done()),
            record(1, (4, 5), Ask::Inspect(0), Told::Seen(1, Status::Running)),
            record(2, (6, 7), Ask::Inspect(0), Told::Seen(1, Status::Created)),
        ];
        assert!(check(&records).unwrap_err().contains("no order explains"));
        // The other way round it is none.
        records.swap(2, 3);
        (records[2].began, records[2].ended) = (4, 5);
        (records[3].began, records[3].ended) = (6, 7);
        check(&records).unwrap();
    }

    #[test]
    fn two_cannot_have_one_name_and_a_lost_stop_is_a_fault() {
        let twice = [
            record(0, (1, 4), Ask::Create(0), Told::Done(Some(1))),
            record(1, (2, 3), Ask::Create(0), Told::Done(Some(2))),
        ];
        check(&twice).unwrap_err();
        let lost = [
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 4), Ask::Start(0), done()),
            record(0, (5, 6), Ask::Stop(0), done()),
            record(0, (7, 8), Ask::Inspect(0), Told::Seen(1, Status::Running)),
        ];
        check(&lost).unwrap_err();
    }

    #[test]
    fn a_stop_and_a_kill_may_share_one_end() {
        let records = [
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 4), Ask::Start(0), done()),
            record(0, (5, 9), Ask::Stop(0), done()),
            record(1, (6, 8), Ask::Kill(0), done()),
            record(2, (10, 11), Ask::Kill(0), Told::Conflict),
        ];
        check(&records).unwrap();
    }

    #[test]
    fn a_refusal_for_a_removal_needs_one() {
        let records = [
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 4), Ask::Remove(0), Told::BeingRemoved),
        ];
        assert!(check(&records).unwrap_err().contains("nobody was removing"));
    }

    #[test]
    fn what_never_started_is_seen_being_removed_while_somebody_removes_it_and_only_then() {
        let mut records = vec![
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 6), Ask::Remove(0), done()),
            record(1, (4, 5), Ask::Inspect(0), Told::Seen(1, Status::Removing)),
        ];
        check(&records).unwrap();
        (records[2].began, records[2].ended) = (7, 8);
        check(&records).unwrap_err();
        records.truncate(2);
        records[1].ask = Ask::Start(0);
        records.push(record(1, (7, 8), Ask::Inspect(0), Told::Seen(1, Status::Removing)));
        assert!(check(&records).unwrap_err().contains("nobody was removing"));
    }

    #[test]
    fn a_name_given_back_by_a_removal_cannot_stay_taken() {
        let records = [
            record(0, (1, 2), Ask::Create(0), Told::Done(Some(1))),
            record(0, (3, 6), Ask::Remove(0), done()),
            record(1, (4, 7), Ask::Rename(0, 1), done()),
            record(0, (8, 9), Ask::Create(1), Told::Conflict),
        ];
        check(&records).unwrap_err();
    }
}
