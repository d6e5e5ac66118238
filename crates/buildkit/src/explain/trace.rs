//! What is kept of the steps of a build.

use crate::{
    attest::Material,
    graph::Vertex,
    solve::key::{Key, Part},
};
use base::{Digest, Error, Result};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    io::{Read as _, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Steps kept of one build.
pub(crate) const STEPS: usize = 5_000;
/// Files that are named in the lists of one build.
pub(crate) const ENTRIES: usize = 200_000;
/// Bytes of a list when it is unpacked.
const LIST: u64 = 64 << 20;
/// Bytes of a value that are kept as they are.
const VALUE: usize = 200;
/// Bytes of a step's name.
const NAME: usize = 500;

/// Steps of a build, in the order in which they were begun.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Trace {
    /// What was built, as far as that can be told: context, Dockerfile, stage. Empty when it cannot.
    pub(crate) project: String,
    /// Names of the build arguments that were given.
    pub(crate) arguments: BTreeSet<String>,
    pub(crate) steps: Vec<Step>,
    /// Lists of files by digest, packed.
    #[serde(skip)]
    pub(crate) lists: BTreeMap<String, Vec<u8>>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was begun, and the build ended before it.
    #[default]
    Begun,
    Cached,
    Ran,
    Failed,
}

impl Outcome {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Begun => "unfinished",
            Self::Cached => "cached",
            Self::Ran => "ran",
            Self::Failed => "failed",
        }
    }
}

/// One step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) vertex: String,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// It was to be done although it might be in the cache.
    pub(crate) no_cache: bool,
    /// Its name by content; empty for sources.
    pub(crate) key: String,
    /// What that was made of.
    pub(crate) parts: Vec<Kept>,
    /// What a source turned out to be.
    pub(crate) found: String,
    pub(crate) why: Vec<Reason>,
}

/// A part of a step's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    pub(crate) name: String,
    /// The value, or its hash.
    pub(crate) value: String,
    /// The vertex that it comes from.
    pub(crate) from: String,
    /// What the value stands for, one by one: a list by its digest.
    pub(crate) list: String,
}

/// Why a step was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reason {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) detail: String,
}

/// What a part stands for: names, each with what makes it what it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct List(Vec<(String, u64)>);

impl List {
    /// Adds a name with the hash of what it stands for.
    pub(crate) fn add(&mut self, name: impl Into<String>, hash: [u8; 32]) {
        let mut short = [0; 8];
        short.copy_from_slice(&hash[..8]);
        self.0.push((name.into(), u64::from_be_bytes(short)));
    }

    /// As it is kept: a line for each name. Beyond `most` names folders stand for what is in them.
    fn pack(&self, most: usize) -> std::io::Result<Vec<u8>> {
        let mut all: Vec<(Cow<'_, str>, u64)> =
            self.0.iter().map(|(name, hash)| (Cow::from(name.as_str()), *hash)).collect();
        all.sort_unstable();
        let deepest = all.iter().map(|(name, _)| name.matches('/').count()).max().unwrap_or(0);
        for depth in (0..=deepest).rev() {
            if all.len() <= most {
                break;
            }
            let mut folded: BTreeMap<Cow<'_, str>, u64> = BTreeMap::new();
            for (name, hash) in all {
                let key = match name.match_indices('/').nth(depth.saturating_sub(1)) {
                    Some((at, _)) if depth > 0 => Cow::from(format!("{}/", &name[..at])),
                    None if depth > 0 => name,
                    _ => Cow::from("/"),
                };
                let sum = folded.entry(key).or_default();
                *sum = sum.wrapping_add(hash);
            }
            all = folded.into_iter().collect();
        }
        let mut out = ZlibEncoder::new(Vec::new(), Compression::fast());
        for (name, hash) in all {
            writeln!(out, "{hash:016x} {}", name.replace('\n', "\u{fffd}"))?;
        }
        out.finish()
    }
}

/// The names of a list that is kept, with what they stand for.
///
/// # Errors
/// `Internal` when it is malformed.
pub(super) fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let fail = |e| Error::internal("cannot read a list of what a step was made of").caused_by(e);
    let mut text = String::new();
    ZlibDecoder::new(bytes).take(LIST).read_to_string(&mut text).map_err(fail)?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(hash, name)| (name.to_owned(), hash.to_owned())).collect())
}

