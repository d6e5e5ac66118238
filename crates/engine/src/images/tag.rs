//! `POST /images/{name}/tag`.

use super::{Images, Record, resolve};
use base::{Error, Principal, Reference, Result, Timestamp};
use image::lookup::Query;

impl Images {
    /// Points `repository:tag` to the image `name`.
    ///
    /// # Errors
    /// `NotFound` for no such image; `Invalid` for a malformed reference.
    pub fn tag(&self, name: &str, repository: &str, tag: &str, by: &Principal) -> Result<()> {
        let reference = target(repository, tag)?;
        let id = self.store.write(|tx| {
            let id = resolve(tx, name)?;
            let now = Timestamp::now();
            let text = reference.to_string();
            let source = Query::parse(name)?.reference.map(|r| r.to_string());
            let known = source.as_deref().map(|source| tx.tag(source)).transpose()?.flatten();
            tx.set_tag(&text, &id, now)?;
            // A name of a name means the same for every platform.
            if let (Some(source), Some(known)) = (source, known)
                && source != text
            {
                for variant in tx.variants(&source)? {
                    tx.add_variant(&text, &variant)?;
                }
                tx.set_target(&text, known.target.as_ref())?;
            }
            if let Some(mut row) = tx.image::<Record>(&id)? {
                row.doc.tagged = Some(now);
                tx.put_image(&row)?;
                tx.emit(self.event("tag", &id, &reference.familiar(), &row.doc.labels).by(by));
            }
            Ok(id)
        })?;
        // A name that was acknowledged is there after a power cut, as the image is.
        if self.is_unsettled(&id)? { self.settle() } else { self.store.flush() }
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
