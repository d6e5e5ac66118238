//! Notifications to other programs, in the format of Docker's registry.
//!
//! Flow: a handler makes [letters](Events::letters) and puts them into the outbox in the transaction of what they
//! tell of; one task per endpoint sends them in order, several in one envelope, and takes them out when the
//! endpoint has said yes. A letter is sent again until then, so that an endpoint may see one twice (it knows
//! it by its `id`), but never misses one, except when the outbox has grown beyond its bound.
//!
//! Endpoints are the operator's own words, so that nobody else can make the registry call an address;
//! redirects are not followed.
//! Source: distribution `docs/content/about/notifications.md`; `notifications/event.go` (fields).

use crate::meta::Database;
use base::{Digest, Error, Result, Timestamp};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The envelope's media type.
const ENVELOPE: &str = "application/vnd.docker.distribution.events.v1+json";
/// Events in one envelope.
const IN_ONE: usize = 50;
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Letters that wait for one endpoint, at most; the oldest are dropped beyond it.
pub(crate) const OUTBOX: usize = 100_000;

/// Somebody who is notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name here.
    pub name: String,
    /// Where it listens.
    pub url: String,
    /// Sent with every envelope.
    pub headers: BTreeMap<String, String>,
    /// It must have answered by then.
    pub timeout: Duration,
    /// Pause after the first failure; doubled after each further one.
    pub backoff: Duration,
    /// Actions that it does not want to hear of.
    pub ignore_actions: Vec<String>,
    /// Media types of things that it does not want to hear of.
    pub ignore_media_types: Vec<String>,
}

/// What is told.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) at: Timestamp,
    pub(crate) action: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) reference: &'a str,
    pub(crate) digest: Option<&'a Digest>,
    pub(crate) media_type: &'a str,
    pub(crate) size: u64,
    pub(crate) url: &'a str,
    pub(crate) request: &'a str,
    pub(crate) address: &'a str,
    pub(crate) host: &'a str,
    pub(crate) method: &'a str,
    pub(crate) client: &'a str,
    pub(crate) actor: &'a str,
}

/// All endpoints, and who tells them.
#[derive(Debug)]
pub struct Events {
    endpoints: Vec<Endpoint>,
    /// Name of this machine and port, for the events' source.
    source: String,
    instance: String,
    news: Arc<Notify>,
}

impl Events {
    /// For `endpoints`, told by `source`.
    pub fn new(endpoints: Vec<Endpoint>, source: String) -> Self {
        let instance = crate::http::random_name::<6>();
        Self { endpoints, source, instance, news: Arc::new(Notify::new()) }
    }

