//! What a request is shown to an endpoint with, and how that is found out when the endpoint asks.

use super::{
    Credentials, Failed, Registries,
    challenge::{self, Challenge},
    endpoint::Endpoint,
    refusal::Refusal,
    token,
};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The `Authorization` of one endpoint, renewed when it is refused.
#[derive(Debug)]
pub(super) struct Authorizer {
    value: Mutex<Option<String>>,
    /// One asks for a token, the others wait for it.
    turn: Semaphore,
}

/// An answer of 401.
pub(super) struct Unauthorized {
    /// What was shown.
    pub(super) shown: Option<String>,
    pub(super) response: fetch::Response,
    /// The request, as an error about it begins.
    pub(super) asked: String,
}

impl Default for Authorizer {
    fn default() -> Self {
        Self { value: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Authorizer {
    pub(super) fn value(&self) -> Option<String> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, value: String) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Finds out what to show after an answer of 401.
    ///
    /// # Errors
    /// When there is nothing to show that was not refused already.
    pub(super) async fn renew(
        &self,
        registries: &Registries,
        endpoint: &Endpoint,
        credentials: &Credentials,
        scopes: &[String],
        unauthorized: Unauthorized,
    ) -> Result<(), Failed> {
        let Unauthorized { shown, response, asked } = unauthorized;
        let shown = shown.as_deref();
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await;
        if self.value().is_some_and(|value| Some(value.as_str()) != shown) {
            return Ok(());
        }
        let challenges = challenge::parse(response.header_all(http::header::WWW_AUTHENTICATE));
        let nobody = Credentials::default();
        // A mirror is somebody else: it sees no credentials of the registry.
        let credentials = if endpoint.is_mirror() { &nobody } else { credentials };
        if !credentials.registry_token.is_empty() {
            let value = format!("Bearer {}", credentials.registry_token);
            if shown != Some(value.as_str()) {
                self.set(value);
                return Ok(());
            }
        }
        let bearer = challenges.iter().find_map(|c| match c {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            let mut wanted = scopes.to_vec();
            if wanted.is_empty() && !scope.is_empty() {
                wanted.push(scope.clone());
            }
            let ask = token::Ask { realm, service, scopes: &wanted, offline: false };
            let token = token::fetch(registries, endpoint, credentials, &ask).await?;
            self.set(format!("Bearer {}", token.value));
            return Ok(());
        }
        if challenges.contains(&Challenge::Basic) {
            match credentials.basic() {
                Some(value) if shown != Some(value.as_str()) => {
                    self.set(value);
                    return Ok(());
                }
                Some(_) => {}
                None => {
                    let mut refusal = Refusal::read(asked, response).await;
                    refusal.code.clear();
                    refusal.message = "no basic auth credentials".into();
                    return Err(Failed::Refused(refusal));
                }
            }
        }
        Err(Failed::Refused(Refusal::read(asked, response).await))
    }
}
