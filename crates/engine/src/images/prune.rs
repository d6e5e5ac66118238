//! `POST /images/prune`.

use super::{Images, Record, RemoveOptions, User};
use api::model::ImagesPruned;
use base::{Error, ImageId, Principal, Result, Timestamp, event::Event, filters::Filters};

const ACCEPTED: &[&str] = &["dangling", "label", "label!", "until"];

/// What a prune would ask to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The image.
    pub id: ImageId,
    /// Its references, all of which go; without any the image goes by its id.
    pub references: Vec<String>,
}

impl Images {
    /// Which images a prune with `filters` means: untagged ones that no other was built on, or with
    /// `dangling=false` all. Containers stand in the way only later.
    ///
    /// # Errors
    /// `Invalid` for a bad filter.
    pub fn prune_candidates(&self, filters: &Filters) -> Result<Vec<Candidate>> {
        filters.only(ACCEPTED)?;
        let dangling_only = filters.bool("dangling")?.unwrap_or(true);
        let now = Timestamp::now();
        let until = match filters.get("until") {
            [] => None,
            [one] => Some(Timestamp::parse_relative(one, now)?),
            _ => return Err(Error::invalid("more than one until filter specified")),
        };
        self.store.read(|tx| {
            let tags = tx.tags()?;
            let images = tx.images::<Record>()?;
            let variants = tx.all_variants()?;
            let mut found = Vec::new();
            for image in &images {
                let references: Vec<&str> = tags
                    .iter()
                    .filter(|t| t.image == image.id)
                    .map(|t| t.reference.as_str())
                    .collect();
                if image.doc.is_step() && references.is_empty() {
                    continue;
                }
                let child = images
                    .iter()
                    .filter(|i| !i.doc.is_step())
                    .any(|i| i.parent.as_ref() == Some(&image.id));
                let variant = variants.iter().any(|(_, id)| *id == image.id);
                let tagged = variant || references.iter().any(|r| !r.contains('@'));
                let skipped = (child && (dangling_only || references.is_empty()))
                    || (tagged && dangling_only)
                    || until.is_some_and(|at| image.doc.created.is_none_or(|c| c > at))
                    || !filters.labels(|key| image.doc.labels.get(key).map(String::as_str));
                if !skipped {
                    found.push(Candidate {
                        id: image.id.clone(),
                        references: references.into_iter().map(str::to_owned).collect(),
                    });
                }
            }
            Ok(found)
        })
    }

    /// Removes what [`Images::prune_candidates`] names and no container uses.
    ///
    /// # Errors
    /// `Invalid` for a bad filter. An image that something needs is passed over.
    pub fn prune(&self, filters: &Filters, users: &[User], by: &Principal) -> Result<ImagesPruned> {
        let options = RemoveOptions { force: false, prune: true };
        let mut lines = Vec::new();
        let mut reclaimed = 0;
        for candidate in self.prune_candidates(filters)? {
            if users.iter().any(|u| u.image == candidate.id) {
                continue;
            }
            let by_id = [candidate.id.hex().to_owned()];
            let names = if candidate.references.is_empty() {
                &by_id[..]
            } else {
                &candidate.references[..]
            };
            for name in names {
                match self.remove(name, options, users, by) {
                    Ok(removed) => {
                        lines.extend(removed.lines);
                        reclaimed += removed.reclaimed;
                    }
                    Err(err) => {
                        tracing::debug!(
                            img = candidate.id.short(),
                            err = err.chain(),
                            "prune passes the image over"
                        );
                    }
                }
            }
        }
        let event =
            Event::new("image", "prune", "").with("reclaimed", reclaimed.to_string()).by(by);
        self.store.write(|tx| {
            tx.emit(event);
            Ok(())
        })?;
        Ok(ImagesPruned {
            images_deleted: Some(lines).filter(|l| !l.is_empty()),
            space_reclaimed: reclaimed,
        })
    }
}
