//! Object stores for the registry: servers that speak their protocols, each behind a gate that can be shut.
//!
//! S3: s3s-fs, which checks signatures. Azure: Azurite. Google: s3s-fs again, because Google's XML interface, which
//! the client uses, has the requests of S3 down to multipart uploads, and no server in the package registries has
//! them: fake-gcs-server 1.56 answers a plain PUT and `?uploads` with 400 "invalid uploadType". So Google's
//! client is tested; how it comes by a token, and the answers of Google's own servers, are not.
//! To add a store: a variant of `Kind`, a function that starts it, a line in `objects.rs`.

mod azurite;
mod gate;
mod s3s;

pub use gate::{BUSY, CUT, DEAF, Gate, OPEN, SHUT, SLOW};

use azurite::Azurite;
use s3s::Allowed;
use std::path::PathBuf;

/// What is below the prefix that the registry is told.
const BELOW: &str = "some/prefix/objects";

enum Kind {
    S3,
    Google,
    Azure(Azurite),
}

/// A store with one bucket, `bucket`.
pub struct Store {
    pub gate: Gate,
    kind: Kind,
    // Last: a server is stopped before its files are removed.
    dir: tempfile::TempDir,
}

impl Store {
    /// One that speaks S3 and checks signatures.
    pub fn s3() -> Option<Self> {
        Some(Self::in_process(Kind::S3, Allowed::Key("key", "secret")))
    }

    /// One that speaks what Google's XML interface has in common with S3, and checks a token.
    pub fn google() -> Option<Self> {
        Some(Self::in_process(Kind::Google, Allowed::Token("token")))
    }

    /// One that speaks Azure's protocol; `None` when it is not installed.
    pub fn azure() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let server = Azurite::start(dir.path())?;
        Some(Self { gate: Gate::before(server.address), kind: Kind::Azure(server), dir })
    }

    fn in_process(kind: Kind, allowed: Allowed) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bucket")).unwrap();
        let server = s3s::serve(dir.path(), allowed);
        Self { gate: Gate::before(server), kind, dir }
    }

    /// The registry's configuration for it.
    pub fn config(&self) -> String {
        let gate = self.gate.address;
        match &self.kind {
            Kind::S3 => format!(
                "[storage]\nurl = \"s3://bucket/some/prefix\"\n[storage.options]\naws_endpoint = \"http://{gate}\"\n\
                 aws_allow_http = \"true\"\naws_access_key_id = \"key\"\naws_secret_access_key = \"secret\"\n\
                 aws_region = \"eu-west-1\"\n"
            ),
            Kind::Google => format!(
                "[storage]\nurl = \"gs://bucket/some/prefix\"\n[storage.options]\ngoogle_base_url = \"http://{gate}\"\n\
                 google_allow_http = \"true\"\ngoogle_bearer_token = \"token\"\n"
            ),
            Kind::Azure(_) => format!(
                "[storage]\nurl = \"az://bucket/some/prefix\"\n[storage.options]\n\
                 azure_storage_endpoint = \"http://{gate}/{}\"\nazure_allow_http = \"true\"\n\
                 azure_storage_account_name = \"{}\"\nazure_storage_account_key = \"{}\"\n",
                azurite::ACCOUNT,
                azurite::ACCOUNT,
                azurite::KEY
            ),
        }
    }

    /// The same for a bucket that is not there.
    pub fn config_without_bucket(&self) -> String {
        self.config().replace("://bucket/", "://nowhere/")
    }

    /// The same with a key or token that is somebody else's.
    pub fn config_with_wrong_key(&self) -> String {
        match &self.kind {
            Kind::S3 => self.config().replace("secret\"", "of somebody else\""),
            Kind::Google => self.config().replace("\"token\"", "\"of somebody else\""),
            Kind::Azure(_) => self.config().replace(azurite::KEY, "c29tZWJvZHkgZWxzZQ=="),
        }
    }

    /// Objects in the bucket below the prefix.
    pub fn objects(&self) -> usize {
        match &self.kind {
            Kind::S3 | Kind::Google => self.files().len(),
            Kind::Azure(server) => server.blobs(BELOW, false).len(),
        }
    }

    /// Parts of uploads that were not completed; at Azure, blobs that have nothing but parts.
    pub fn parts(&self) -> usize {
        match &self.kind {
            Kind::S3 | Kind::Google => {
                let all = std::fs::read_dir(self.dir.path()).unwrap().flatten();
                all.filter(|e| e.file_name().to_string_lossy().contains("part")).count()
            }
            Kind::Azure(server) => server.blobs(BELOW, true).len() - self.objects(),
        }
    }

    /// Whether what is written makes the bucket that it is to go to: s3s-fs does that.
    pub fn makes_buckets(&self) -> bool {
        !matches!(self.kind, Kind::Azure(_))
    }

    /// Whether parts can be dropped: Azure does that by itself, after a week.
    pub fn drops_parts(&self) -> bool {
        !matches!(self.kind, Kind::Azure(_))
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut dirs = vec![self.dir.path().join("bucket").join(BELOW)];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    dirs.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}
