//! The reply of a build: messages, a last word, errors; before the first message an error is the request's.

use base::{Error, Kind};
use build::{output::Message, solve::Failure};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

/// Output that a quiet build keeps for the case that it fails.
const KEPT_MESSAGES: usize = 10_000;

/// Where the messages of a build go.
pub(super) struct Stream {
    sender: mpsc::Sender<Value>,
    /// With `-q` nothing is told unless it fails.
    kept: Option<Vec<Value>>,
    told: bool,
    failed: Option<oneshot::Sender<Error>>,
}

impl Stream {
    pub(super) fn new(
        sender: mpsc::Sender<Value>,
        quiet: bool,
        failed: oneshot::Sender<Error>,
    ) -> Self {
        Self { sender, kept: quiet.then(Vec::new), told: false, failed: Some(failed) }
    }

    pub(super) async fn send(&mut self, message: &Message) {
        let value = message.json();
        match &mut self.kept {
            Some(kept) if kept.len() < KEPT_MESSAGES => kept.push(value),
            Some(_) => {}
            None => self.put(value).await,
        }
    }

    async fn put(&mut self, value: Value) {
        self.told = true;
        // A client that is gone is noticed by `is_gone`.
        let _gone = self.sender.send(value).await;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.sender.is_closed()
    }

    /// The one message of a quiet build.
    pub(super) async fn last(&mut self, text: String) {
        self.put(json!({ "stream": text })).await;
    }

    /// Ends with an error.
    pub(super) async fn fail(mut self, failure: Failure) {
        for value in self.kept.take().unwrap_or_default() {
            self.put(value).await;
        }
        if !self.told && failure.error.kind() != Kind::Cancelled {
            if let Some(failed) = self.failed.take() {
                let _gone = failed.send(failure.error);
            }
            return;
        }
        let message = failure.to_string();
        let mut detail = json!({ "message": message });
        if let Some(code) = failure.code {
            detail = json!({ "code": code, "message": message });
        }
        self.put(json!({ "errorDetail": detail, "error": message })).await;
    }
}
