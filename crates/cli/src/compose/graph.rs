//! Work on services, at once where none waits for another.

use crate::error::{Fail, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Condvar, Mutex, PoisonError},
};

/// For each thing those that have to be done before.
pub(crate) type Before = BTreeMap<String, Vec<String>>;

#[derive(Default)]
struct State {
    done: BTreeSet<String>,
    running: usize,
    failed: Option<Fail>,
}

/// Does `work` to everything in `before`. After a failure nothing more is begun; what runs is waited for.
pub(crate) fn in_order(
    before: &Before,
    most: usize,
    work: impl Fn(&str) -> Result<()> + Sync,
) -> Result<()> {
    if let [only] = before.keys().collect::<Vec<_>>().as_slice() {
        return work(only);
    }
    let state = Mutex::new(State::default());
    let changed = Condvar::new();
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for (name, needs) in before {
            let (lock, changed, work) = (&lock, &changed, &work);
            scope.spawn(move || {
                // What is not worked on is not waited for.
                let ready = |s: &State| {
                    needs.iter().all(|n| s.done.contains(n) || !before.contains_key(n))
                        && s.running < most
                };
                let mut now = lock();
                while now.failed.is_none() && !ready(&now) {
                    now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                }
                if now.failed.is_some() {
                    return;
                }
                now.running += 1;
                drop(now);
                let ended = work(name);
                let mut now = lock();
                now.running -= 1;
                match ended {
                    Ok(()) => {
                        now.done.insert(name.clone());
                    }
                    Err(fail) => {
                        now.failed.get_or_insert(fail);
                    }
                }
                drop(now);
                changed.notify_all();
            });
        }
    });
    state.into_inner().unwrap_or_else(PoisonError::into_inner).failed.map_or(Ok(()), Err)
}

/// The same graph from its other end.
pub(crate) fn reversed(before: &Before) -> Before {
    let mut out: Before = before.keys().map(|k| (k.clone(), Vec::new())).collect();
    for (name, needs) in before {
        for need in needs {
            if let Some(list) = out.get_mut(need) {
                list.push(name.clone());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Before {
        let own = |n: &&str| (*n).to_owned();
        edges
            .iter()
            .map(|(name, needs)| ((*name).to_owned(), needs.iter().map(own).collect()))
            .collect()
    }

    #[test]
    fn nothing_is_begun_before_what_it_needs() {
        let before =
            graph(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d", "elsewhere"]), ("d", &[])]);
        for most in [1, 8] {
            let order = Mutex::new(Vec::new());
            in_order(&before, most, |name| {
                order.lock().unwrap().push(name.to_owned());
                Ok(())
            })
            .unwrap();
            let order = order.into_inner().unwrap();
            let at = |n: &str| order.iter().position(|o| o == n).unwrap();
            assert!(
                at("d") < at("b") && at("d") < at("c") && at("b") < at("a") && at("c") < at("a")
            );
        }
        assert_eq!(reversed(&before)["d"], ["b", "c"]);
        assert!(reversed(&before)["a"].is_empty());
    }

    #[test]
    fn what_needs_a_failure_is_not_begun() {
        let before = graph(&[("a", &["b"]), ("b", &[]), ("c", &["a"])]);
        let begun = Mutex::new(Vec::new());
        let failed = in_order(&before, 8, |name| {
            begun.lock().unwrap().push(name.to_owned());
            Err(Fail::new(format!("{name} fails")))
        });
        assert_eq!(failed.unwrap_err().message, "b fails");
        assert_eq!(begun.into_inner().unwrap(), ["b"]);
    }
}
