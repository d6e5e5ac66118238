//! Who may do what.
//!
//! Flow: a request comes with nothing, with a name and password (basic), or with a token of ours (bearer);
//! [`Access::identify`] makes a [`Caller`] of it, whom the router asks for the one action that a route needs.
//! Tokens are issued by `http::token` for the intersection of what was asked and what the rules allow, so
//! that fewer rights than asked are no error.
//!
//! Invariants: no user and no password exists until the operator makes one; a token is good for nothing
//! but the repositories and actions in it; secrets are never logged, and kept as hashes only.

mod password;
mod rules;
mod token;

pub use password::{hash as hash_password, is_hash as is_password_hash};
pub use rules::{ANONYMOUS, RuleSet, USERS, check_rule};
pub use token::{Claims, Scope, Signer, TOKEN_LIFE, new_key as new_token_key};

use crate::meta::Database;
use base::{Error, Kind, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Rules that were changed by another process hold after this time.
const RULES_AGE: Duration = Duration::from_secs(1);
/// A password that was right need not be hashed again for this time.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Passwords that are hashed at the same time: each takes 19 MiB of memory.
const HASHING: usize = 2;
/// Logins that wait for their hashing, at most.
const HASHING_QUEUE: usize = 64;
/// Failed logins of one user from one address within [`FAILURES_AGE`] before the next is refused unseen.
const FAILURES: u32 = 10;
const FAILURES_AGE: Duration = Duration::from_secs(60);
/// Entries of the memories above, at most.
const MEMORY: usize = 10_000;

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read.
    Pull,
    /// Write.
    Push,
    /// Delete tags, manifests and blobs.
    Delete,
}

impl Action {
    /// All, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// As tokens and rules write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Pull => 1,
            Self::Push => 2,
            Self::Delete => 4,
        }
    }
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// Everything.
    pub const ALL: Self = Self(7);

    /// From a row; bits without meaning are dropped.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// For a row.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether `action` is among them.
    pub fn has(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Those of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |a| self.has(*a))
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | action.bit()))
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Action::name).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for Actions {
    type Err = Error;

    /// Names joined by commas; `*` is all.
    fn from_str(text: &str) -> Result<Self> {
        if text == "*" {
            return Ok(Self::ALL);
        }
        text.split(',')
            .map(|name| {
                Action::ALL.into_iter().find(|a| a.name() == name.trim()).ok_or_else(|| {
                    Error::invalid(format!(
                        "no such action: {name:?}: want pull, push, delete or *"
                    ))
                })
            })
            .collect()
    }
}

/// Who asks, and by what right.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user; none for an anonymous caller.
    pub user: Option<String>,
    grant: Grant,
}

#[derive(Clone, Debug)]
enum Grant {
    /// The registry is open: anybody may do everything.
    Open,
    /// What the rules say of the user.
    Rules(Arc<RuleSet>),
    /// What a token says.
    Token(Arc<Claims>),
}

impl Caller {
    /// Whether the caller may do `action` in `repository` by what was shown.
    pub fn may(&self, repository: &str, action: Action) -> bool {
        match &self.grant {
            Grant::Open => true,
            Grant::Rules(rules) => rules.allowed(self.user.as_deref(), repository).has(action),
            Grant::Token(claims) => claims.allows(repository, action),
        }
    }

    /// Whether the caller may list repositories: with a password, or with a token for that.
    pub fn may_list(&self) -> bool {
        match &self.grant {
            Grant::Open => true,
            Grant::Rules(_) => self.user.is_some(),
            Grant::Token(claims) => claims.allows_catalog(),
        }
    }

    /// Whether a token was shown: then another one may allow more.
    pub fn has_token(&self) -> bool {
        matches!(self.grant, Grant::Token(_))
    }

    /// Whether nothing at all was shown, and something could be.
    pub fn is_unknown(&self) -> bool {
        matches!(self.grant, Grant::Rules(_)) && self.user.is_none()
    }

    /// The user's name, empty for an anonymous caller.
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

/// Whether the registry asks who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Anybody may do everything.
    Open,
    /// As the rules say.
    Rules,
    /// Open until there is a user or a rule.
    OpenUntilRules,
}

/// Identifies callers.
#[derive(Debug)]
pub struct Access {
    database: Arc<Database>,
    mode: Mode,
    signer: Signer,
    rules: Mutex<Cached>,
    hashing: Semaphore,
    salt: [u8; 32],
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    failures: Mutex<HashMap<(String, IpAddr), (u32, Instant)>>,
    waiting: std::sync::atomic::AtomicUsize,
}

