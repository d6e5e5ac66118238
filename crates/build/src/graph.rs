//! Operations named by their content: what Dockerfile steps come down to, and later BuildKit's LLB.
//!
//! An [`Op`] says completely what is done to which inputs; its digest is therefore a cache key. Inputs are
//! [`State`]s: an image that exists, or the result of another operation. Times, names of containers and
//! paths on the host are no part of it.
//!
//! Here too: which stages of a Dockerfile are needed for a target.

use crate::dockerfile::Dockerfile;
use base::{Digest, ImageId};
use image::RunConfig;
use serde::Serialize;
use std::collections::BTreeSet;

/// An input of an operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing.
    Scratch,
    /// An image.
    Image(ImageId),
    /// The result of an operation.
    Op(Digest),
}

impl State {
    /// The state that an image is, or nothing.
    pub fn of(image: Option<&ImageId>) -> Self {
        image.map_or(Self::Scratch, |id| Self::Image(id.clone()))
    }
}

/// One operation.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Op {
    /// Something from outside: `docker-image://`, `http://`, `context:`.
    Source {
        /// Where it comes from.
        identifier: String,
        /// Digest of what it is.
        digest: Digest,
    },
    /// A command run over a state.
    Exec {
        /// What it runs in.
        input: State,
        /// How, complete: command with build arguments, environment, user, folder.
        config: RunConfig,
        /// Other states that it sees.
        mounts: Vec<Mount>,
    },
    /// Files made or copied in a state.
    File {
        /// What they are put in.
        input: State,
        /// The configuration that goes with it.
        config: RunConfig,
    },
    /// A change of configuration only.
    Config {
        /// Of what.
        input: State,
        /// The new one.
        config: RunConfig,
    },
    /// States laid over each other.
    Merge {
        /// Lowest first.
        inputs: Vec<State>,
    },
    /// What `upper` has more than `lower`.
    Diff {
        /// Below.
        lower: State,
        /// Above.
        upper: State,
    },
}

/// A state seen by a command.
#[derive(Clone, Debug, Serialize)]
pub struct Mount {
    /// What is seen.
    pub state: State,
    /// Where.
    pub target: String,
}

impl Op {
    /// The digest of the operation.
    pub fn digest(&self) -> Digest {
        let mut op = self.clone();
        if let Self::Exec { config, .. } | Self::File { config, .. } | Self::Config { config, .. } =
            &mut op
        {
            // The image is the input already; a host name is given per container.
            config.rest.remove("Image");
            config.rest.remove("Hostname");
        }
        let json = serde_json::to_vec(&op).expect("an operation is always valid JSON");
        Digest::sha256(&json)
    }
}

/// The stages that the stage at `target` needs, itself last, in the order of the file.
///
/// `FROM` and `--from` count when they name an earlier stage; names made of variables are resolved by
/// `expand`.
pub fn needed(file: &Dockerfile, target: usize, expand: impl Fn(&str) -> String) -> Vec<usize> {
    let mut needed = BTreeSet::from([target]);
    let mut open = vec![target];
    while let Some(at) = open.pop() {
        let stage = &file.stages[at];
        let base = expand(&stage.head.base);
        let sources = stage.steps.iter().flat_map(|s| s.instruction.sources());
        let sources = sources.map(|name| if name.contains('$') { expand(&name) } else { name });
        // A number names a stage only behind `--from`.
        let bases = named(file, &base, at).into_iter();
        let all = bases.chain(sources.filter_map(|name| earlier(file, &name, at)));
        for stage in all {
            if needed.insert(stage) {
                open.push(stage);
            }
        }
    }
    needed.into_iter().collect()
}

/// The stage named `name` before the one at `before`.
pub fn named(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let is = |s: &crate::dockerfile::Stage| {
        s.head.name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(name))
    };
    file.stages[..before].iter().position(is)
}

/// The stage named or numbered `name` before the one at `before`.
pub fn earlier(file: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    named(file, name, before).or_else(|| name.parse().ok().filter(|index| *index < before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_target_needs_is_built() {
        let file = Dockerfile::parse(
            "Dockerfile",
            b"FROM a AS one\nFROM b AS two\nCOPY --from=one x y\nFROM c AS unused\nFROM $T\nCOPY --from=0 x y\nFROM two\n",
        )
        .unwrap();
        let expand = |name: &str| name.replace("$T", "unused");
        assert_eq!(needed(&file, 4, expand), [0, 1, 4]);
        assert_eq!(needed(&file, 3, expand), [0, 2, 3]);
        assert_eq!(needed(&file, 0, expand), [0]);
    }

    #[test]
    fn a_digest_is_made_of_content_alone() {
        let op = |cmd: &str, image: &str| {
            let mut config = RunConfig { cmd: Some(vec![cmd.into()]), ..RunConfig::default() };
            config.rest.insert("Image".into(), image.into());
            Op::Exec { input: State::Scratch, config, mounts: Vec::new() }.digest()
        };
        assert_eq!(op("a", "x"), op("a", "y"));
        assert_ne!(op("a", "x"), op("b", "x"));
    }
}
