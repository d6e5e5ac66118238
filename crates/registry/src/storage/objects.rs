//! Blobs in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.
//!
//! The client is `object_store`, which signs, retries with back-off and resumes reads that broke off.
//! Keys are `<prefix>/objects/<first two digits of the upload>/<upload>`: the digest of a blob is not known when
//! its first part is sent, so the database says which object holds which blob.

use super::{Content, Multipart, Object, Settings, Storage};
use base::{Digest, Error, Result, Timestamp};
use bytes::Bytes;
use futures_util::{
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _, TryStreamExt as _},
};
use object_store::{
    ClientConfigKey, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _,
    PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    memory::InMemory,
    multipart::{MultipartStore, PartId},
    path::Path as Key,
};
use std::{ops::Range, path::Path, str::FromStr, sync::Arc, time::Duration};

/// Bytes of a part: with the 10,000 parts that S3 takes, blobs may have 160 GB.
const PART: u64 = 16 << 20;
/// An object store that cannot be reached is given up after this time.
const CONNECT: Duration = Duration::from_secs(5);
/// An object store that sends nothing for this time has broken the connection.
const SILENCE: Duration = Duration::from_secs(30);
/// All tries of one request together.
const TRYING: Duration = Duration::from_secs(60);
/// Tries after the first.
const RETRIES: usize = 5;

/// Objects below a prefix of a bucket.
#[derive(Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    parts: Arc<dyn MultipartStoreDebug>,
    prefix: Key,
    name: String,
    part: u64,
}

/// [`MultipartStore`] of something that can be shown.
trait MultipartStoreDebug: MultipartStore + std::fmt::Debug {}
impl<T: MultipartStore + std::fmt::Debug> MultipartStoreDebug for T {}

impl Objects {
    fn new<S: ObjectStore + MultipartStore>(store: S, prefix: Key, name: &str) -> Self {
        let store = Arc::new(store);
        Self { parts: store.clone(), store, prefix, name: name.to_owned(), part: PART }
    }

    /// A bucket of S3, or of what speaks its protocol.
    ///
    /// # Errors
    /// `Invalid` for an option that is none.
    pub fn s3(settings: &Settings) -> Result<Self> {
        let builder = AmazonS3Builder::from_env().with_url(&settings.url).with_retry(retry());
        let client = client(|key| builder.get_config_value(&AmazonS3ConfigKey::Client(key)));
        let mut builder = builder.with_client_options(client);
        for (key, value) in &settings.options {
            let key = AmazonS3ConfigKey::from_str(key).map_err(|e| bad_option(key, &e))?;
            builder = builder.with_config(key, value);
        }
        Ok(Self::new(
            builder.build().map_err(|e| bad(settings, e))?,
            prefix(settings)?,
            &settings.url,
        ))
    }

    /// A bucket of Google Cloud Storage.
    ///
    /// # Errors
    /// `Invalid` for an option that is none.
    pub fn gcs(settings: &Settings) -> Result<Self> {
        let builder =
            GoogleCloudStorageBuilder::from_env().with_url(&settings.url).with_retry(retry());
        let client = client(|key| builder.get_config_value(&GoogleConfigKey::Client(key)));
        let mut builder = builder.with_client_options(client);
        for (key, value) in &settings.options {
            let key = GoogleConfigKey::from_str(key).map_err(|e| bad_option(key, &e))?;
            builder = builder.with_config(key, value);
        }
        Ok(Self::new(
            builder.build().map_err(|e| bad(settings, e))?,
            prefix(settings)?,
            &settings.url,
        ))
    }

    /// A container of Azure's blob storage.
    ///
    /// # Errors
    /// `Invalid` for an option that is none.
    pub fn azure(settings: &Settings) -> Result<Self> {
        let builder = MicrosoftAzureBuilder::from_env().with_url(&settings.url).with_retry(retry());
        let client = client(|key| builder.get_config_value(&AzureConfigKey::Client(key)));
        let mut builder = builder.with_client_options(client);
        for (key, value) in &settings.options {
            let key = AzureConfigKey::from_str(key).map_err(|e| bad_option(key, &e))?;
            builder = builder.with_config(key, value);
        }
        Ok(Self::new(
            builder.build().map_err(|e| bad(settings, e))?,
            prefix(settings)?,
            &settings.url,
        ))
    }

    /// Objects in this process's memory, gone with it: for trying things out.
    pub fn memory() -> Self {
        Self::new(InMemory::new(), Key::default(), "memory")
    }

    /// The same with smaller parts.
    #[cfg(test)]
    pub(crate) fn with_part_bytes(mut self, bytes: u64) -> Self {
        self.part = bytes;
        self
    }

    fn key(&self, place: &str) -> Key {
        if self.prefix.as_ref().is_empty() {
            Key::from(place)
        } else {
            Key::from(format!("{}/{place}", self.prefix))
        }
    }

    /// Refused, broken, slow, or without its bucket: the client shall come again. The cause names the store's
    /// addresses, which are for the log: of `Unavailable` clients are not told it.
    fn fail(&self, tried: &str, err: object_store::Error) -> Error {
        // Its text holds its causes already.
        Error::unavailable(format!("cannot {tried} in {}", self.name)).caused_by(err.to_string())
    }
}

