//! What is written down of a request: the audit record, and the notifications it gives rise to.

use super::Cx;
use crate::{
    auth::Action,
    events::Event,
    meta::{Audit, Tx},
};
use base::{Digest, Result, Timestamp};
use http::header;

/// What happened, to be written in the transaction that makes it happen.
#[derive(Debug)]
pub(crate) struct Record {
    audit: Audit,
    /// Endpoint and body.
    letters: Vec<(String, String)>,
}

/// What a request did to what.
#[derive(Debug, Default)]
pub(crate) struct Deed<'a> {
    /// `pull`, `push`, `mount`, `delete`.
    pub(crate) action: &'a str,
    /// Tag or digest that was asked for; of a mount, where from.
    pub(crate) reference: &'a str,
    pub(crate) digest: Option<&'a Digest>,
    pub(crate) media_type: &'a str,
    pub(crate) size: u64,
    /// `manifests` or `blobs`.
    pub(crate) kind: &'a str,
}

impl Record {
    pub(crate) fn write(&self, tx: &Tx<'_>) -> Result<()> {
        tx.audit(&self.audit)?;
        for (endpoint, body) in &self.letters {
            tx.post(endpoint, body, self.audit.at)?;
        }
        Ok(())
    }
}

/// Client-supplied text, bounded for the record.
fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

impl Cx {
    pub(crate) fn record(&self, deed: &Deed<'_>) -> Record {
        let repository = self.repository.as_ref().map(|r| r.as_str()).unwrap_or_default();
        let at = Timestamp::now();
        let audit = Audit {
            at,
            action: deed.action.to_owned(),
            repository: repository.to_owned(),
            reference: cut(deed.reference, 256),
            digest: deed.digest.map(|d| d.as_str().to_owned()).unwrap_or_default(),
            size: deed.size,
            who: self.caller.name().to_owned(),
            address: self.address.clone(),
            client: cut(self.client(), 256),
            request: self.id.clone(),
        };
        let letters = if self.site.events.is_quiet() {
            Vec::new()
        } else {
            let url = deed
                .digest
                .map(|d| format!("{}/v2/{repository}/{}/{d}", self.own_url(), deed.kind))
                .unwrap_or_default();
            self.site.events.letters(&Event {
                at,
                action: deed.action,
                repository,
                reference: deed.reference,
                digest: deed.digest,
                media_type: deed.media_type,
                size: deed.size,
                url: &url,
                request: &self.id,
                address: &self.address,
                host: self.header(header::HOST).unwrap_or_default(),
                method: self.parts.method.as_str(),
                client: &audit.client,
                actor: self.caller.name(),
            })
        };
        Record { audit, letters }
    }

    /// Writes down what was read, without making the client wait for it.
    pub(crate) fn record_later(&self, deed: &Deed<'_>) {
        let record = self.record(deed);
        self.site.database.later(move |tx| record.write(tx));
    }

    /// Writes down that somebody known was refused.
    pub(crate) fn denied(&self, action: Action, reference: &str) {
        let what = format!("{} {reference}", action.name());
        self.record_audit_later("denied", &what);
    }

    /// A record that nobody is notified of.
    pub(crate) fn record_audit_later(&self, action: &str, reference: &str) {
        let mut record = self.record(&Deed { action, reference, ..Deed::default() });
        record.letters.clear();
        self.site.database.later(move |tx| record.write(tx));
    }
}