    /// Tells this run of the registry from others.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether nobody is notified.
    pub(crate) fn is_quiet(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Names of all endpoints.
    pub(crate) fn names(&self) -> Vec<String> {
        self.endpoints.iter().map(|e| e.name.clone()).collect()
    }

    /// One letter for every endpoint that wants to hear of it: endpoint, body.
    pub(crate) fn letters(&self, event: &Event<'_>) -> Vec<(String, String)> {
        let wants = |endpoint: &&Endpoint| {
            !endpoint.ignore_actions.iter().any(|a| a == event.action)
                && !endpoint.ignore_media_types.iter().any(|m| m == event.media_type)
        };
        let wanting: Vec<&Endpoint> = self.endpoints.iter().filter(wants).collect();
        if wanting.is_empty() {
            return Vec::new();
        }
        let body = self.body(event).to_string();
        wanting.iter().map(|e| (e.name.clone(), body.clone())).collect()
    }

    fn body(&self, event: &Event<'_>) -> serde_json::Value {
        let mut target = json!({"repository": event.repository});
        if !event.media_type.is_empty() {
            target["mediaType"] = event.media_type.into();
            target["size"] = event.size.into();
            target["length"] = event.size.into();
        }
        if let Some(digest) = event.digest {
            target["digest"] = digest.as_str().into();
            target["url"] = event.url.into();
        }
        if event.action == "mount" {
            target["fromRepository"] = event.reference.into();
        } else if !event.reference.is_empty() && !event.reference.contains(':') {
            target["tag"] = event.reference.into();
        }
        let actor = if event.actor.is_empty() { json!({}) } else { json!({"name": event.actor}) };
        json!({
            "id": uuid(),
            "timestamp": event.at.to_string(),
            "action": event.action,
            "target": target,
            "request": {
                "id": event.request, "addr": event.address, "host": event.host, "method": event.method,
                "useragent": event.client,
            },
            "actor": actor,
            "source": {"addr": self.source, "instanceID": self.instance},
        })
    }

    /// There may be letters.
    pub(crate) fn wake(&self) {
        if !self.is_quiet() {
            self.news.notify_waiters();
        }
    }

    /// Starts the tasks that send, which end with `stop`.
    ///
    /// # Errors
    /// `Internal` when no client can be made.
    pub(crate) fn deliver(
        &self,
        database: &Arc<Database>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<()> {
        for endpoint in &self.endpoints {
            let client = reqwest::Client::builder()
                .timeout(endpoint.timeout)
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|e| {
                    Error::internal("cannot make a client for notifications").caused_by(e)
                })?;
            let sender = Sender {
                endpoint: endpoint.clone(),
                client,
                database: Arc::clone(database),
                news: Arc::clone(&self.news),
            };
            tasks.spawn(sender.run(stop.clone()));
        }
        Ok(())
    }
}

/// A random UUID, version 4.
fn uuid() -> String {
    let hex = crate::http::random_name::<16>();
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

struct Sender {
    endpoint: Endpoint,
    client: reqwest::Client,
    database: Arc<Database>,
    news: Arc<Notify>,
}

impl Sender {
    async fn run(self, stop: CancellationToken) {
        let mut pause = self.endpoint.backoff;
        loop {
            let news = self.news.notified();
            let wait = match self.send().await {
                Ok(true) => {
                    pause = self.endpoint.backoff;
                    continue;
                }
                // Also those that another path put there without a word.
                Ok(false) => Duration::from_secs(1),
                Err(err) => {
                    let endpoint = self.endpoint.name.as_str();
                    tracing::warn!(endpoint, err = err.chain(), "notifications wait");
                    let now = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tokio::select! {
                        () = tokio::time::sleep(now) => {}
                        () = stop.cancelled() => return,
                    }
                    continue;
                }
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Sends the oldest letters; whether there were any.
    async fn send(&self) -> Result<bool> {
        let name = self.endpoint.name.clone();
        let letters = self.database.read(move |tx| tx.letters(&name, IN_ONE)).await?;
        let Some(last) = letters.last().map(|l| l.seq) else { return Ok(false) };
        let events: Vec<&str> = letters.iter().map(|l| l.body.as_str()).collect();
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        let mut request = self.client.post(&self.endpoint.url).body(body);
        for (key, value) in &self.endpoint.headers {
            request = request.header(key, value);
        }
        let answer = request.header("Content-Type", ENVELOPE).send().await.map_err(|e| {
            Error::unavailable("cannot reach the endpoint").caused_by(e.without_url())
        })?;
        if !answer.status().is_success() {
            return Err(Error::unavailable(format!("the endpoint answered {}", answer.status())));
        }
        let name = self.endpoint.name.clone();
        self.database.write(move |tx| tx.delivered(&name, last)).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, ignored: &str) -> Endpoint {
        Endpoint {
            name: name.into(),
            url: "http://127.0.0.1:1/".into(),
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            ignore_actions: vec![ignored.into()],
            ignore_media_types: vec!["application/octet-stream".into()],
        }
    }

    #[test]
    fn everybody_hears_what_he_wants_to_in_dockers_words() {
        let events =
            Events::new(vec![endpoint("a", "pull"), endpoint("b", "push")], "h:5000".into());
        let digest = Digest::sha256(b"x");
        let mut event = Event {
            at: Timestamp::from_unix(1_700_000_000, 0),
            action: "push",
            repository: "team/app",
            reference: "v1",
            digest: Some(&digest),
            media_type: "application/vnd.oci.image.manifest.v1+json",
            size: 7,
            url: "http://h:5000/v2/team/app/manifests/x",
            request: "r1",
            address: "127.0.0.1",
            host: "h:5000",
            method: "PUT",
            client: "docker",
            actor: "carol",
        };
        let letters = events.letters(&event);
        assert_eq!(letters.iter().map(|(e, _)| e.as_str()).collect::<Vec<_>>(), ["a"]);
        let body: serde_json::Value = serde_json::from_str(&letters[0].1).unwrap();
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(body["target"]["tag"], "v1");
        assert_eq!(body["target"]["length"], 7);
        assert_eq!(body["actor"]["name"], "carol");
        assert_eq!(body["id"].as_str().map(str::len), Some(36));
        event.media_type = "application/octet-stream";
        assert!(events.letters(&event).is_empty());
    }
}
