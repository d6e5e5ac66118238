//! What is only asked of registries: logins, searches, what a name means there.

use super::{Credentials, Images};
use crate::Engine;
use base::{Error, Platform, Reference, Result, filters::Filters};
use image::{
    manifest::{self, Descriptor, Either},
    registry::{Action, Found, Repository},
};
use serde_json::{Value, json};

/// Results of a search, as many as Docker asks for and takes at most.
const SEARCH_DEFAULT: i64 = 25;
const SEARCH_MOST: i64 = 100;

impl Engine {
    /// `POST /auth`: the refresh token that the registry gave, if any.
    ///
    /// # Errors
    /// `Unauthorized` when the registry does not take the credentials.
    pub async fn registry_login(&self, credentials: &Credentials) -> Result<String> {
        self.registries.login(credentials).await
    }

    /// `GET /images/search`.
    ///
    /// # Errors
    /// `Invalid` for a bad limit or filter; of the registry.
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        credentials: &Credentials,
    ) -> Result<Vec<Found>> {
        filters.only(&["is-automated", "is-official", "stars"])?;
        let limit = match limit {
            None | Some(0) => SEARCH_DEFAULT,
            Some(limit) if (1..=SEARCH_MOST).contains(&limit) => limit,
            Some(limit) => {
                return Err(Error::invalid(format!(
                    "limit {limit} is outside the range of [1, {SEARCH_MOST}]"
                )));
            }
        };
        let official = filters.bool("is-official")?;
        let automated = filters.bool("is-automated")?;
        let stars = filters
            .get("stars")
            .iter()
            .map(|text| {
                text.parse::<i64>()
                    .map_err(|_| Error::invalid(format!("invalid filter 'stars=[{text}]'")))
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .max();
        let limit = u32::try_from(limit).unwrap_or(25);
        let found = self.registries.search(term, limit, credentials).await;
        let mut found = found.map_err(super::pull::unprompted)?;
        found.retain(|one| {
            official.is_none_or(|wanted| one.is_official == wanted)
                && automated.is_none_or(|wanted| one.is_automated == wanted)
                && stars.is_none_or(|least| one.star_count >= least)
        });
        Ok(found)
    }

    /// `GET /distribution/{name}/json`; with `whole` also the manifests, byte for byte as text.
    ///
    /// # Errors
    /// `NotFound`, `Unauthorized`, `Forbidden` as the registry says.
    pub async fn distribution(
        &self,
        reference: &Reference,
        credentials: &Credentials,
        whole: bool,
    ) -> Result<Value> {
        let reference = reference.clone().or_latest();
        let repository = self.registries.repository(&reference, credentials, Action::Pull)?;
        let name = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let limits = image::Limits::default();
        let top = repository.manifest(&name, &limits).await?;
        let descriptor = top.descriptor();
        let parsed = manifest::parse(&top.bytes)?;
        let platforms = match &parsed {
            Either::Index(index) => {
                let known = index.manifests.iter().filter_map(|d| d.platform.clone());
                known.collect()
            }
            Either::Manifest(one) => platform_of(&repository, &one.config).await?,
        };
        let mut answer = json!({
            "Descriptor": {
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest,
                "size": descriptor.size,
            },
            "Platforms": platforms,
        });
        if whole {
            answer["Gantry"] = self.manifests(&repository, &top, &parsed, &limits).await?;
        }
        Ok(answer)
    }

    /// The manifests below a name, each with its bytes and its platform.
    async fn manifests(
        &self,
        repository: &Repository,
        top: &image::registry::Fetched,
        parsed: &Either,
        limits: &image::Limits,
    ) -> Result<Value> {
        let shown = |descriptor: &Descriptor, bytes: &[u8], platform: Option<&Platform>| {
            json!({
                "Descriptor": {
                    "mediaType": descriptor.media_type, "digest": descriptor.digest,
                    "size": descriptor.size, "platform": platform,
                },
                "Raw": String::from_utf8_lossy(bytes),
            })
        };
        let mut list = Vec::new();
        match parsed {
            Either::Manifest(one) => {
                let platform = platform_of(repository, &one.config).await?;
                list.push(shown(&top.descriptor(), &top.bytes, platform.first()));
            }
            Either::Index(index) => {
                for child in &index.manifests {
                    let got = repository.manifest(child.digest.as_str(), limits).await?;
                    list.push(shown(&got.descriptor(), &got.bytes, child.platform.as_ref()));
                }
            }
        }
        Ok(json!({ "Raw": String::from_utf8_lossy(&top.bytes), "Manifests": list }))
    }
}

/// The platform that a config names.
async fn platform_of(repository: &Repository, config: &Descriptor) -> Result<Vec<Platform>> {
    let limit = image::Limits::default().config_bytes;
    let raw = repository.small_blob(&config.digest, config.size, limit).await?;
    let config = image::ConfigBlob::parse(raw.to_vec());
    // What is no image has no platform; it is in the registry all the same.
    Ok(config.ok().map(|c| c.config().platform()).into_iter().collect())
}

impl Images {
    /// Drops downloads that nobody continues, and what unfinished pulls kept for a next try.
    pub(crate) fn forget_unfinished(&self, active: &[base::Digest]) -> Result<()> {
        self.store.write(|tx| tx.expire_leases(base::Timestamp::now(), true))?;
        self.content.drop_partial(std::time::Duration::ZERO, active)
    }
}
