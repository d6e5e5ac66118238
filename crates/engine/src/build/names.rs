//! The names that a built image is to get.

use base::{Error, Reference, Result};

/// Reads `-t` values; doubles are dropped.
///
/// # Errors
/// `Invalid` with docker's texts.
pub(super) fn parse(tags: &[String]) -> Result<Vec<Reference>> {
    let mut all: Vec<Reference> = Vec::new();
    for text in tags.iter().filter(|t| !t.is_empty()) {
        let reference: Reference = text.parse()?;
        if reference.digest().is_some() {
            return Err(Error::invalid("build tag cannot contain a digest"));
        }
        let reference = reference.or_latest();
        if !all.contains(&reference) {
            all.push(reference);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_normalised_once() {
        let tags = ["a", "a:latest", "b/c:1", ""].map(str::to_owned);
        let names: Vec<String> = parse(&tags).unwrap().iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:latest", "b/c:1"]);
        let bad = format!("a@sha256:{}", "0".repeat(64));
        assert!(parse(&[bad]).is_err() && parse(&["A".into()]).is_err());
    }
}
