//! Images as archives that the client writes to its disk: `-o type=docker`, `-o type=oci`.

use super::{Product, image, local::Sending, store::names};
use crate::job::Job;
use base::{Error, Result};
use image::archive::SavedImage;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Sends the products as one archive.
///
/// # Errors
/// Of the store, and when the client cannot take it.
pub(super) async fn archive(
    job: &Arc<Job>,
    products: &[Product],
    kind: &str,
    attrs: &BTreeMap<String, String>,
    index: usize,
    epoch: Option<i64>,
) -> Result<HashMap<String, String>> {
    if kind == "docker" && products.len() > 1 {
        return Err(Error::invalid(
            "docker exporter does not currently support exporting manifest lists",
        ));
    }
    let task = job.progress.task(&format!("exporting to {kind} image format"), None);
    let names = names(attrs)?;
    let mut told = HashMap::new();
    let mut images = Vec::new();
    let work = async {
        for product in products {
            let (config, state) = image(job, product, epoch).await?;
            let layers = match &state.image {
                Some(image) => job.host.image_layers(image)?,
                None => Vec::new(),
            };
            told.insert("containerimage.config.digest".to_owned(), config.id().to_string());
            told.insert("containerimage.digest".to_owned(), config.id().to_string());
            let layers = layers.into_iter().map(|l| l.id).collect();
            images.push(SavedImage { config, layers, references: names.clone() });
        }
        let sending = Sending::open(job, index, &told).await?;
        let source = Arc::clone(job.site.engine.image_store());
        sending.write(move |out| image::save(&images, source.as_ref(), out)).await
    };
    let done = work.await;
    if done.is_ok() {
        task.item("sending tarball", 0, 0, true);
    }
    task.end(&done);
    done?;
    if !names.is_empty() {
        let all: Vec<String> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".into(), all.join(","));
    }
    Ok(told)
}
