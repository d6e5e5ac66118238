//! Our own tokens: JWTs signed with ECDSA on P-256 (ES256).
//!
//! The registry and the token server are one, so there is one key, one algorithm and one header: a token
//! whose header is not, byte for byte, the one that we write is refused before anything in it is read. What
//! a token says of its own key or algorithm (`none`, `jwk`, `x5c`, `kid` paths) is thereby never looked at.
//! Source: Docker Registry "Token Authentication Implementation"; RFC 7515, RFC 7519.

use super::{Action, Actions};
use base::{Digest, Error, Result, Timestamp};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// How long a token is good. Docker's clients take anything below a minute for a minute.
pub const TOKEN_LIFE: Duration = Duration::from_secs(300);
/// Clocks of one registry may differ, or jump, by this much.
const LEEWAY: i64 = 60;
/// Bytes of a token that is looked at.
const MAX_TOKEN: usize = 64 << 10;
const ISSUER: &str = "gantry-registry";

/// One resource and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A repository's name, or `catalog`.
    pub name: String,
    /// Actions by name.
    pub actions: Vec<String>,
}

impl Scope {
    /// Reads `type:name:actions`; the name may hold one colon (a host's port), the type a class in brackets.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        let kind = kind.split('(').next().unwrap_or_default();
        let actions = actions.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        Some(Self { kind: kind.to_owned(), name: name.to_owned(), actions })
    }

    /// The same as far as `allowed` goes; `*` is everything that is allowed.
    #[must_use]
    pub fn within(&self, allowed: Actions) -> Self {
        let asked: Actions = if self.actions.iter().any(|a| a == "*") {
            Actions::ALL
        } else {
            Action::ALL.into_iter().filter(|a| self.actions.iter().any(|s| s == a.name())).collect()
        };
        let actions = asked.and(allowed).iter().map(|a| a.name().to_owned()).collect();
        Self { kind: self.kind.clone(), name: self.name.clone(), actions }
    }
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// The user; empty for an anonymous one.
    pub sub: String,
    /// For which service.
    pub aud: String,
    /// Seconds since 1970: not good from then on.
    pub exp: i64,
    /// Not good before.
    pub nbf: i64,
    /// Issued.
    pub iat: i64,
    /// Its own id.
    pub jti: String,
    /// What it allows.
    pub access: Vec<Scope>,
}

impl Claims {
    pub(super) fn allows(&self, repository: &str, action: Action) -> bool {
        self.access.iter().any(|scope| {
            scope.kind == "repository"
                && scope.name == repository
                && scope.actions.iter().any(|a| a == action.name())
        })
    }

    pub(super) fn allows_catalog(&self) -> bool {
        self.access
            .iter()
            .any(|s| s.kind == "registry" && s.name == "catalog" && !s.actions.is_empty())
    }
}

/// The key, its public half and the one header.
pub struct Signer {
    key: EcdsaKeyPair,
    header: String,
    service: String,
    random: SystemRandom,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("service", &self.service).finish_non_exhaustive()
    }
}

/// A new key, PKCS #8.
///
/// # Errors
/// `Internal` when the machine has no random numbers.
pub fn new_key() -> Result<Vec<u8>> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map(|key| key.as_ref().to_vec())
        .map_err(|_| Error::internal("cannot make a token key"))
}

fn refused() -> Error {
    Error::unauthorized("the token is not valid")
}

impl Signer {
    /// With the key `pkcs8`, for `service`.
    ///
    /// # Errors
    /// `Internal` when the key is none.
    pub fn new(pkcs8: &[u8], service: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|e| {
                Error::internal("the token key in the database is none").caused_by(e.to_string())
            })?;
        let id = BASE64.encode(Digest::sha256(key.public_key().as_ref()).hex());
        let header = format!(r#"{{"typ":"JWT","alg":"ES256","kid":"{}"}}"#, &id[..43]);
        Ok(Self { key, header: BASE64.encode(header), service: service.to_owned(), random })
    }

