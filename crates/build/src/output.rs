//! What a build tells its client, in docker's words, as messages for the JSON stream.
//!
//! Clients find the image by the exact texts (`Successfully built 0123456789ab`), so they are all here.

use base::ImageId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The builder's own text, or what a command printed.
    Stdout(String),
    /// What a command printed on its standard error; shown red.
    Stderr(String),
    /// The image of a stage.
    Aux(ImageId),
    /// Progress of a download or pull, in docker's shape.
    Progress(Value),
}

impl Message {
    /// The message as docker's JSON.
    pub fn json(&self) -> Value {
        match self {
            Self::Stdout(text) => json!({ "stream": text }),
            Self::Stderr(text) => json!({ "stream": format!("\u{1b}[91m{text}\u{1b}[0m") }),
            Self::Aux(id) => json!({ "aux": { "ID": id.to_string() } }),
            Self::Progress(value) => value.clone(),
        }
    }
}

/// Where the messages of a build, or of one of its stages, go. A reader who is gone ends nothing.
#[derive(Clone, Debug)]
pub struct Output(mpsc::Sender<Message>);

impl Output {
    /// Messages to `sender`; a slow reader slows the build.
    pub fn new(sender: mpsc::Sender<Message>) -> Self {
        Self(sender)
    }

    /// Sends a message.
    pub async fn send(&self, message: Message) {
        // The client may be gone; the build is then stopped by its owner, not by a failed message.
        let _gone = self.0.send(message).await;
    }

    /// Sends a message from a thread that may block.
    pub fn send_blocking(&self, message: Message) {
        let _gone = self.0.blocking_send(message);
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The builder's own text.
    pub async fn text(&self, text: impl Into<String>) {
        self.send(Message::Stdout(text.into())).await;
    }

    /// `Step 2/5 : RUN x`
    pub(crate) async fn step(&self, number: usize, total: usize, code: &str) {
        self.text(format!("Step {number}/{total} : {code}")).await;
        self.text("\n").await;
    }

    /// ` ---> 0123456789ab`
    pub(crate) async fn result(&self, id: Option<&ImageId>) {
        self.text(format!(" ---> {}\n", id.map_or("", |id| short(id)))).await;
    }

    /// ` ---> Running in 0123456789ab`
    pub(crate) async fn running(&self, container: &str) {
        self.text(format!(" ---> Running in {}\n", &container[..12.min(container.len())])).await;
    }

    /// ` ---> Removed intermediate container 0123456789ab`
    pub(crate) async fn removed(&self, container: &str) {
        let short = &container[..12.min(container.len())];
        self.text(format!(" ---> Removed intermediate container {short}\n")).await;
    }
}

/// First twelve digits of an image id.
pub fn short(id: &ImageId) -> &str {
    id.short()
}
