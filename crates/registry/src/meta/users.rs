//! Users and their refresh tokens. Passwords are kept as hashes in PHC or crypt form, tokens as SHA-256.

use super::Tx;
use base::{Error, Result, Timestamp};
use sqlite::Statements as _;

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Hash of the password.
    pub password: String,
    /// Since when.
    pub created: Timestamp,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A refresh token, by the hash of its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whose.
    pub user: String,
    /// For which service.
    pub service: String,
    /// When it was used last.
    pub used: Timestamp,
}

/// Whether `name` may be a user's: printable, no colon (basic authentication ends the name there), and not
/// one of the words that rules have.
pub(crate) fn valid_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('@')
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != ':')
}

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_unix_nanos(nanos.into())
}

impl Tx<'_> {
    /// A user by name.
    ///
    /// # Errors
    /// Of the database.
    pub fn user(&self, name: &str) -> Result<Option<User>> {
        self.one(
            "cannot look up a user",
            "SELECT name, password, created FROM users WHERE name = ?1",
            [name],
            |row| Ok(User { name: row.get(0)?, password: row.get(1)?, created: at(row.get(2)?) }),
        )
    }

    /// All users by name.
    ///
    /// # Errors
    /// Of the database.
    pub fn users(&self) -> Result<Vec<User>> {
        self.many(
            "cannot list users",
            "SELECT name, password, created FROM users ORDER BY name",
            [],
            |row| Ok(User { name: row.get(0)?, password: row.get(1)?, created: at(row.get(2)?) }),
        )
    }

    /// Adds a user.
    ///
    /// # Errors
    /// `Conflict` when there is one of that name, `Invalid` when the name is none.
    pub fn add_user(&self, name: &str, password: &str, now: Timestamp) -> Result<()> {
        if !valid_name(name) {
            return Err(Error::invalid(format!(
                "{name:?} cannot be a user's name: want 1 to 128 printable characters without colon or space, not beginning with @"
            )));
        }
        if self.user(name)?.is_some() {
            return Err(Error::conflict(format!("there is a user {name} already")));
        }
        self.run(
            "cannot add a user",
            "INSERT INTO users (name, password, created, changed) VALUES (?1, ?2, ?3, ?3)",
            (name, password, now.unix_nanos()),
        )?;
        self.access_changed()
    }

    /// Sets a user's password and ends what was logged in with the old one.
    ///
    /// # Errors
    /// `NotFound` when there is no such user.
    pub fn set_password(&self, name: &str, password: &str, now: Timestamp) -> Result<()> {
        self.run("cannot end logins", "DELETE FROM refresh_tokens WHERE user = ?1", [name])?;
        let changed = self.run(
            "cannot set a password",
            "UPDATE users SET password = ?2, changed = ?3 WHERE name = ?1",
            (name, password, now.unix_nanos()),
        )?;
        if changed == 0 {
            return Err(Error::not_found(format!("no such user: {name}")));
        }
        self.access_changed()
    }

    /// Keeps the same password under a better hash, unless it was changed meanwhile.
    ///
    /// # Errors
    /// Of the database.
    pub fn rehash_password(&self, name: &str, old: &str, new: &str) -> Result<()> {
        self.run(
            "cannot rehash a password",
            "UPDATE users SET password = ?3 WHERE name = ?1 AND password = ?2",
            (name, old, new),
        )?;
        Ok(())
    }

    /// Removes a user with rules and logins.
    ///
    /// # Errors
    /// `NotFound` when there is no such user.
    pub fn remove_user(&self, name: &str) -> Result<()> {
        self.run("cannot remove rules", "DELETE FROM rules WHERE who = ?1", [name])?;
        if self.run("cannot remove a user", "DELETE FROM users WHERE name = ?1", [name])? == 0 {
            return Err(Error::not_found(format!("no such user: {name}")));
        }
        self.access_changed()
    }

    /// Keeps a refresh token.
    ///
    /// # Errors
    /// Of the database.
    pub fn add_refresh_token(
        &self,
        hash: &str,
        user: &str,
        service: &str,
        client: &str,
        now: Timestamp,
    ) -> Result<()> {
        self.run(
            "cannot keep a refresh token",
            "INSERT INTO refresh_tokens (hash, user, service, client, created, used)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            (hash, user, service, client, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// A refresh token by its hash.
    ///
    /// # Errors
    /// Of the database.
    pub fn refresh_token(&self, hash: &str) -> Result<Option<RefreshToken>> {
        self.one(
            "cannot look up a refresh token",
            "SELECT user, service, used FROM refresh_tokens WHERE hash = ?1",
            [hash],
            |row| {
                Ok(RefreshToken { user: row.get(0)?, service: row.get(1)?, used: at(row.get(2)?) })
            },
        )
    }

    /// A refresh token was used.
    ///
    /// # Errors
    /// Of the database.
    pub fn use_refresh_token(&self, hash: &str, now: Timestamp) -> Result<()> {
        self.run(
            "cannot note the use of a refresh token",
            "UPDATE refresh_tokens SET used = ?2 WHERE hash = ?1",
            (hash, now.unix_nanos()),
        )?;
        Ok(())
    }

    /// Drops refresh tokens that were not used since `before`.
    ///
    /// # Errors
    /// Of the database.
    pub fn expire_refresh_tokens(&self, before: Timestamp) -> Result<usize> {
        self.run(
            "cannot drop refresh tokens",
            "DELETE FROM refresh_tokens WHERE used < ?1",
            [before.unix_nanos()],
        )
    }
}
