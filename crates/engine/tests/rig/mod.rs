//! What the tests of whole engines share.

use base::Principal;
use futures_util::StreamExt as _;
use gantry_engine::{Engine, images::LoadOptions};
use std::{path::PathBuf, sync::Arc};

/// The static shim that `scripts/build` makes: `GANTRY_SHIM`, or in the build folder's libexec.
pub fn shim() -> PathBuf {
    let beside = || {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(3).unwrap().join("libexec/gantry-shim")
    };
    let path = std::env::var_os("GANTRY_SHIM").map_or_else(beside, PathBuf::from);
    assert!(path.exists(), "{} is missing: scripts/build makes it", path.display());
    path
}

/// Loads the busybox image.
pub async fn load_busybox(engine: &Arc<Engine>) {
    let archive = bytes::Bytes::from_static(testkit::image::busybox());
    let body = futures_util::stream::iter([Ok(archive)]).boxed();
    let mut told = engine.images_load(body, LoadOptions::default(), &Principal::default()).await;
    while let Some(line) = told.recv().await {
        line.unwrap();
    }
}
