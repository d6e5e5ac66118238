//! Every case of the OCI distribution conformance suite (1.1.1, and the cases of its successor), one by one.
//!
//! Cases that a registry may decline say so by [`skipped`] and pass.

mod blobs;
mod discovery;
mod management;
mod manifests;
mod ranges;
mod referrers;
mod uploads;

use crate::{http::Client, server::Server};

/// The registry under test and a repository in it.
pub struct Cx {
    pub client: Client,
    pub name: String,
    /// Another repository, to mount from and into.
    pub other: String,
    /// Whether this is our own server: then nothing may be declined.
    pub ours: bool,
    _server: Option<Server>,
}

impl Cx {
    /// The registry that the environment names, or one of our own.
    pub fn new() -> Self {
        let value = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let Some(base) = value("OCI_ROOT_URL") else {
            let server = Server::start();
            let client = server.client();
            let (name, other) = ("conformance/one".to_owned(), "conformance/two".to_owned());
            return Self { client, name, other, ours: true, _server: Some(server) };
        };
        let (user, password) = (value("OCI_USERNAME"), value("OCI_PASSWORD"));
        let user = user.as_deref().zip(password.as_deref());
        Self {
            client: Client::new(&base, user),
            name: value("OCI_NAMESPACE").unwrap_or("conformance/one".into()),
            other: value("OCI_CROSSMOUNT_NAMESPACE").unwrap_or("conformance/two".into()),
            ours: false,
            _server: None,
        }
    }

    /// A repository of this case alone, so that lists hold only what it put there.
    pub fn fresh(mut self, word: &str) -> Self {
        self.name = format!("{}-{word}-{}", self.name, std::process::id());
        self
    }

    pub fn blob(&self, digest: impl std::fmt::Display) -> String {
        format!("/v2/{}/blobs/{digest}", self.name)
    }

    pub fn manifest(&self, reference: impl std::fmt::Display) -> String {
        format!("/v2/{}/manifests/{reference}", self.name)
    }

    pub fn uploads(&self) -> String {
        format!("/v2/{}/blobs/uploads/", self.name)
    }

    /// Begins an upload: its location.
    #[track_caller]
    pub fn begin(&self) -> String {
        self.client.post(&self.uploads()).is(202).header("location").to_owned()
    }

    /// Says that the registry declines something that it may; ours may not.
    #[track_caller]
    pub fn skipped(&self, what: &str) {
        assert!(!self.ours, "our own server declines {what}");
        println!("declined: {what}");
    }
}
