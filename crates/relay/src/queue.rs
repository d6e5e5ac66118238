//! Records between the thread that takes them and the one that sends them, and what became of them.

use crate::{Limit, Record};
use base::Timestamp;
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A record costs this much beside its line.
const OVERHEAD: u64 = 64;
/// What became of records is written down this often at most.
const REPORT: Duration = Duration::from_secs(1);

pub(crate) struct Queue {
    limit: Limit,
    report: PathBuf,
    state: Mutex<State>,
    more: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Record>,
    bytes: u64,
    busy: bool,
    ended: bool,
    sent: u64,
    dropped: u64,
    failed: u64,
    last_error: Option<(Timestamp, String)>,
    reported: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(limit: Limit, report: PathBuf) -> Self {
        Self { limit, report, state: Mutex::default(), more: Condvar::new(), room: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in; waits for room, or drops it, as the limit says. One record always fits.
    pub(crate) fn put(&self, record: Record) {
        let cost = record.line.len() as u64 + OVERHEAD;
        let mut state = self.lock();
        while state.bytes + cost > self.limit.bytes && !state.records.is_empty() {
            if self.limit.drops {
                state.dropped += 1;
                return self.report(&mut state, false);
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += cost;
        state.records.push_back(record);
        self.more.notify_one();
    }

    /// Output was dropped before it came here.
    pub(crate) fn gap(&self) {
        let mut state = self.lock();
        state.dropped += 1;
        self.report(&mut state, false);
    }

    /// The next record; `None` when there will be none.
    pub(crate) fn next(&self) -> Option<Record> {
        let mut state = self.lock();
        loop {
            if let Some(record) = state.records.pop_front() {
                state.bytes -= record.line.len() as u64 + OVERHEAD;
                state.busy = true;
                self.room.notify_all();
                return Some(record);
            }
            if state.ended {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What became of the record that was taken last.
    pub(crate) fn done(&self, sent: Result<(), String>) {
        let mut state = self.lock();
        state.busy = false;
        match sent {
            Ok(()) => state.sent += 1,
            Err(why) => {
                state.failed += 1;
                state.last_error = Some((Timestamp::now(), why));
                self.report(&mut state, false);
            }
        }
        self.room.notify_all();
    }

    /// Nothing more comes: waits until all is sent, as long as something is. False when it gave up.
    pub(crate) fn finish(&self, patience: Duration) -> bool {
        let mut state = self.lock();
        state.ended = true;
        self.more.notify_all();
        loop {
            if state.records.is_empty() && !state.busy {
                self.report(&mut state, true);
                return true;
            }
            let before = (state.sent, state.failed);
            let (after, _) = self
                .room
                .wait_timeout_while(state, patience, |s| (s.sent, s.failed) == before)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            if (state.sent, state.failed) == before {
                state.dropped += state.records.len() as u64 + u64::from(state.busy);
                self.report(&mut state, true);
                return false;
            }
        }
    }

    /// Writes down what became of records, when something was lost.
    fn report(&self, state: &mut State, last: bool) {
        let lost = state.dropped + state.failed > 0;
        let due = state.reported.is_none_or(|at| at.elapsed() >= REPORT);
        if !lost || !(due || last) {
            return;
        }
        state.reported = Some(Instant::now());
        let text = serde_json::json!({
            "sent": state.sent,
            "dropped": state.dropped,
            "failed": state.failed,
            "error": state.last_error.as_ref().map(|(_, why)| why),
            "errorAt": state.last_error.as_ref().map(|(at, _)| at.to_string()),
        });
        // For people to look at: without the folder the container is gone.
        let _ = std::fs::write(&self.report, format!("{text}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logging::Stream;

    fn record(text: &str) -> Record {
        Record {
            stream: Stream::Stdout,
            at: Timestamp::ZERO,
            line: text.as_bytes().to_vec(),
            partial: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("relay.json");
        let queue = Queue::new(Limit { bytes: 200, drops: true }, path.clone());
        for n in 0..5 {
            queue.put(record(&format!("{n}")));
        }
        queue.gap();
        for n in 0..3 {
            assert_eq!(queue.next().unwrap().line, format!("{n}").into_bytes());
            queue.done(if n == 1 { Err("no".into()) } else { Ok(()) });
        }
        assert!(queue.finish(Duration::ZERO));
        let text: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(
            (&text["sent"], &text["dropped"], &text["failed"]),
            (&2.into(), &3.into(), &1.into())
        );
        assert_eq!(text["error"], "no");
    }

    #[test]
    fn whoever_brings_records_waits_for_room() {
        let queue = Queue::new(Limit { bytes: 100, drops: false }, "/nonexistent/x".into());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50).for_each(|n| queue.put(record(&n.to_string()))));
            for n in 0..50 {
                assert_eq!(queue.next().unwrap().line, n.to_string().into_bytes());
                queue.done(Ok(()));
            }
        });
        assert!(queue.finish(Duration::ZERO));
    }
}