fn place_of(upload: &str) -> String {
    format!("objects/{}/{upload}", &upload[..2])
}

fn prefix(settings: &Settings) -> Result<Key> {
    let rest = settings.url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    Key::parse(path.trim_matches('/')).map_err(|e| {
        Error::invalid(format!("bad prefix in the storage's address {:?}", settings.url))
            .caused_by(e)
    })
}

fn bad(settings: &Settings, err: object_store::Error) -> Error {
    Error::invalid(format!("cannot use the storage {:?}", settings.url)).caused_by(err)
}

fn bad_option(key: &str, err: &object_store::Error) -> Error {
    Error::invalid(format!("unknown storage option {key:?}: {err}"))
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: TRYING, ..RetryConfig::default() }
}

/// Options of the HTTP client that the environment may give.
const FROM_ENVIRONMENT: [ClientConfigKey; 7] = [
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::UserAgent,
];

/// The HTTP client: our times, and what `environment` says. The settings' own options are put over it.
fn client(environment: impl Fn(ClientConfigKey) -> Option<String>) -> ClientOptions {
    // A slow reader makes a long answer, so there is no limit for the whole.
    let ours = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE);
    FROM_ENVIRONMENT.into_iter().fold(ours, |options, key| match environment(key) {
        Some(value) => options.with_config(key, value),
        None => options,
    })
}

impl Storage for Objects {
    fn describe(&self) -> String {
        format!("objects in {}", self.name)
    }

    fn place(&self, _digest: &Digest, upload: &str) -> String {
        place_of(upload)
    }

    fn keep<'a>(&'a self, spool: &'a Path, place: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let from = spool.to_owned();
            let fail = |e| Error::io("cannot read a spooled blob", e);
            let bytes = super::files::blocking(move || std::fs::read(from).map_err(fail)).await?;
            let payload = PutPayload::from(bytes);
            self.store
                .put(&self.key(place), payload)
                .await
                .map_err(|e| self.fail("store a blob", e))?;
            let spool = spool.to_owned();
            super::files::blocking(move || {
                std::fs::remove_file(spool).map_err(|e| Error::io("cannot drop a spooled blob", e))
            })
            .await
        })
    }

    fn read<'a>(&'a self, place: &'a str, range: Range<u64>) -> BoxFuture<'a, Result<Content>> {
        Box::pin(async move {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range)), ..Default::default() };
            let found =
                self.store.get_opts(&self.key(place), options).await.map_err(|e| match e {
                    object_store::Error::NotFound { .. } => {
                        Error::not_found(format!("a blob's object is gone from {}", self.name))
                    }
                    e => self.fail("read a blob", e),
                })?;
            let name = self.name.clone();
            let stream = found.into_stream().map_err(move |e| {
                Error::unavailable(format!("cannot read a blob in {name}")).caused_by(e.to_string())
            });
            Ok(Content::Stream(stream.boxed()))
        })
    }

    fn size<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            match self.store.head(&self.key(place)).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(err) => Err(self.fail("look at a blob", err)),
            }
        })
    }

    fn remove<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            match self.store.delete(&self.key(place)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(err) => Err(self.fail("delete a blob", err)),
            }
        })
    }

    fn list(&self) -> BoxStream<'_, Result<Object>> {
        let below = self.key("objects");
        let cut = self.prefix.as_ref().len();
        self.store
            .list(Some(&below))
            .map(move |found| {
                let meta = found.map_err(|e| self.fail("list the blobs", e))?;
                let place = meta.location.as_ref()[cut..].trim_start_matches('/').to_owned();
                let modified = Timestamp::from_unix(meta.last_modified.timestamp(), 0);
                Ok(Object { place, size: meta.size, modified })
            })
            .boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // A listing, because what answers a look at one object does not tell a missing object from a missing bucket.
            match self.store.list(Some(&self.key("objects/health"))).try_next().await {
                Ok(_) => Ok(()),
                Err(err) => Err(self.fail("list a part of the blobs", err)),
            }
        })
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }
}

impl Multipart for Objects {
    fn part_bytes(&self) -> u64 {
        self.part
    }

    fn place(&self, upload: &str) -> String {
        place_of(upload)
    }

    fn begin<'a>(&'a self, place: &'a str) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let begun = self.parts.create_multipart(&self.key(place)).await;
            begun.map_err(|e| self.fail("begin an upload", e))
        })
    }

    fn put<'a>(
        &'a self,
        place: &'a str,
        id: &'a str,
        number: usize,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let (key, id) = (self.key(place), id.to_owned());
            let put = self.parts.put_part(&key, &id, number, bytes.into()).await;
            put.map(|part| part.content_id).map_err(|e| self.fail("upload a part", e))
        })
    }

    fn complete<'a>(
        &'a self,
        place: &'a str,
        id: &'a str,
        parts: Vec<String>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (key, id) = (self.key(place), id.to_owned());
            let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
            let done = self.parts.complete_multipart(&key, &id, parts).await;
            done.map(drop).map_err(|e| self.fail("complete an upload", e))
        })
    }

    fn abort<'a>(&'a self, place: &'a str, id: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (key, id) = (self.key(place), id.to_owned());
            match self.parts.abort_multipart(&key, &id).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(err) => Err(self.fail("drop an upload", err)),
            }
        })
    }
}
