//! Putting blobs: mounted from another repository of the registry, or sent.

use super::{Failed, Repository, repository::request};
use base::{Digest, Error};
use fetch::{Request, Upload};
use http::{Method, StatusCode, Uri, header};
use std::time::Duration;

/// The whole of a blob goes out before the answer comes; a day is for those who push over a telephone.
const SENT_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// A registry checks the whole blob before it answers the last request.
const CHECKED_WITHIN: Duration = Duration::from_secs(900);

/// An upload that the registry has opened.
#[derive(Debug)]
pub struct Uploading<'r> {
    repository: &'r Repository,
    location: Uri,
}

/// How an upload begins.
#[derive(Debug)]
pub enum Begun<'r> {
    /// The blob was there already, in the other repository.
    Mounted,
    /// It has to be sent.
    Open(Uploading<'r>),
}

impl Repository {
    /// Opens an upload; with `mount`, a digest and the path of another repository of the same registry, the
    /// registry may take the blob from there.
    ///
    /// # Errors
    /// When the registry refuses.
    pub async fn begin_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Begun<'_>, Failed> {
        let rest = match mount {
            Some((digest, from)) => format!("blobs/uploads/?mount={digest}&from={from}"),
            None => "blobs/uploads/".to_owned(),
        };
        let response = self.ask_again(&|e| request(Method::POST, e, &rest)).await?;
        if response.status() == StatusCode::CREATED && mount.is_some() {
            return Ok(Begun::Mounted);
        }
        let location = location(&response)?;
        Ok(Begun::Open(Uploading { repository: self, location }))
    }
}

fn location(response: &fetch::Response) -> Result<Uri, Failed> {
    let text = response
        .header(header::LOCATION)
        .ok_or_else(|| Error::internal("the registry opened an upload and did not say where"))?;
    Ok(fetch::url::join(response.uri(), text)?)
}

impl Uploading<'_> {
    /// Sends the blob's bytes. The upload is spent when that fails; a new one begins at the first byte.
    ///
    /// # Errors
    /// When the registry refuses or the way breaks.
    pub async fn send(&mut self, body: Upload) -> Result<(), Failed> {
        let endpoint = self.repository.writable();
        let mut patch = Request::new(Method::PATCH, self.location.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .answer_within(SENT_WITHIN)
            .upload(body);
        // A store that lies elsewhere has its own signature in the URL and sees no token.
        let own = fetch::url::parse(&endpoint.base)?;
        if fetch::url::same_origin(&own, &self.location)
            && let Some(value) = endpoint.authorizer.value()
        {
            patch = patch.authorization(&value);
        }
        let asked = patch.shown();
        let response = endpoint.client.send(patch).await?;
        if !response.status().is_success() {
            return Err(Failed::Refused(super::Refusal::read(asked, response).await));
        }
        self.location = location(&response)?;
        Ok(())
    }

    /// Ends the upload: the registry checks that it got the blob of this digest.
    ///
    /// # Errors
    /// When it did not.
    pub async fn finish(self, digest: &Digest) -> Result<(), Failed> {
        let separator = if self.location.query().is_some() { '&' } else { '?' };
        let uri = fetch::url::parse(&format!("{}{separator}digest={digest}", self.location))?;
        let own = fetch::url::parse(&self.repository.writable().base)?;
        if !fetch::url::same_origin(&own, &uri) {
            return Err(
                Error::forbidden("the registry wants an upload to be finished elsewhere").into()
            );
        }
        self.repository
            .ask(&|_| {
                Ok(Request::new(Method::PUT, uri.clone())
                    .header(header::CONTENT_LENGTH, "0")
                    .answer_within(CHECKED_WITHIN))
            })
            .await
            .map(drop)
    }
}