    /// The service that tokens are for.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// A token for `user` that allows `access`.
    ///
    /// # Errors
    /// `Internal` when it cannot be signed.
    pub fn issue(
        &self,
        user: &str,
        access: Vec<Scope>,
        id: &str,
        now: Timestamp,
    ) -> Result<String> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.to_owned(),
            aud: self.service.clone(),
            exp: now.plus(TOKEN_LIFE).unix(),
            nbf: now.unix(),
            iat: now.unix(),
            jti: id.to_owned(),
            access,
        };
        let fail = |e: String| Error::internal("cannot sign a token").caused_by(e);
        let body = serde_json::to_vec(&claims).map_err(|e| fail(e.to_string()))?;
        let signed = format!("{}.{}", self.header, BASE64.encode(body));
        let signature =
            self.key.sign(&self.random, signed.as_bytes()).map_err(|e| fail(e.to_string()))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature.as_ref())))
    }

    /// Checks a token.
    ///
    /// # Errors
    /// `Unauthorized`, without a word about what is wrong with it but its age.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims> {
        if token.len() > MAX_TOKEN {
            return Err(refused());
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(refused)?;
        let (header, body) = signed.split_once('.').ok_or_else(refused)?;
        if header != self.header {
            return Err(refused());
        }
        let signature = BASE64.decode(signature).map_err(|_| refused())?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| refused())?;
        let body = BASE64.decode(body).map_err(|_| refused())?;
        let claims: Claims = serde_json::from_slice(&body).map_err(|_| refused())?;
        let now = now.unix();
        if claims.iss != ISSUER || claims.aud != self.service {
            return Err(refused());
        }
        if now >= claims.exp + LEEWAY || now < claims.nbf - LEEWAY {
            return Err(Error::unauthorized("the token has expired"));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::parse(text).unwrap()
    }

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        let plain = scope("repository:a/b:pull,push");
        assert_eq!((plain.name.as_str(), plain.actions.len()), ("a/b", 2));
        assert_eq!(scope("repository(plugin):localhost:5000/x:pull").name, "localhost:5000/x");
        assert_eq!(scope("repository(plugin):x:pull").kind, "repository");
        assert_eq!(Scope::parse("nonsense"), None);
        let allowed = "pull".parse().unwrap();
        assert_eq!(plain.within(allowed).actions, ["pull"]);
        assert_eq!(scope("repository:x:*").within(allowed).actions, ["pull"]);
        assert!(scope("repository:x:fly").within(Actions::ALL).actions.is_empty());
    }

    #[test]
    fn no_token_but_ours_is_believed() {
        let signer = Signer::new(&new_key().unwrap(), "s").unwrap();
        let now = Timestamp::now();
        let token = signer.issue("carol", vec![scope("repository:x:pull")], "1", now).unwrap();
        let claims = signer.verify(&token, now).unwrap();
        assert!(claims.allows("x", Action::Pull));
        assert!(!claims.allows("x", Action::Push) && !claims.allows("x/y", Action::Pull));

        let parts: Vec<&str> = token.split('.').collect();
        let header = |json: &str| BASE64.encode(json);
        let public = BASE64.encode(signer.key.public_key().as_ref());
        for forged in [
            format!("{}.{}.", header(r#"{"alg":"none","typ":"JWT"}"#), parts[1]),
            format!("{}.{}.{}", header(r#"{"alg":"HS256","typ":"JWT"}"#), parts[1], parts[2]),
            format!(
                "{}.{}.{}",
                header(&format!(r#"{{"alg":"ES256","jwk":"{public}"}}"#)),
                parts[1],
                parts[2]
            ),
            format!(
                "{}.{}.{}",
                header(r#"{"alg":"ES256","kid":"../../dev/null"}"#),
                parts[1],
                parts[2]
            ),
            format!("{}.{}.{}", parts[0], parts[1], BASE64.encode([0; 64])),
            format!("{}.{}.{}", parts[0], header(r#"{"sub":"root"}"#), parts[2]),
            format!("{}.{}", parts[0], parts[1]),
            String::new(),
            "..".into(),
            "x".repeat(MAX_TOKEN + 1),
        ] {
            assert!(signer.verify(&forged, now).is_err(), "{forged:.80}");
        }
        let other = Signer::new(&new_key().unwrap(), "s").unwrap();
        assert!(other.verify(&token, now).is_err());
    }

    #[test]
    fn a_token_is_good_for_its_time_and_a_little_more() {
        let key = new_key().unwrap();
        let signer = Signer::new(&key, "s").unwrap();
        let now = Timestamp::now();
        let token = signer.issue("", vec![], "1", now).unwrap();
        let after = |seconds| now.plus(Duration::from_secs(seconds));
        assert!(signer.verify(&token, after(TOKEN_LIFE.as_secs() + 30)).is_ok());
        assert!(signer.verify(&token, after(TOKEN_LIFE.as_secs() + 61)).is_err());
        assert!(signer.verify(&token, now.minus(Duration::from_secs(30))).is_ok());
        assert!(signer.verify(&token, now.minus(Duration::from_secs(86_400))).is_err());
        assert!(Signer::new(&key, "another").unwrap().verify(&token, now).is_err());
    }
}
