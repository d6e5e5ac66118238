//! `docker login`: whether a registry takes somebody's credentials.

use super::{
    Credentials, Failed, Registries, Settings,
    challenge::{self, Challenge},
    credentials::host_of,
    endpoint::Endpoint,
    refusal::Refusal,
    token,
};
use base::{Error, Kind, Result};
use fetch::Request;
use http::{Method, StatusCode, header};

impl Registries {
    /// Shows the credentials to their registry. Gives the refresh token to be kept instead of the password;
    /// empty when the registry gives none.
    ///
    /// # Errors
    /// `Unauthorized` when it does not take them; of the way there.
    pub async fn login(&self, credentials: &Credentials) -> Result<String> {
        let domain = host_of(&credentials.server);
        self.settings().permit(&domain, "")?;
        let host = Settings::host(&domain).to_owned();
        let mut failed: Option<Error> = None;
        for endpoint in self.direct(&host, "")? {
            match self.show(&endpoint, credentials).await {
                Ok(token) => {
                    if !endpoint.is_secure() {
                        self.note_plain(&endpoint.host);
                    }
                    return Ok(token);
                }
                Err(Failed::Way(err)) if err.is_unreached() => {
                    failed = Some(match failed {
                        Some(first) => first,
                        None => err.into(),
                    });
                }
                Err(err) => return Err(err.into()),
            }
        }
        Err(failed.unwrap_or_else(|| Error::unavailable(format!("{host} does not answer"))))
    }

    async fn show(&self, endpoint: &Endpoint, credentials: &Credentials) -> Result<String, Failed> {
        let base = format!("{}/v2/", endpoint.base);
        let uri = fetch::url::parse(&base)?;
        let first = endpoint.client.send(Request::new(Method::GET, uri.clone())).await?;
        if first.status() == StatusCode::OK {
            // Open to everyone.
            return Ok(String::new());
        }
        if first.status() != StatusCode::UNAUTHORIZED {
            return Err(attempt(&base, first.status()).into());
        }
        let mut refresh = String::new();
        let mut value = None;
        for challenge in challenge::parse(first.header_all(header::WWW_AUTHENTICATE)) {
            match challenge {
                Challenge::Bearer { realm, service, .. } => {
                    let ask =
                        token::Ask { realm: &realm, service: &service, scopes: &[], offline: true };
                    let token = token::fetch(self, endpoint, credentials, &ask).await.map_err(
                        |e| match e {
                            Failed::Refused(refusal) if refusal.status == 401 => {
                                let text = format!("Get \"{base}\"");
                                Failed::Wrong(
                                    Error::new(Kind::Unauthorized, text)
                                        .caused_by(refusal.to_string()),
                                )
                            }
                            other => other,
                        },
                    )?;
                    refresh = token.refresh;
                    value = Some(format!("Bearer {}", token.value));
                }
                Challenge::Basic => value = credentials.basic(),
            }
            if value.is_some() {
                break;
            }
        }
        let Some(value) = value else {
            let text = format!("Get \"{base}\"");
            return Err(Error::new(Kind::Unauthorized, text)
                .caused_by("no basic auth credentials")
                .into());
        };
        let second =
            endpoint.client.send(Request::new(Method::GET, uri).authorization(&value)).await?;
        match second.status() {
            StatusCode::OK => Ok(refresh),
            StatusCode::UNAUTHORIZED => Err(attempt(&base, StatusCode::UNAUTHORIZED).into()),
            status => {
                tracing::debug!(status = status.as_u16(), "a login was refused");
                let asked = format!("Get \"{base}\"");
                Err(Failed::Refused(Refusal::read(asked, second).await))
            }
        }
    }
}

fn attempt(base: &str, status: StatusCode) -> Error {
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Unauthorized,
        _ => Kind::Internal,
    };
    Error::new(
        kind,
        format!(
            "login attempt to {base} failed with status: {} {}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        ),
    )
}
