//! What a name for an image may mean, in Docker's order: a full id, a reference, the beginning of an id.

use base::{Digest, Error, Reference, Result};

/// A name, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    text: String,
    /// The whole id, when that is what the name is; nothing else is tried then.
    pub id: Option<Digest>,
    /// The reference to look up first.
    pub reference: Option<Reference>,
    /// Hexadecimal beginning of an id to look up after it.
    pub prefix: Option<String>,
}

impl Query {
    /// Reads `text` as a client sent it.
    ///
    /// # Errors
    /// `Invalid` when it can be neither id nor reference.
    pub fn parse(text: &str) -> Result<Self> {
        let mut query = Self { text: text.to_owned(), id: None, reference: None, prefix: None };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = format!("sha256:{hex}").parse() {
            query.id = Some(id);
            return Ok(query);
        }
        if !hex.is_empty()
            && hex.len() < 64
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            query.prefix = Some(hex.to_owned());
        }
        match text.parse::<Reference>() {
            Ok(reference) => query.reference = Some(stored_form(&reference)),
            Err(_) if query.prefix.is_some() => {}
            Err(err) => return Err(err),
        }
        Ok(query)
    }

    /// Docker's answer when nothing was found.
    pub fn missing(&self) -> Error {
        let name = match &self.reference {
            Some(reference) => reference.familiar(),
            None => match &self.id {
                Some(id) => id.to_string(),
                None => self.text.clone(),
            },
        };
        Error::not_found(format!("No such image: {name}"))
    }
}

/// A reference as it is stored: with `latest` when nothing is said, and by digest alone when it has one.
pub fn stored_form(reference: &Reference) -> Reference {
    match reference.digest() {
        Some(digest) => reference.with_digest(digest.clone()),
        None => reference.clone().or_latest(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_what_docker_takes_them_for() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [hex.to_owned(), format!("sha256:{hex}")] {
            let query = Query::parse(&text).unwrap();
            assert!(query.id.is_some() && query.reference.is_none() && query.prefix.is_none());
            assert_eq!(query.missing().to_string(), format!("No such image: sha256:{hex}"));
        }
        let query = Query::parse("abc123").unwrap();
        assert_eq!(query.prefix.as_deref(), Some("abc123"));
        assert_eq!(query.reference.as_ref().unwrap().familiar(), "abc123:latest");
        assert_eq!(query.missing().to_string(), "No such image: abc123:latest");
        let query = Query::parse("sha256:abc123").unwrap();
        assert_eq!(query.prefix.as_deref(), Some("abc123"));
        let query = Query::parse("busybox").unwrap();
        assert_eq!(
            (query.prefix, query.reference.unwrap().familiar()),
            (None, "busybox:latest".into())
        );
        let query = Query::parse(&format!("x:1@sha256:{hex}")).unwrap();
        assert_eq!(query.reference.unwrap().familiar(), format!("x@sha256:{hex}"));
        for bad in ["", "A B", "x:", "UPPER"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
