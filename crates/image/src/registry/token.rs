//! Tokens: from a challenge's realm, for a user, a refresh token, or nobody.
//!
//! Invariants: credentials are shown to a realm only when it belongs to the registry: the same host, a host
//! of the same domain over TLS, or one that the operator named. A realm over http counts only where the
//! registry itself is insecure.
//! Source: docs.docker.com "Token Authentication Specification", "OAuth 2.0".

use super::{ANSWER_BYTES, Credentials, Failed, Registries, endpoint::Endpoint, refusal::Refusal};
use base::Error;
use bytes::Bytes;
use fetch::{Addresses, Request, Upload, url};
use http::{Method, Uri, header};
use serde::Deserialize;
use std::net::IpAddr;

/// The name that Docker's own clients give.
const CLIENT: &str = "docker";

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) realm: &'a str,
    pub(super) service: &'a str,
    pub(super) scopes: &'a [String],
    /// A refresh token is wanted too.
    pub(super) offline: bool,
}

/// A token and, when it was asked for and given, the refresh token that goes with it.
pub(super) struct Token {
    pub(super) value: String,
    pub(super) refresh: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// Gets a token.
///
/// # Errors
/// When the realm is none that may be asked, or says no.
pub(super) async fn fetch(
    registries: &Registries,
    endpoint: &Endpoint,
    credentials: &Credentials,
    ask: &Ask<'_>,
) -> Result<Token, Failed> {
    let realm = url::parse(ask.realm)
        .map_err(|e| Error::invalid("invalid token auth challenge realm").caused_by(e))?;
    let settings = registries.settings();
    let client = {
        let host = realm.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let insecure = settings.is_insecure(host) && settings.is_insecure(&endpoint.host);
        if realm.scheme_str() == Some("http") && endpoint.is_secure() && !insecure {
            return Err(refused(endpoint, &realm, "its realm would be asked without TLS"));
        }
        let foreign =
            !url::host(&realm).eq_ignore_ascii_case(super::settings::bare_host(&endpoint.host));
        let named = settings
            .token_servers
            .iter()
            .any(|t| t.eq_ignore_ascii_case(host) || t.eq_ignore_ascii_case(url::host(&realm)));
        if !credentials.is_anonymous() && foreign && !named {
            let related = realm.scheme_str() == Some("https")
                && endpoint.is_secure()
                && related(super::settings::bare_host(&endpoint.host), url::host(&realm));
            if !related {
                return Err(refused(
                    endpoint,
                    &realm,
                    "it is another host's (allow it with --registry-token-server)",
                ));
            }
        }
        let addresses = if foreign && !named && !endpoint.is_own() {
            Addresses::Outside
        } else {
            Addresses::NotLinkLocal
        };
        registries.client(host, insecure, addresses)?
    };
    if !credentials.identity_token.is_empty() {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", ask.service),
            ("client_id", CLIENT),
            ("scope", &ask.scopes.join(" ")),
            ("refresh_token", &credentials.identity_token),
        ];
        let body = Bytes::from(encoded(&form));
        let request = Request::new(Method::POST, realm.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .upload(Upload::Bytes(body));
        return answer(&realm, "Post", client.send(request).await?, ask).await;
    }
    let mut query: Vec<(&str, &str)> = Vec::new();
    if !credentials.username.is_empty() {
        query.push(("account", &credentials.username));
    }
    if ask.offline {
        query.push(("client_id", CLIENT));
        query.push(("offline_token", "true"));
    }
    query.extend(ask.scopes.iter().map(|scope| ("scope", scope.as_str())));
    if !ask.service.is_empty() {
        query.push(("service", ask.service));
    }
    let separator = if realm.query().is_some() { '&' } else { '?' };
    let whole = url::parse(&format!("{realm}{separator}{}", encoded(&query)))?;
    let mut request = Request::new(Method::GET, whole);
    if let Some(basic) = credentials.basic() {
        request = request.authorization(&basic);
    }
    answer(&realm, "Get", client.send(request).await?, ask).await
}

fn refused(endpoint: &Endpoint, realm: &Uri, why: &str) -> Failed {
    let text = format!(
        "refusing to ask {} for a token of {}: {why}",
        url::shown(&realm.to_string()),
        endpoint.host
    );
    Failed::Wrong(Error::forbidden(text))
}

async fn answer(
    realm: &Uri,
    method: &str,
    response: fetch::Response,
    ask: &Ask<'_>,
) -> Result<Token, Failed> {
    if !response.status().is_success() {
        let asked = format!("{method} \"{}\"", url::shown(&realm.to_string()));
        let mut refusal = Refusal::read(asked, response).await;
        if refusal.status == 401 && refusal.code.is_empty() {
            refusal.code = "UNAUTHORIZED".into();
            refusal.message = "incorrect username or password".into();
        }
        return Err(Failed::Refused(refusal));
    }
    let body = response.bytes(ANSWER_BYTES).await?;
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|e| Error::internal("unable to decode token response").caused_by(e))?;
    let value = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let value = value.ok_or_else(|| {
        Error::internal("authorization server did not include a token in the response")
    })?;
    let refresh = answer.refresh_token.filter(|_| ask.offline).unwrap_or_default();
    Ok(Token { value, refresh })
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(key);
        out.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

/// Whether two hosts are of one domain that somebody can own: `registry-1.docker.io` and `auth.docker.io`.
/// Suffixes such as `co.uk` are nobody's; without a list of them, a short word before a country counts as one.
fn related(a: &str, b: &str) -> bool {
    if a.parse::<IpAddr>().is_ok() || b.parse::<IpAddr>().is_ok() {
        return false;
    }
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let labels =
        |t: &str| t.trim_end_matches('.').rsplit('.').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (labels(&a), labels(&b));
    let shared: Vec<&String> =
        a.iter().zip(&b).take_while(|(x, y)| x == y).map(|(x, _)| x).collect();
    match shared.as_slice() {
        [country, word] => !(country.len() == 2 && word.len() <= 3),
        [_, _, _, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_one_domain_are_related() {
        for (a, b, want) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("a.co.uk", "b.co.uk", false),
            ("a.x.co.uk", "b.x.co.uk", true),
            ("a.com", "b.com", false),
            ("127.0.0.1", "127.0.0.1", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("localhost", "localhost", false),
        ] {
            assert_eq!(related(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn parameters_are_escaped() {
        assert_eq!(
            encoded(&[("scope", "repository:a/b:pull,push"), ("x", "&=")]),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush&x=%26%3D"
        );
    }
}
