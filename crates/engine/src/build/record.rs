//! What is written down of each build: from what, by whom, with which result. Governance asks for it later,
//! and nothing of it could be reconstructed then.

use super::{BuildHost, BuildRequest, Job};
use base::{Digest, ImageId, Principal, Reference, Result, Timestamp};
use build::solve::{Built, Failure};
use serde::{Deserialize, Serialize};

/// A build as the store keeps it. Values of build arguments are left out: they may be secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The builder: `classic`, or BuildKit's front end (`dockerfile.v0`, the name of an image).
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

/// What BuildKit's front tells of a build that is over.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The front end.
    pub frontend: String,
    /// The bytes of the file that was built; none when nobody read one here.
    pub dockerfile: Vec<u8>,
    /// Where the context came from, when it was not sent.
    pub remote: String,
    /// Names of the build arguments.
    pub args: Vec<String>,
    /// The stage asked for.
    pub target: String,
    /// The platforms asked for.
    pub platform: String,
    /// Names that the result got.
    pub tags: Vec<String>,
    /// The name of the image that it stands on.
    pub base: String,
    /// Why it failed.
    pub failure: Option<String>,
}

impl BuildHost {
    /// Writes down what came of a build of BuildKit's front: for each image that it made, or once when there is none.
    ///
    /// # Errors
    /// Of the database.
    pub fn put_record(&self, told: Told) -> Result<()> {
        let job = self.job();
        let images = self.engine().image_store();
        let record = Record {
            frontend: told.frontend,
            by: job.by.clone(),
            started: job.started,
            finished: Some(Timestamp::now()),
            dockerfile_digest: (!told.dockerfile.is_empty())
                .then(|| Digest::sha256(&told.dockerfile)),
            dockerfile: String::from_utf8_lossy(&told.dockerfile).into_owned(),
            context: None,
            remote: build::download::without_password(&told.remote),
            args: told.args,
            target: told.target,
            platform: told.platform,
            tags: told.tags,
            base: (!told.base.is_empty()).then(|| images.resolve(&told.base).ok()).flatten(),
            image: None,
            outcome: match told.failure {
                Some(why) => Outcome::Failed(why),
                None => Outcome::Built,
            },
        };
        let mut made: Vec<Option<ImageId>> = self.made().into_iter().map(Some).collect();
        if made.is_empty() {
            made.push(None);
        }
        self.engine().store.write(|tx| {
            for (number, image) in made.iter().enumerate() {
                // Each image finds the record by its own row; the first has the build's id.
                let id = match number {
                    0 => job.id.clone(),
                    number => format!("{}.{number}", job.id),
                };
                let doc = Record { image: image.clone(), ..record.clone() };
                tx.put_build(&store::Build {
                    id,
                    started: job.started,
                    image: image.clone(),
                    doc,
                })?;
            }
            Ok(())
        })
    }
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
