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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Spec, drivers::bridge::bridge_name};
    use std::os::fd::AsFd as _;
    use store::Store;
    use sys::{
        netns::{self, within},
        nft::Family,
    };

    /// Who mends may hold a network that is removed meanwhile: its table must not come back.
    #[test]
    fn a_network_that_is_removed_is_not_mended_any_more() {
        let host = netns::create().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).unwrap();
        let story = || {
            let networks = Networks::open(&Config::with(None), &store).unwrap();
            let spec = Spec { driver: "bridge".into(), ipv4: true, ..Spec::default() };
            let made = networks.create(&store, "brief", spec, |_, _| Ok(())).unwrap().network;
            let table = format!("gantry-{}", bridge_name(&made.id, &made.spec));
            let rules = || Nft::open(Family::Ipv4).unwrap().rules(&table).unwrap();
            assert!(!rules().is_empty());
            let held = networks.planes();
            assert!(held.iter().any(|(live, _)| live.network.id == made.id));
            networks.remove(&store, "brief", |_, _| Ok(())).unwrap();
            assert!(rules().is_empty());
            held.iter().for_each(|(_, plane)| drop(plane.mend()));
            assert_eq!(rules(), Vec::<String>::new());
        };
        within(host.as_fd(), story).unwrap();
    }
}