/// Notes the steps of a build while it runs.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    at: HashMap<String, usize>,
    trace: Trace,
    entries: usize,
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step that begins.
    pub(crate) fn begin(&self, vertex: &Vertex) {
        let mut inner = self.lock();
        let at = inner.trace.steps.len();
        if at >= STEPS || inner.at.contains_key(&vertex.digest) {
            return;
        }
        inner.at.insert(vertex.digest.clone(), at);
        let mut name = vertex.name();
        if let Some((end, _)) = name.char_indices().nth(NAME) {
            name.truncate(end);
        }
        inner.trace.steps.push(Step {
            vertex: vertex.digest.clone(),
            name,
            no_cache: vertex.meta.ignore_cache,
            ..Step::default()
        });
    }

    /// What it is called by content. Blocks for as long as its lists take to be packed, and holds nobody up meanwhile.
    pub(crate) fn key(&self, vertex: &Vertex, key: &Key) {
        let Some(rooms) = self.claim(vertex, key) else { return };
        let mut rooms = rooms.into_iter();
        let (mut parts, mut lists) = (Vec::new(), BTreeMap::new());
        for Part { name, value, from, list } in key.all() {
            let input = from.and_then(|i| vertex.op.inputs.get(i)).map(|i| i.digest.clone());
            let mut kept = Kept {
                name: name.clone(),
                value: match value.len() <= VALUE && list.is_none() {
                    true => value.clone(),
                    false => Digest::sha256(value.as_bytes()).short().to_owned(),
                },
                from: input.unwrap_or_default(),
                list: String::new(),
            };
            if let Some(list) = list {
                let room = rooms.next().unwrap_or_default();
                // Without it the part is known to differ, and no more.
                if let Ok(packed) = list.pack(room.max(1)) {
                    kept.list = Digest::sha256(&packed).to_string();
                    lists.insert(kept.list.clone(), packed);
                }
            }
            parts.push(kept);
        }
        let mut inner = self.lock();
        // The build may have ended meanwhile.
        if let Some(at) = inner.at.get(&vertex.digest).copied() {
            inner.trace.steps[at].parts = parts;
            inner.trace.lists.extend(lists);
        }
    }

    /// Notes the name of a step that has none yet; gives how many names each of its lists may have.
    fn claim(&self, vertex: &Vertex, key: &Key) -> Option<Vec<usize>> {
        let mut inner = self.lock();
        let at = inner.at.get(&vertex.digest).copied()?;
        if !inner.trace.steps[at].key.is_empty() {
            return None;
        }
        inner.trace.steps[at].key = key.output(0);
        let lists = key.all().iter().filter_map(|part| part.list.as_ref());
        let mut rooms = Vec::new();
        for list in lists {
            let room = ENTRIES.saturating_sub(inner.entries);
            inner.entries += list.0.len().min(room);
            rooms.push(room);
        }
        Some(rooms)
    }

    /// How it went.
    pub(crate) fn end(&self, vertex: &str, outcome: Outcome) {
        let mut inner = self.lock();
        if let Some(at) = inner.at.get(vertex).copied() {
            inner.trace.steps[at].outcome = outcome;
        }
    }

    /// What a source came to, by content.
    pub(crate) fn found(&self, vertex: &str, chain: &str) {
        let mut inner = self.lock();
        if let Some(at) = inner.at.get(vertex).copied() {
            inner.trace.steps[at].found = chain.to_owned();
        }
    }

    /// All of it, with what sources turned out to be.
    pub(crate) fn take(&self, materials: &HashMap<String, Material>) -> Trace {
        let mut inner = self.lock();
        inner.at.clear();
        let mut trace = std::mem::take(&mut inner.trace);
        for step in &mut trace.steps {
            match materials.get(&step.vertex) {
                Some(
                    Material::Image { digest: Some(digest), .. } | Material::Http { digest, .. },
                ) => step.found = digest.to_string(),
                Some(Material::Git { commit, .. }) => step.found.clone_from(commit),
                Some(Material::Local { .. }) => "local".clone_into(&mut step.found),
                // An image that was made here has no digest; what it holds says as much.
                Some(Material::Image { digest: None, .. }) | None => {}
            }
        }
        trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_by_name_and_bounded_by_folders() {
        let mut list = List::default();
        for name in ["a/b/one", "a/b/two", "a/c", "d"] {
            list.add(name, [u8::try_from(name.len()).unwrap(); 32]);
        }
        let all = unpack(&list.pack(10).unwrap()).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a/b/one", "a/b/two", "a/c", "d"]);
        let few = unpack(&list.pack(3).unwrap()).unwrap();
        assert_eq!(few.keys().collect::<Vec<_>>(), ["a/b/", "a/c", "d"]);
        let fewer = unpack(&list.pack(2).unwrap()).unwrap();
        assert_eq!(fewer.keys().collect::<Vec<_>>(), ["a/", "d"]);
        assert_eq!(unpack(&list.pack(1).unwrap()).unwrap().len(), 1);
        assert!(unpack(b"rubbish").is_err());
    }
}
