//! What is attested of a build's results: where they come from (SLSA provenance) and what is in them (SPDX).
//!
//! Flow: the client says what it wants ([`Request`]); while the build goes on its sources note what they turned
//! out to be ([`Material`]); at the end [`predicates`] writes down both for each result, which exporters put
//! beside the image and the history keeps.
//! Invariants: values of secrets are in none of it; nothing that was not seen is claimed.
//! Source: in-toto statement v0.1, SLSA provenance v0.2 and v1, BuildKit `solver/llbsolver/provenance`.

mod definition;
mod given;
mod provenance;

pub(crate) use given::Said;

use crate::{
    export::Product,
    front::csv,
    job::Job,
    solve::{blocking, read},
};
use base::{Digest, Error, Platform, Result, Timestamp};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// Media type of a statement, and of a predicate in the history.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";
/// Annotation that says what a statement is about.
pub(crate) const PREDICATE: &str = "in-toto.io/predicate-type";
/// The kind of what says what is in a result.
const SPDX: &str = "https://spdx.dev/Document";
/// What the built-in generator calls itself.
const TOOL: &str = concat!("gantry-", env!("CARGO_PKG_VERSION"));

/// What the client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) provenance: Option<Provenance>,
    pub(crate) sbom: bool,
}

/// How provenance is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// With everything that was done and given (`mode=max`).
    pub(crate) max: bool,
    /// In the words of SLSA v0.2.
    pub(crate) old: bool,
    /// Only where it costs nothing: clients say so when nobody asked for it.
    pub(crate) inline_only: bool,
    /// Who built it.
    pub(crate) builder: String,
    /// The author claims that it can be built again.
    pub(crate) reproducible: bool,
}

impl Request {
    /// Reads the attributes of a build.
    ///
    /// # Errors
    /// `Invalid` for a kind or value that is not known.
    pub(crate) fn read(attrs: &HashMap<String, String>) -> Result<Self> {
        let mut request = Self::default();
        for (key, value) in attrs {
            let kind = match key.strip_prefix("attest:") {
                Some(kind) => kind.to_lowercase(),
                None => match key.strip_prefix("build-arg:BUILDKIT_ATTEST_") {
                    Some(kind) => kind.to_lowercase(),
                    None => continue,
                },
            };
            let fields = if value.is_empty() { Vec::new() } else { csv(value)? };
            let field = |name: &str| {
                let found = fields.iter().find_map(|f| {
                    let (key, value) = f.split_once('=').unwrap_or((f, ""));
                    (key == name).then(|| value.to_owned())
                });
                found.unwrap_or_default()
            };
            let on = |name: &str| matches!(field(name).as_str(), "1" | "t" | "true");
            match kind.as_str() {
                "sbom" => request.sbom = true,
                "provenance" => {
                    request.provenance = Some(Provenance {
                        max: match field("mode").as_str() {
                            "max" => true,
                            "" | "min" => false,
                            other => {
                                return Err(Error::invalid(format!(
                                    "invalid mode for provenance: {other}"
                                )));
                            }
                        },
                        old: match field("version").as_str() {
                            "" | "v1" => false,
                            "v0.2" => true,
                            other => {
                                return Err(Error::invalid(format!(
                                    "invalid provenance SLSA version: {other}"
                                )));
                            }
                        },
                        inline_only: on("inline-only"),
                        builder: field("builder-id"),
                        reproducible: on("reproducible"),
                    });
                }
                other => return Err(Error::invalid(format!("unknown attestation type {other:?}"))),
            }
        }
        Ok(request)
    }
}

impl Request {
    /// What of it goes beside files, which have no place for what nobody asked for.
    pub(crate) fn in_files(&self) -> Self {
        let provenance = self.provenance.clone().filter(|p| !p.inline_only);
        Self { provenance, sbom: self.sbom }
    }
}

/// What a source turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    /// An image, what its name stood for, and for which platform.
    Image { name: String, digest: Option<Digest>, platform: Option<Platform> },
    /// A repository and its commit.
    Git { url: String, commit: String },
    /// A download.
    Http { url: String, digest: Digest },
    /// A folder of the client.
    Local { name: String },
}

/// What is said of a result.
#[derive(Clone, Debug)]
pub(crate) struct Predicate {
    /// What kind of thing is said.
    pub(crate) kind: Cow<'static, str>,
    pub(crate) value: Value,
    /// What its file is called; nothing where the kind says it.
    pub(crate) name: String,
    /// What it is about besides the result, in in-toto's words.
    pub(crate) others: Vec<Value>,
}

impl Predicate {
    fn of(kind: &'static str, value: Value) -> Self {
        Self { kind: kind.into(), value, name: String::new(), others: Vec::new() }
    }

    /// What a file with it is called: name and ending.
    pub(crate) fn file(&self) -> (&str, &str) {
        match (self.name.as_str(), &*self.kind) {
            ("", SPDX) => ("sbom", ".spdx.json"),
            ("", _) => ("provenance", ".json"),
            (name, _) => name.split_at(name.find('.').unwrap_or(name.len())),
        }
    }

