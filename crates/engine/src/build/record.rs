//! What is written down of each build: from what, by whom, with which result. Governance asks for it later,
//! and nothing of it could be reconstructed then.

use super::{BuildRequest, Job};
use base::{Digest, ImageId, Principal, Reference, Result, Timestamp};
use build::solve::{Built, Failure};
use serde::{Deserialize, Serialize};

/// A build as the store keeps it. Values of build arguments are left out: they may be secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The builder: `classic`.
    pub frontend: String,
    /// Who asked.
    pub by: Principal,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub finished: Option<Timestamp>,
    /// The Dockerfile.
    #[serde(default)]
    pub dockerfile: String,
    /// Digest of its bytes.
    #[serde(default)]
    pub dockerfile_digest: Option<Digest>,
    /// Digest of the context as it was sent, decompressed.
    #[serde(default)]
    pub context: Option<Digest>,
    /// Where the context came from, when it was not sent.
    #[serde(default)]
    pub remote: String,
    /// Names of the build arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The stage asked for.
    #[serde(default)]
    pub target: String,
    /// The platform asked for.
    #[serde(default)]
    pub platform: String,
    /// Names that the image got.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The image that the target stage stands on.
    #[serde(default)]
    pub base: Option<ImageId>,
    /// The image made.
    #[serde(default)]
    pub image: Option<ImageId>,
    /// How it ended.
    #[serde(default)]
    pub outcome: Outcome,
}

/// How a build ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not.
    #[default]
    Running,
    /// With an image.
    Built,
    /// With an error.
    Failed(String),
}

impl Record {
    pub(super) fn new(job: &Job, request: &BuildRequest, tags: &[Reference]) -> Self {
        Self {
            frontend: "classic".into(),
            by: job.by.clone(),
            started: job.started,
            finished: None,
            dockerfile: String::new(),
            dockerfile_digest: None,
            context: None,
            remote: build::download::without_password(&request.remote),
            args: request.build_args.keys().cloned().collect(),
            target: request.target.clone(),
            platform: request.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
            tags: tags.iter().map(Reference::to_string).collect(),
            base: None,
            image: None,
            outcome: Outcome::Running,
        }
    }

    /// The record of build `id` as `inspect` shows it.
    pub(crate) fn shown(&self, id: &str) -> serde_json::Value {
        serde_json::json!({
            "Id": id,
            "Frontend": self.frontend,
            "Started": self.started,
            "Finished": self.finished,
            "Dockerfile": self.dockerfile,
            "DockerfileDigest": self.dockerfile_digest,
            "ContextDigest": self.context,
            "Remote": self.remote,
            "ArgNames": self.args,
            "Target": self.target,
            "Base": self.base,
            "By": self.by,
        })
    }

    pub(super) fn finish(&mut self, outcome: &Result<Built, Failure>) {
        self.finished = Some(Timestamp::now());
        match outcome {
            Ok(built) => {
                self.image.clone_from(&built.image.id);
                self.base.clone_from(&built.base);
                self.outcome = Outcome::Built;
            }
            Err(failure) => self.outcome = Outcome::Failed(failure.to_string()),
        }
    }
}
