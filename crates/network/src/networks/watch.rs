//! Watching over the packet filter and over links of former endpoints.

use super::Networks;
use crate::Repair;
use base::{Error, Result};
use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};
use sys::nft::Nft;

/// How often links of former endpoints are looked after while there are any.
const RESTLESS: Duration = Duration::from_secs(1);
/// How often everything is looked after when nothing happens: elements that someone took one by one, say.
const IDLE: Duration = Duration::from_secs(30);
/// Pause after a repair, doubled while others go on taking: between these two.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// After this long without a repair the next one is made at once.
const CALM: Duration = Duration::from_secs(10);

impl Networks {
    /// Watches over the packet filter and over links of former endpoints until `stop` is readable or closed:
    /// rules that someone flushed are back within a moment. Blocks; to be run on a thread of its own. What
    /// was mended is logged, and handed to `tell` when it was a matter of rules.
    ///
    /// # Errors
    /// Of the kernel, when watching itself fails.
    pub fn watch(&self, stop: BorrowedFd<'_>, tell: impl Fn(&Repair)) -> Result<()> {
        let failed = |e: sys::netlink::Error| {
            Error::internal(e.to_string()).caused_by(std::io::Error::from(e.errno))
        };
        let mut changes = Nft::watch().map_err(failed)?;
        let (mut mended, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            let restless = self.planes().iter().any(|(_, plane)| plane.restless());
            let patience = if restless { RESTLESS } else { IDLE };
            let wait = |patience| {
                sys::port::wait(stop, changes.socket(), patience).map_err(|errno| {
                    Error::io("cannot wait for changes of the packet filter", errno.into())
                })
            };
            let (stopped, changed) = wait(patience)?;
            if stopped {
                return Ok(());
            }
            let tables: Vec<_> = self.planes().iter().flat_map(|(_, p)| p.tables()).collect();
            let ours = changed && changes.wait_for_change(&tables).map_err(failed)?;
            if !ours && mended.elapsed() < patience {
                continue;
            }
            // Someone who takes our rules again and again gets them back slowly, or both would do nothing else.
            let rest = pause.saturating_sub(mended.elapsed());
            if ours && !rest.is_zero() && sys::port::wait(stop, stop, rest).is_ok_and(|(s, _)| s) {
                return Ok(());
            }
            let repair = self.mend();
            pause = match repair.firewall() {
                true => (pause * 2).clamp(PAUSE.0, PAUSE.1),
                false if mended.elapsed() > CALM => Duration::ZERO,
                false => pause,
            };
            repair.log();
            if repair.firewall() {
                tell(&repair);
            }
            mended = Instant::now();
        }
    }
}