    /// As a statement about `subjects`.
    pub(crate) fn statement(&self, subjects: &[(String, Digest)]) -> Vec<u8> {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(|(name, digest)| {
                json!({ "name": name, "digest": { digest.algorithm(): digest.hex() } })
            })
            .chain(self.others.iter().cloned())
            .collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": self.kind,
            "subject": subjects,
            "predicate": self.value,
        });
        statement.to_string().into_bytes()
    }
}

/// What the client wants to be said of a result, the inventory included.
///
/// # Errors
/// Of the storage.
pub(crate) async fn predicates(
    job: &Arc<Job>,
    product: &Product,
    request: &Request,
) -> Result<Vec<Predicate>> {
    let mut all = Vec::new();
    for said in &product.said {
        all.extend(said.predicates(job).await?);
    }
    // A front end knows better what it built.
    if request.sbom && !all.iter().any(|p: &Predicate| p.kind == SPDX) {
        let shown = if product.name.is_empty() {
            Platform::host().to_string()
        } else {
            product.name.clone()
        };
        let task = job.progress.task(&format!("[{shown}] generating sbom"), None);
        let found = inventory(job, product).await;
        task.end(&found);
        all.push(Predicate::of(SPDX, found?));
    }
    if let Some(wanted) = &request.provenance {
        all.push(provenance::predicate(job, product, wanted)?);
    }
    Ok(all)
}

/// Where a result comes from, in full: for the history.
///
/// # Errors
/// `Invalid` for a malformed definition.
pub(crate) fn origin(job: &Arc<Job>, product: &Product) -> Result<Predicate> {
    let old = job.attest.provenance.as_ref().is_some_and(|p| p.old);
    let wanted = Provenance { max: true, old, ..job.attest.provenance.clone().unwrap_or_default() };
    provenance::predicate(job, product, &wanted)
}

async fn inventory(job: &Arc<Job>, product: &Product) -> Result<Value> {
    let reading = read(job, product.out.as_ref()).await?;
    let created = match job.epoch() {
        Some(epoch) => Timestamp::from_unix(epoch, 0),
        None => Timestamp::now(),
    };
    blocking(move || {
        let packages = sbom::scan(&reading.root)?;
        Ok(sbom::spdx::document("sbom", &packages, created, TOOL))
    })
    .await
}

/// The package URL of an image.
pub(crate) fn image_purl(kind: &'static str, name: &str, platform: Option<&Platform>) -> String {
    let Ok(reference) = name.parse::<base::Reference>() else { return name.to_owned() };
    let familiar = reference.familiar_name();
    let (namespace, short) = familiar.rsplit_once('/').unwrap_or(("", &familiar));
    let mut qualifiers = Vec::new();
    if let Some(digest) = reference.digest() {
        qualifiers.push(("digest", digest.to_string()));
    }
    if let Some(platform) = platform {
        qualifiers.push(("platform", platform.clone().short().to_string()));
    }
    let tag = match (reference.tag(), reference.digest()) {
        (Some(tag), _) => tag,
        (None, Some(_)) => "",
        (None, None) => "latest",
    };
    sbom::spdx::purl(&sbom::Package {
        kind,
        namespace: namespace.to_owned(),
        name: short.to_owned(),
        version: tag.to_owned(),
        qualifiers,
        ..sbom::Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attrs: &[(&str, &str)]) -> Result<Request> {
        let attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Request::read(&attrs.collect())
    }

    #[test]
    fn wishes_are_read() {
        let read = request(&[
            ("attest:provenance", "mode=max,version=v0.2,builder-id=https://b"),
            ("build-arg:BUILDKIT_ATTEST_SBOM", ""),
            ("filename", "x"),
        ])
        .unwrap();
        let provenance = read.provenance.unwrap();
        assert!(read.sbom && provenance.max && provenance.old && !provenance.inline_only);
        assert_eq!(provenance.builder, "https://b");
        let default = request(&[("attest:provenance", "mode=min,inline-only=true")]).unwrap();
        assert!(default.provenance.is_some_and(|p| p.inline_only && !p.max));
        for bad in [
            ("attest:odd", ""),
            ("attest:provenance", "mode=mid"),
            ("attest:provenance", "version=v9"),
        ] {
            assert!(request(&[bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn images_have_package_urls() {
        let platform: Platform = "linux/arm64".parse().unwrap();
        for (name, want) in [
            ("busybox", "pkg:docker/busybox@latest?platform=linux%2Farm64"),
            ("docker.io/a/b:1", "pkg:docker/a/b@1?platform=linux%2Farm64"),
            ("r.io:5/a/b/c:1", "pkg:docker/r.io:5/a/b/c@1?platform=linux%2Farm64"),
        ] {
            assert_eq!(image_purl("docker", name, Some(&platform)), want);
        }
    }
}
