//! `--annotation`: what is written on manifests and indexes, and on what points to them.

use base::{Error, Platform, Result};
use std::collections::BTreeMap;

/// Where an annotation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

/// All that were asked for: where, for which platform, key and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations(Vec<(Place, Option<Platform>, String, String)>);

impl Annotations {
    /// Reads the attributes of an exporter: `annotation-index.KEY`, `annotation-manifest[PLATFORM].KEY`, ...
    ///
    /// # Errors
    /// `Invalid` for a place that does not exist.
    pub(super) fn read(attrs: &BTreeMap<String, String>) -> Result<Self> {
        let mut all = Vec::new();
        for (attr, value) in attrs {
            let Some(rest) = attr.strip_prefix("annotation") else { continue };
            let bad = || Error::invalid(format!("invalid annotation {attr:?}"));
            let Some(at) = dot(rest) else { return Err(bad()) };
            let (place, key) = (&rest[..at], &rest[at + 1..]);
            let (place, platform) = match place.split_once('[') {
                Some((place, rest)) => {
                    (place, Some(rest.strip_suffix(']').ok_or_else(bad)?.parse()?))
                }
                None => (place, None),
            };
            let place = match place {
                "" | "-manifest" => Place::Manifest,
                "-manifest-descriptor" => Place::ManifestDescriptor,
                "-index" => Place::Index,
                "-index-descriptor" | "-manifest-index-descriptor" => Place::IndexDescriptor,
                _ => return Err(bad()),
            };
            if key.is_empty() {
                return Err(bad());
            }
            all.push((place, platform, key.to_owned(), value.clone()));
        }
        Ok(Self(all))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, wanted: Place, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let fits = |own: &Option<Platform>| match (own, platform) {
            (None, _) => true,
            (Some(own), Some(platform)) => own == platform,
            (Some(_), None) => false,
        };
        let found = self.0.iter().filter(|(place, own, ..)| *place == wanted && fits(own));
        found.map(|(_, _, key, value)| (key.clone(), value.clone())).collect()
    }

    /// On the manifest of an image.
    pub(super) fn manifest(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.of(Place::Manifest, Some(platform))
    }

    /// On what points to it.
    pub(super) fn manifest_descriptor(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.of(Place::ManifestDescriptor, Some(platform))
    }

    /// On the index.
    pub(super) fn index(&self) -> BTreeMap<String, String> {
        self.of(Place::Index, None)
    }

    /// On what points to the index.
    pub(super) fn index_descriptor(&self) -> BTreeMap<String, String> {
        self.of(Place::IndexDescriptor, None)
    }

    /// Sees to it that nothing is to be written on an index that there is not.
    ///
    /// # Errors
    /// `Invalid` when something is.
    pub(super) fn no_index(&self) -> Result<()> {
        let some = |place: &Place| matches!(place, Place::Index | Place::IndexDescriptor);
        match self.0.iter().any(|(place, ..)| some(place)) {
            true => {
                Err(Error::invalid("index annotations not supported for single platform export"))
            }
            false => Ok(()),
        }
    }
}

/// The first dot outside brackets.
fn dot(text: &str) -> Option<usize> {
    let end = text.find(']').unwrap_or(0);
    text.get(end..)?.find('.').map(|at| at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attrs: &[(&str, &str)]) -> Result<Annotations> {
        let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Annotations::read(&attrs.collect())
    }

    #[test]
    fn annotations_go_where_they_are_meant() {
        let read = read(&[
            ("annotation.a.b", "1"),
            ("annotation-manifest[linux/arm64].only", "2"),
            ("annotation-index.i", "3"),
            ("annotation-manifest-descriptor.d", "4"),
            ("name", "x"),
        ])
        .unwrap();
        let (amd, arm) = ("linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap());
        assert_eq!(read.manifest(&amd), BTreeMap::from([("a.b".into(), "1".into())]));
        assert_eq!(read.manifest(&arm).len(), 2);
        assert_eq!(read.index()["i"], "3");
        assert_eq!(read.manifest_descriptor(&amd)["d"], "4");
        assert!(read.no_index().is_err());
    }

    #[test]
    fn places_that_do_not_exist_are_refused() {
        for bad in
            ["annotation-odd.x", "annotation", "annotation-manifest[linux/amd64.x", "annotation."]
        {
            assert!(read(&[(bad, "v")]).is_err(), "{bad}");
        }
    }
}
