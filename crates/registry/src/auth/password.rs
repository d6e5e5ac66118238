//! Passwords as hashes: argon2id for ours, bcrypt for those of a htpasswd file.

use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use base::{Error, Result};
use std::sync::LazyLock;

/// Hashes a password with argon2id, at the crate's parameters (19 MiB, 2 passes: OWASP's first choice).
///
/// # Errors
/// `Internal` when the system gives no random bytes.
pub fn hash(password: &str) -> Result<String> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|e| {
        Error::internal("the system gives no random bytes").caused_by(e.to_string())
    })?;
    let fail = |e: argon2::password_hash::Error| {
        Error::internal("cannot hash a password").caused_by(e.to_string())
    };
    let salt = SaltString::encode_b64(&salt).map_err(fail)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(fail)?;
    Ok(hash.to_string())
}

/// Whether `text` is a hash that [`verify`] understands.
pub fn is_hash(text: &str) -> bool {
    is_bcrypt(text) || PasswordHash::new(text).is_ok_and(|h| h.algorithm.as_str() == "argon2id")
}

fn is_bcrypt(text: &str) -> bool {
    ["$2y$", "$2b$", "$2a$", "$2x$"].iter().any(|p| text.starts_with(p)) && text.len() == 60
}

/// Whether the hash is one that came from elsewhere and is to be replaced.
pub(super) fn is_weak(text: &str) -> bool {
    is_bcrypt(text)
}

/// Whether `password` is the one behind `stored`. Without a stored one the work is done all the same, so that
/// nobody learns by the clock which users there are.
pub(super) fn verify(password: &str, stored: Option<&str>) -> bool {
    static NOBODY: LazyLock<String> =
        LazyLock::new(|| hash("nobody's password").unwrap_or_default());
    let (stored, real) = match stored {
        Some(stored) => (stored, true),
        None => (NOBODY.as_str(), false),
    };
    let right = if is_bcrypt(stored) {
        bcrypt::verify(password, stored).unwrap_or(false)
    } else {
        PasswordHash::new(stored)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    };
    right && real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_fits() {
        let ours = hash("secret").unwrap();
        let theirs = "$2y$05$vxzTEYhnFQKPYL6O35nz2uI1dXvKSZWzQJMFPiRHGW9FU9dQFGEBW";
        assert!(verify("secret", Some(&ours)) && !verify("Secret", Some(&ours)));
        assert!(!verify("nobody's password", None));
        assert!(!verify("secret", Some("")) && !verify("", Some(theirs)));
        assert!(is_hash(&ours) && is_hash(theirs));
        assert!(!is_hash("$apr1$x$y") && !is_hash("{SHA}x") && !is_hash("secret"));
        assert_ne!(hash("secret").unwrap(), ours, "salted");
    }
}
