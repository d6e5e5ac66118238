//! The cache outside this engine: taken from registries, images and folders of the client, and written there.
//!
//! Flow: a step that is in no cache of this engine is looked for in those that `--cache-from` names
//! ([`import`]), which are read when the first step asks; its layers come only when it is found. At the end of a
//! build [`export`] writes down what its steps came to, in BuildKit's own format ([`format`]), or puts it into
//! the config of the image (`type=inline`).
//! Invariants: a cache that cannot be read is told and does without; nothing of it is trusted but by digest.
//! Not here: the engine's own cache (`solve`), the client's content store (`contents`).

mod export;
mod format;
mod import;

pub(crate) use export::{export, inline};
pub(crate) use format::INLINE;
pub(crate) use import::{Imported, find, load, take};

use crate::proto::control::{CacheOptions, CacheOptionsEntry};
use base::{Digest, Error, ImageId, Reference, Result, Timestamp};
use engine::build::Compression;
use image::compress::Form;
use std::collections::HashMap;

/// What a step of this build came to.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its name by content.
    pub(crate) key: Digest,
    /// The state.
    pub(crate) image: ImageId,
    /// When it was done.
    pub(crate) created: Timestamp,
}

/// What the client asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Where to look.
    pub(crate) imports: Vec<Place>,
    /// Where to write.
    pub(crate) exports: Vec<Export>,
    /// Into the image's config too.
    pub(crate) inline: bool,
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A name in a registry.
    Registry(Reference),
    /// A content store of the client, and what is read from it.
    Client { store: String, manifest: Option<Digest> },
}

/// A cache to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) place: Place,
    /// All steps (`mode=max`), not only those whose layers the results have.
    pub(crate) all: bool,
    /// As an image's manifest, not as an index.
    image_manifest: bool,
    /// In OCI's words, not in Docker's.
    oci: bool,
    compression: Compression,
    /// A failure is told and is none of the build's.
    pub(crate) ignore_error: bool,
}

impl Options {
    /// Reads them.
    ///
    /// # Errors
    /// `Invalid` for a kind or value that is not known.
    pub(crate) fn read(options: &CacheOptions) -> Result<Self> {
        let mut read = Self::default();
        let old = |name: &String| CacheOptionsEntry {
            r#type: "registry".into(),
            attrs: HashMap::from([("ref".to_owned(), name.clone())]),
        };
        let imports = options.imports.iter().cloned();
        for entry in imports.chain(options.import_refs_deprecated.iter().map(old)) {
            let place = place(&entry, "cache importer", "src")?;
            if !read.imports.contains(&place) {
                read.imports.push(place);
            }
        }
        let mut exports = options.exports.clone();
        if !options.export_ref_deprecated.is_empty() {
            let mut entry = old(&options.export_ref_deprecated);
            entry.attrs.extend(options.export_attrs_deprecated.clone());
            exports.push(entry);
        }
        for entry in &exports {
            if entry.r#type == "inline" {
                read.inline = true;
                continue;
            }
            let oci = on(&entry.attrs, "oci-mediatypes")?.unwrap_or(true);
            let image_manifest = on(&entry.attrs, "image-manifest")?.unwrap_or(oci);
            if image_manifest && !oci {
                return Err(Error::invalid(
                    "invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format",
                ));
            }
            read.exports.push(Export {
                place: place(entry, "cache exporter", "dest")?,
                all: match entry.attrs.get("mode").map(String::as_str) {
                    Some("max") => true,
                    None | Some("min" | "") => false,
                    Some(other) => {
                        return Err(Error::invalid(format!(
                            "unknown mode {other:?} of the cache: it is min or max"
                        )));
                    }
                },
                image_manifest,
                oci,
                compression: compression(|key| entry.attrs.get(key).map(String::as_str))?,
                ignore_error: on(&entry.attrs, "ignore-error")?.unwrap_or(false),
            });
        }
        Ok(read)
    }
}

