//! The token server: `GET /auth/token` (Docker's token authentication) and `POST` (its OAuth2 form).
//!
//! Source: distribution `docs/spec/auth/{token,oauth}.md`. Asking for more than the rules allow is no error:
//! the token allows what both say.

use super::{Cx, Reply, fail::Fail, json, random_name};
use crate::auth::{self, Actions, Scope, TOKEN_LIFE};
use base::{Digest, Kind, Timestamp, hex};
use http::header;
use std::{net::IpAddr, time::Duration};

/// Resources that one token may name.
const SCOPES: usize = 64;
/// Bytes of a form.
const FORM: usize = 64 << 10;
/// A refresh token that was not used for this time is over.
pub(crate) const REFRESH_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// What a client asks for.
#[derive(Default)]
struct Wish {
    service: String,
    client: String,
    scopes: Vec<Scope>,
    /// A refresh token, too.
    offline: bool,
}

impl Wish {
    fn read(pairs: &[(String, String)], offline: bool) -> Result<Self, Fail> {
        let mut wish = Self { offline, ..Self::default() };
        for (key, value) in pairs {
            match key.as_str() {
                "service" => wish.service = value.clone(),
                "client_id" => wish.client = value.chars().take(128).collect(),
                // One parameter may hold several, apart by spaces.
                "scope" => wish.scopes.extend(value.split_whitespace().filter_map(Scope::parse)),
                _ => {}
            }
        }
        if wish.scopes.len() > SCOPES {
            return Err(Fail::denied(format!("more than {SCOPES} scopes in one request")));
        }
        Ok(wish)
    }
}

fn address(cx: &Cx) -> IpAddr {
    cx.address.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

async fn log_in(cx: &Cx, name: &str, password: &str) -> Result<String, Fail> {
    match cx.site.access.log_in(name, password, address(cx)).await {
        Ok(user) => Ok(user),
        Err(err) if err.kind() == Kind::Unauthorized => {
            let who: String = name.chars().take(128).collect();
            cx.record_audit_later("denied", &format!("login {who}"));
            Err(Fail::unauthorized(err.chain())
                .header(header::WWW_AUTHENTICATE, "Basic realm=\"Gantry registry\""))
        }
        Err(err) if err.kind() == Kind::Exhausted => {
            Err(Fail::too_many_requests(err.chain()).header(header::RETRY_AFTER, "60"))
        }
        Err(err) => Err(err.into()),
    }
}

/// `GET`, with a password or without.
pub(crate) async fn get(cx: &mut Cx) -> Reply {
    let query = cx.query();
    let offline = query.iter().any(|(k, v)| k == "offline_token" && v == "true");
    let wish = Wish::read(&query, offline)?;
    let user = match cx.header(header::AUTHORIZATION) {
        None => None,
        Some(shown) => {
            let (name, password) = auth::basic(shown)?;
            Some(log_in(cx, &name, &password).await?)
        }
    };
    issue(cx, user, wish).await
}

/// `POST`: with a password or a refresh token.
pub(crate) async fn post(cx: &mut Cx) -> Reply {
    let (form, _) = cx.whole_body(FORM).await?;
    let form: Vec<(String, String)> = form_urlencoded::parse(&form).into_owned().collect();
    let value = |key: &str| form.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
    let wish = Wish::read(&form, value("access_type") == "offline")?;
    let user = match value("grant_type") {
        "password" => log_in(cx, value("username"), value("password")).await?,
        "refresh_token" => refresh(cx, value("refresh_token")).await?,
        other => {
            return Err(Fail::unsupported(format!(
                "grant_type {other:?} is not supported: want password or refresh_token"
            )));
        }
    };
    issue(cx, Some(user), wish).await
}

/// Whose refresh token this is.
async fn refresh(cx: &Cx, token: &str) -> Result<String, Fail> {
    let hash = hash(token);
    let now = Timestamp::now();
    let wanted = hash.clone();
    let found = cx.site.database.read(move |tx| tx.refresh_token(&wanted)).await?;
    let found = found.filter(|t| now.since(t.used) < REFRESH_LIFE);
    let Some(found) = found else {
        return Err(Fail::unauthorized("the refresh token is not valid: log in again"));
    };
    cx.site.database.later(move |tx| tx.use_refresh_token(&hash, now));
    Ok(found.user)
}

fn hash(token: &str) -> String {
    Digest::sha256(token.as_bytes()).hex().to_owned()
}

async fn issue(cx: &Cx, user: Option<String>, wish: Wish) -> Reply {
    let access = &cx.site.access;
    let (open, rules) = (access.is_open().await?, access.rules().await?);
    let granted: Vec<Scope> = wish
        .scopes
        .iter()
        .filter_map(|scope| match scope.kind.as_str() {
            "repository" => {
                let allowed =
                    if open { Actions::ALL } else { rules.allowed(user.as_deref(), &scope.name) };
                Some(scope.within(allowed)).filter(|s| !s.actions.is_empty())
            }
            // What the catalogue then lists is by the rules.
            "registry" if scope.name == "catalog" => Some(scope.clone()),
            _ => None,
        })
        .collect();
    let now = Timestamp::now();
    let name = user.clone().unwrap_or_default();
    let token = access.signer().issue(&name, granted, &random_name::<8>(), now)?;
    let mut answer = serde_json::json!({
        "token": token, "access_token": token, "expires_in": TOKEN_LIFE.as_secs(),
        "issued_at": now.to_string(),
    });
    if wish.offline
        && let Some(user) = user
    {
        let refresh = new_refresh_token()?;
        let (hash, client, service) = (hash(&refresh), wish.client, wish.service);
        cx.site
            .database
            .write(move |tx| tx.add_refresh_token(&hash, &user, &service, &client, now))
            .await?;
        cx.record_audit_later("login", &name);
        answer["refresh_token"] = refresh.into();
    }
    let mut answer = json(&answer);
    super::set(&mut answer, header::CACHE_CONTROL, "no-store");
    Ok(answer)
}

fn new_refresh_token() -> Result<String, Fail> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| {
        base::Error::internal("the system gives no random bytes").caused_by(e.to_string())
    })?;
    Ok(hex(&bytes))
}
