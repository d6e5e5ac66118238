//! `POST /images/{name}/tag`.

use super::{Images, Record, resolve};
use base::{Error, Principal, Reference, Result, Timestamp};

impl Images {
    /// Points `repository:tag` to the image `name`.
    ///
    /// # Errors
    /// `NotFound` for no such image; `Invalid` for a malformed reference.
    pub fn tag(&self, name: &str, repository: &str, tag: &str, by: &Principal) -> Result<()> {
        let reference = target(repository, tag)?;
        self.store.write(|tx| {
            let id = resolve(tx, name)?;
            let now = Timestamp::now();
            tx.set_tag(&reference.to_string(), &id, now)?;
            if let Some(mut row) = tx.image::<Record>(&id)? {
                row.doc.tagged = Some(now);
                tx.put_image(&row)?;
                tx.emit(self.event("tag", &id, &reference.familiar(), &row.doc.labels).by(by));
            }
            Ok(())
        })
    }
}

/// The reference of the parameters `repo` and `tag`.
///
/// # Errors
/// `Invalid` with docker's texts.
pub(super) fn target(repository: &str, tag: &str) -> Result<Reference> {
    let reference: Reference = repository.parse().map_err(|e| {
        Error::invalid(format!("{repository:?} is not a valid repository/tag")).caused_by(e)
    })?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    if reference.familiar_name() == "sha256" {
        return Err(Error::invalid(
            "refusing to create an ambiguous tag using digest algorithm as name",
        ));
    }
    if tag.is_empty() { Ok(reference.or_latest()) } else { reference.with_tag(tag) }
}
