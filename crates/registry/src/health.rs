//! Whether the registry can do its work: database, storage, spool.

use crate::http::Site;

/// Looks at every part; the name of the first that is not ready.
pub(crate) async fn check(site: &Site) -> Result<(), &'static str> {
    let told = |part: &'static str| {
        move |err: base::Error| {
            tracing::warn!(part, err = err.chain(), "not ready");
            part
        }
    };
    site.database.read(|tx| tx.access_version()).await.map_err(told("database"))?;
    site.uploads.check_reserve().map_err(told("spool"))?;
    site.storage.check().await.map_err(told("storage"))
}