#[derive(Debug)]
struct Cached {
    read: Option<Instant>,
    version: i64,
    rules: Arc<RuleSet>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Access {
    /// Reads the token key from the database, made on first use.
    ///
    /// # Errors
    /// Of the database.
    pub async fn open(database: Arc<Database>, mode: Mode, service: &str) -> Result<Self> {
        let fresh = token::new_key()?;
        let key = match database.read(|tx| tx.fact("token-key")).await? {
            Some(key) => key,
            None => database.write(move |tx| tx.fact_once("token-key", &fresh)).await?,
        };
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|e| {
            Error::internal("the system gives no random bytes").caused_by(e.to_string())
        })?;
        Ok(Self {
            database,
            mode,
            signer: Signer::new(&key, service)?,
            rules: Mutex::new(Cached { read: None, version: -1, rules: Arc::default() }),
            hashing: Semaphore::new(HASHING),
            salt,
            remembered: Mutex::default(),
            failures: Mutex::default(),
            waiting: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// Signs and checks tokens.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The rules as they are now.
    ///
    /// # Errors
    /// Of the database.
    pub async fn rules(&self) -> Result<Arc<RuleSet>> {
        let known = {
            let cached = locked(&self.rules);
            if cached.read.is_some_and(|at| at.elapsed() < RULES_AGE) {
                return Ok(Arc::clone(&cached.rules));
            }
            cached.version
        };
        let news = self
            .database
            .read(move |tx| {
                let version = tx.access_version()?;
                if version == known {
                    return Ok(None);
                }
                let users = !tx.users()?.is_empty();
                Ok(Some((version, RuleSet::new(&tx.rules()?, users))))
            })
            .await?;
        let mut cached = locked(&self.rules);
        cached.read = Some(Instant::now());
        if let Some((version, rules)) = news {
            cached.version = version;
            cached.rules = Arc::new(rules);
        }
        Ok(Arc::clone(&cached.rules))
    }

    /// Whether nobody is asked who he is.
    ///
    /// # Errors
    /// Of the database.
    pub async fn is_open(&self) -> Result<bool> {
        Ok(match self.mode {
            Mode::Open => true,
            Mode::Rules => false,
            Mode::OpenUntilRules => self.rules().await?.is_empty(),
        })
    }

    /// Who comes with this `Authorization` header, from `address`.
    ///
    /// # Errors
    /// `Unauthorized` when what was shown is wrong, `Exhausted` when there were too many wrong ones.
    pub async fn identify(&self, header: Option<&str>, address: IpAddr) -> Result<Caller> {
        if self.is_open().await? {
            return Ok(Caller { user: None, grant: Grant::Open });
        }
        let Some(header) = header else {
            return Ok(Caller { user: None, grant: Grant::Rules(self.rules().await?) });
        };
        let (scheme, value) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            let claims = self.signer.verify(value.trim(), Timestamp::now())?;
            let user = (!claims.sub.is_empty()).then(|| claims.sub.clone());
            return Ok(Caller { user, grant: Grant::Token(Arc::new(claims)) });
        }
        let (name, password) = basic(header)?;
        let user = Some(self.log_in(&name, &password, address).await?);
        Ok(Caller { user, grant: Grant::Rules(self.rules().await?) })
    }

    /// Checks a password: the user's name.
    ///
    /// # Errors
    /// `Unauthorized` when it is wrong or there is no such user, which nobody is told apart;
    /// `Exhausted` after too many wrong ones.
    pub async fn log_in(&self, name: &str, password: &str, address: IpAddr) -> Result<String> {
        let key = (name.to_owned(), address);
        if let Some((count, at)) = locked(&self.failures).get(&key)
            && *count >= FAILURES
            && at.elapsed() < FAILURES_AGE
        {
            return Err(Error::exhausted("too many failed logins, try again in a minute"));
        }
        let wanted = name.to_owned();
        let user = self.database.read(move |tx| tx.user(&wanted)).await?;
        let stored = user.as_ref().map(|u| u.password.clone());
        let mark = self.mark(name, password, stored.as_deref().unwrap_or_default());
        let known = locked(&self.remembered).get(&mark).is_some_and(|at| at.elapsed() < REMEMBERED);
        if known && user.is_some() {
            return Ok(name.to_owned());
        }
        if self.check(password.to_owned(), stored.clone()).await? {
            remember(&mut locked(&self.remembered), mark, Instant::now());
            locked(&self.failures).remove(&key);
            self.strengthen(name, password, stored.unwrap_or_default());
            return Ok(name.to_owned());
        }
        let mut failures = locked(&self.failures);
        let now = Instant::now();
        let (count, at) = failures.get(&key).copied().unwrap_or((0, now));
        let count = if at.elapsed() < FAILURES_AGE { count + 1 } else { 1 };
        remember(&mut failures, key, (count, now));
        Err(Error::unauthorized("incorrect username or password"))
    }

    async fn check(&self, password: String, stored: Option<String>) -> Result<bool> {
        use std::sync::atomic::Ordering;
        let busy = || Error::unavailable("too many logins at the same time");
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= HASHING_QUEUE {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(busy());
        }
        let turn = self.hashing.acquire().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let _turn = turn.map_err(|_| busy())?;
        tokio::task::spawn_blocking(move || password::verify(&password, stored.as_deref()))
            .await
            .map_err(|e| Error::internal("checking a password ended early").caused_by(e))
    }

    /// A password that came from a htpasswd file is kept under our own hash from now on.
    fn strengthen(&self, name: &str, password: &str, old: String) {
        if !password::is_weak(&old) {
            return;
        }
        let (name, password) = (name.to_owned(), password.to_owned());
        self.database.later(move |tx| {
            let new = password::hash(&password)?;
            tx.rehash_password(&name, &old, &new)
        });
    }

    fn mark(&self, name: &str, password: &str, stored: &str) -> [u8; 32] {
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        for part in [self.salt.as_slice(), name.as_bytes(), password.as_bytes(), stored.as_bytes()]
        {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// Puts an entry into a memory of bounded size; a full one is emptied.
fn remember<K: std::hash::Hash + Eq, V>(memory: &mut HashMap<K, V>, key: K, value: V) {
    if memory.len() >= MEMORY {
        memory.clear();
    }
    memory.insert(key, value);
}

/// Name and password of a basic `Authorization` header.
///
/// # Errors
/// `Unauthorized` when it is none.
pub fn basic(header: &str) -> Result<(String, String)> {
    use base64::Engine as _;
    let bad =
        || Error::new(Kind::Unauthorized, "the Authorization header is neither Basic nor Bearer");
    let (scheme, value) = header.split_once(' ').ok_or_else(bad)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(bad());
    }
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(value.trim()).map_err(|_| bad())?;
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (name, password) = text.split_once(':').ok_or_else(bad)?;
    Ok((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::RuleRow;

    async fn access(mode: Mode) -> (tempfile::TempDir, Access) {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(Database::open(&dir.path().join("r.db")).unwrap());
        (dir, Access::open(db, mode, "test").await.unwrap())
    }

    fn header(name: &str, password: &str) -> String {
        use base64::Engine as _;
        let text = format!("{name}:{password}");
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_registry_without_users_is_open_only_if_told_so() {
        let (_dir, open) = access(Mode::OpenUntilRules).await;
        assert!(open.identify(None, HERE).await.unwrap().may("x", Action::Delete));
        let (_dir, shut) = access(Mode::Rules).await;
        let caller = shut.identify(None, HERE).await.unwrap();
        assert!(!caller.may("x", Action::Pull) && caller.is_unknown());
        assert!(shut.identify(Some(&header("admin", "admin")), HERE).await.is_err());
    }

    #[tokio::test]
    async fn a_user_may_what_the_rules_say_and_wrong_passwords_run_out() {
        let (_dir, access) = access(Mode::Rules).await;
        let (weak, now) = (bcrypt::hash("secret", 4).unwrap(), Timestamp::now());
        access
            .database
            .write(move |tx| {
                tx.add_user("carol", &weak, now)?;
                let who = "carol".to_owned();
                tx.set_rule(&RuleRow { who, pattern: "team/**".into(), actions: 3 }, now)
            })
            .await
            .unwrap();
        let caller = access.identify(Some(&header("carol", "secret")), HERE).await.unwrap();
        assert!(caller.may("team/app", Action::Push) && !caller.may("team/app", Action::Delete));
        assert!(!caller.may("other/app", Action::Pull));
        // Under our own hash from now on.
        let hash = loop {
            let user = access.database.read(|tx| tx.user("carol")).await.unwrap().unwrap();
            if user.password.starts_with("$argon2id$") {
                break user.password;
            }
            tokio::task::yield_now().await;
        };
        assert!(password::verify("secret", Some(&hash)));
        for _ in 0..FAILURES {
            let err = access.log_in("carol", "guess", HERE).await.unwrap_err();
            assert_eq!(err.kind(), Kind::Unauthorized);
        }
        assert_eq!(
            access.log_in("carol", "secret", HERE).await.unwrap_err().kind(),
            Kind::Exhausted
        );
        let elsewhere = "127.0.0.2".parse().unwrap();
        access.log_in("carol", "secret", elsewhere).await.unwrap();
    }

    #[test]
    fn actions_are_read_and_shown() {
        assert_eq!("pull,push".parse::<Actions>().unwrap().to_string(), "pull,push");
        assert_eq!("*".parse::<Actions>().unwrap(), Actions::ALL);
        assert!("fly".parse::<Actions>().is_err());
    }
}