fn place(entry: &CacheOptionsEntry, what: &str, folder: &str) -> Result<Place> {
    let attr = |key: &str| entry.attrs.get(key).map_or("", String::as_str);
    match entry.r#type.as_str() {
        "registry" => {
            let name = attr("ref");
            if name.is_empty() {
                return Err(Error::invalid(format!("registry {what} requires ref")));
            }
            let reference: Reference = name.parse()?;
            Ok(Place::Registry(reference.or_latest()))
        }
        "local" => {
            let store = attr(folder);
            if store.is_empty() {
                return Err(Error::invalid(format!("local {what} requires {folder}")));
            }
            let manifest = match attr("digest") {
                "" => None,
                digest => Some(digest.parse()?),
            };
            Ok(Place::Client { store: format!("local:{store}"), manifest })
        }
        "gha" | "s3" | "azblob" => Err(Error::not_implemented(format!(
            "{what} {:?} is not offered: there are registry, local and inline",
            entry.r#type
        ))),
        other => Err(Error::invalid(format!("unknown {what}: {other:?}"))),
    }
}

/// A switch among the attributes of an exporter.
///
/// # Errors
/// `Invalid` for neither.
pub(crate) fn on(attrs: &HashMap<String, String>, key: &str) -> Result<Option<bool>> {
    match attrs.get(key).map(|v| v.to_lowercase()).as_deref() {
        None => Ok(None),
        Some("" | "1" | "t" | "true") => Ok(Some(true)),
        Some("0" | "f" | "false") => Ok(Some(false)),
        Some(other) => Err(Error::invalid(format!("failed to parse {key}: {other:?}"))),
    }
}

/// The form of layers that the attributes of an exporter ask for.
///
/// # Errors
/// `Invalid` for one that is not known.
pub(crate) fn compression<'a>(attr: impl Fn(&str) -> Option<&'a str>) -> Result<Compression> {
    let form = match attr("compression") {
        None | Some("" | "gzip") => Some(Form::Gzip),
        Some("zstd") => Some(Form::Zstd),
        Some("uncompressed") => None,
        Some("estargz") => {
            return Err(Error::not_implemented(
                "compression estargz is not offered: there are gzip, zstd and uncompressed",
            ));
        }
        Some(other) => return Err(Error::invalid(format!("unsupported compression type {other}"))),
    };
    let force = matches!(attr("force-compression"), Some("" | "1" | "t" | "true"));
    let level = match attr("compression-level") {
        None | Some("") => None,
        Some(text) => match text.parse::<i64>() {
            // -1 is the form's own level, in gzip's words.
            Ok(-1) => None,
            Ok(level) if (0..=22).contains(&level) => u32::try_from(level).ok(),
            _ => return Err(Error::invalid(format!("invalid compression level: {text}"))),
        },
    };
    Ok(Compression { form, force, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, attrs: &[(&str, &str)]) -> CacheOptionsEntry {
        let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        CacheOptionsEntry { r#type: kind.into(), attrs }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let options = CacheOptions {
            exports: vec![
                entry("inline", &[]),
                entry("registry", &[("ref", "r/x"), ("mode", "max"), ("compression", "zstd")]),
                entry("local", &[("dest", "/d"), ("oci-mediatypes", "false")]),
            ],
            imports: vec![entry("registry", &[("ref", "r/x")]), entry("local", &[("src", "/d")])],
            import_refs_deprecated: vec!["r/x".into()],
            ..CacheOptions::default()
        };
        let read = Options::read(&options).unwrap();
        assert!(read.inline && read.imports.len() == 2);
        let [registry, local] = read.exports.as_slice() else { panic!("{read:?}") };
        assert!(registry.all && registry.image_manifest);
        assert_eq!(registry.compression.form, Some(Form::Zstd));
        assert!(!local.all && !local.image_manifest);
        assert_eq!(
            local.place,
            Place::Client { store: "local:/d".into(), manifest: None },
            "folders are the client's"
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (kind, attrs) in [
            ("gha", vec![]),
            ("odd", vec![]),
            ("registry", vec![]),
            ("local", vec![]),
            ("registry", vec![("ref", "x"), ("mode", "mid")]),
            ("registry", vec![("ref", "x"), ("compression", "estargz")]),
            ("registry", vec![("ref", "x"), ("image-manifest", "1"), ("oci-mediatypes", "0")]),
        ] {
            let options =
                CacheOptions { exports: vec![entry(kind, &attrs)], ..CacheOptions::default() };
            assert!(Options::read(&options).is_err(), "{kind} {attrs:?}");
        }
    }
}
