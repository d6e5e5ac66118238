//! The event stream: what the store committed, fanned out to whoever listens.
//!
//! Subscribe first, read the past from the store second, and skip what was seen: so nothing is lost
//! between the two. A reader that falls behind reads what it missed from the store instead of losing it.

use base::{Result, Timestamp};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use store::{Store, Stored};
use tokio::sync::broadcast;

/// How many events a slow reader may lag before it is sent back to the store.
const BUFFER: usize = 1024;
/// Rows read from the store at once: what a reader that has stopped holds on to.
const PAGE: u32 = 64;

/// The hub of events.
#[derive(Clone, Debug)]
pub struct Events {
    sender: broadcast::Sender<Stored>,
    store: Arc<Store>,
    count: Arc<AtomicU64>,
}

/// One reader of events: the past from the store, then what comes.
#[derive(Debug)]
pub struct Subscription {
    store: Arc<Store>,
    live: broadcast::Receiver<Stored>,
    past: std::collections::VecDeque<Stored>,
    /// Number of the last event handed out.
    seen: i64,
    since: Timestamp,
    until: Option<Timestamp>,
    catching_up: bool,
}

impl Events {
    pub(crate) fn new(store: &Arc<Store>) -> Self {
        let (sender, _) = broadcast::channel(BUFFER);
        let publish = sender.clone();
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        store.on_event(move |events| {
            counted.fetch_add(events.len() as u64, Ordering::Relaxed);
            for event in events {
                // No reader is no fault.
                let _ = publish.send(event.clone());
            }
        });
        Self { sender, store: Arc::clone(store), count }
    }

    /// Events since the start of this engine.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many readers there are.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Opens a reader. Without `since` it begins now; with `until` it ends there.
    pub fn subscribe(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Subscription {
        Subscription {
            live: self.sender.subscribe(),
            store: Arc::clone(&self.store),
            past: std::collections::VecDeque::new(),
            seen: 0,
            since: since.unwrap_or_else(Timestamp::now),
            until,
            catching_up: since.is_some(),
        }
    }
}

impl Subscription {
    /// The next event; `None` when `until` has come.
    ///
    /// # Errors
    /// Of the store.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Result<Option<Stored>> {
        loop {
            if let Some(event) = self.past.pop_front() {
                self.seen = self.seen.max(event.seq);
                return Ok(Some(event));
            }
            if self.catching_up {
                let until = self.until.unwrap_or_else(Timestamp::now);
                let page = self.store.read(|tx| tx.events(self.seen, self.since, until, PAGE))?;
                self.catching_up = page.len() == PAGE as usize;
                self.past = page.into();
                continue;
            }
            let now = Timestamp::now();
            let event = match self.until {
                Some(until) if until <= now => return Ok(None),
                Some(until) => match tokio::time::timeout(until.since(now), self.live.recv()).await
                {
                    Ok(received) => received,
                    Err(_) => return Ok(None),
                },
                None => self.live.recv().await,
            };
            match event {
                Ok(event) if event.seq <= self.seen => {}
                Ok(event) => self.past.push_back(event),
                Err(broadcast::error::RecvError::Lagged(_)) => self.catching_up = true,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::event::Event;

    #[tokio::test]
    async fn past_and_live_events_come_once_each_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("db")).unwrap());
        let events = Events::new(&store);
        let emit = |n: usize| {
            store
                .write(|tx| {
                    let _: () = tx.emit(Event::new("container", n.to_string(), "x"));
                    Ok(())
                })
                .unwrap();
        };
        (0..700).for_each(emit);
        let mut reader = events.subscribe(Some(Timestamp::ZERO), None);
        // More than the live buffer holds, so that the reader has to go back to the store.
        (700..3000).for_each(emit);
        for n in 0..3000 {
            assert_eq!(reader.next().await.unwrap().unwrap().event.action, n.to_string());
        }
        let mut past = events.subscribe(Some(Timestamp::ZERO), Some(Timestamp::now()));
        let mut count = 0;
        while past.next().await.unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3000);
    }
}
