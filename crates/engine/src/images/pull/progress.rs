//! What a pull says while it works, in the words that clients look for.

use super::Pull;
use crate::images::{
    Voice,
    transfers::{Arrived, Phase, Wanted, copied},
};
use base::{Error, Platform, Reference, Result};
use image::ConfigBlob;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two messages of one layer's bytes.
const TELL_EVERY: Duration = Duration::from_millis(100);

impl Voice {
    /// A line without id.
    pub(super) async fn plain(&self, status: &str) {
        self.say(json!({ "status": status })).await;
    }

    async fn progress(&self, id: &str, status: &str, current: u64, total: u64) {
        let detail = json!({ "current": current, "total": total });
        self.say(json!({ "status": status, "progressDetail": detail, "id": id })).await;
    }

    /// Warns of an image that is not for the platform that was asked for.
    pub(super) async fn mismatch(
        &self,
        reference: &Reference,
        config: &ConfigBlob,
        wanted: Option<&Platform>,
    ) {
        let actual = config.config().platform();
        if let Some(wanted) = wanted.filter(|wanted| !actual.satisfies(wanted)) {
            self.plain(&format!(
                "WARNING: image with reference {} was found but does not match the specified platform: wanted {wanted}, actual: {actual}",
                reference.familiar()
            ))
            .await;
        }
    }
}

/// Follows a layer to its end and says where it is. When somebody else's transfer fails, this pull tries
/// itself: it may have another registry or better credentials.
pub(super) async fn follow(pull: &Pull<'_>, wanted: &Wanted) -> Result<Arc<Arrived>> {
    let (voice, id) = (&pull.voice, wanted.descriptor.digest.short());
    let total = wanted.descriptor.size;
    loop {
        let (mut follower, others) = pull.transfers.join(wanted);
        let mut told = Instant::now();
        let (mut complete, mut waiting) = (false, false);
        loop {
            let phase = follower.phase.borrow_and_update().clone();
            let is_end = matches!(phase, Phase::Downloaded | Phase::Extracting(_) | Phase::Done(_));
            if is_end && !complete {
                complete = true;
                voice.of(id, "Verifying Checksum").await;
                voice.of(id, "Download complete").await;
            }
            match phase {
                Phase::Waiting if !waiting => {
                    waiting = true;
                    voice.of(id, "Waiting").await;
                }
                Phase::Downloading(current) if told.elapsed() >= TELL_EVERY || current == total => {
                    told = Instant::now();
                    voice.progress(id, "Downloading", current, total).await;
                }
                Phase::Extracting(current) if told.elapsed() >= TELL_EVERY || current == total => {
                    told = Instant::now();
                    voice.progress(id, "Extracting", current, total).await;
                }
                Phase::Retrying(wait) => {
                    let seconds = wait.as_secs().max(1);
                    let plural = if seconds == 1 { "" } else { "s" };
                    voice.of(id, &format!("Retrying in {seconds} second{plural}")).await;
                }
                Phase::Done(arrived) => return Ok(arrived),
                Phase::Failed(_) if others => break,
                Phase::Failed(err) => return Err(copied(&err)),
                _ => {}
            }
            if follower.phase.changed().await.is_err() {
                return Err(Error::internal("internal error: the transfer of a layer broke off"));
            }
        }
    }
}
