//! Loading: receive, unpack, then put the images together.

use super::{
    docker,
    members::{self, clean, follow},
    oci,
    spool::Spool,
    unpack::{Job, Outcomes, Queue, unpack},
};
use crate::{
    Applied, ConfigBlob, LayerSink, Limits,
    decompress::{self, Kind},
    layer::Unpacked,
    manifest,
};
use base::{Digest, Error, Platform, Reference, Result};
use std::{collections::HashMap, io::Read, path::Path, sync::Mutex, thread};

/// Bytes copied at once from the stream to the spool.
const CHUNK: usize = 256 << 10;
/// Links followed from one name, as many as real archives never have.
const LINKS: usize = 8;
/// Bytes of configs and manifests that all images of an archive may have together.
const ALL_CONFIG_BYTES: u64 = 64 << 20;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Platform to take from an index of several; this host's when not given.
    pub platform: Option<Platform>,
    /// Bounds.
    pub limits: Limits,
}

/// What a loader tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A layer that was not there before is in storage.
    Layer {
        /// Its DiffID.
        diff_id: Digest,
        /// Bytes of its tar.
        bytes: u64,
    },
}

/// What kind of archive an image came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `manifest.json` of `docker save`.
    DockerArchive,
    /// `index.json` of an OCI layout.
    OciLayout,
    /// A skopeo `dir:`.
    Dir,
}

/// An image whose layers are in storage; its blobs are not stored yet.
#[derive(Clone, Debug)]
pub struct LoadedImage {
    /// The config, byte for byte.
    pub config: ConfigBlob,
    /// The layers, lowest first.
    pub layers: Vec<Applied>,
    /// Names it had in the archive.
    pub references: Vec<Reference>,
    /// The manifest it was described by, when there was one.
    pub manifest: Option<Digest>,
    /// That manifest, the index it was listed in and its siblings, byte for byte.
    pub manifests: Vec<(Digest, Vec<u8>)>,
    /// Where it came from.
    pub origin: Origin,
}

impl LoadedImage {
    /// The image's id.
    pub fn id(&self) -> &Digest {
        self.config.id()
    }
}

/// Loads all images of an archive. `spool_dir` must be on the disk that has room for the archive.
///
/// Layers are applied to `sink` before it is known whether they are wanted; after an error, and for
/// layers that no image uses, the sink's owner drops them.
///
/// # Errors
/// `Invalid` for anything malformed, missing, not as promised or beyond the limits; `Exhausted` when the
/// disk is full.
pub fn load(
    source: impl Read + Send,
    spool_dir: &Path,
    sink: &dyn LayerSink,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<LoadedImage>> {
    let limits = &options.limits;
    let spool = Spool::new(spool_dir, limits)?;
    let queue = Queue::default();
    let received = thread::scope(|scope| {
        for _ in 0..limits.unpackers {
            scope.spawn(|| queue.work(&spool, sink, limits));
        }
        let received = receive(source, &spool, &queue, limits);
        if received.is_err() {
            queue.abandon();
        }
        spool.end();
        queue.close();
        received
    });
    let archive = Archive {
        members: received?,
        spool: &spool,
        outcomes: Mutex::new(queue.into_outcomes()),
        sink,
        options,
    };
    let mut images = archive.images()?;
    for image in &mut images {
        for layer in image.layers.iter().filter(|l| l.fresh) {
            progress(Progress::Layer { diff_id: layer.diff_id.clone(), bytes: layer.tar_size });
        }
        image.references.dedup();
    }
    Ok(images)
}

/// Where a member's data is, or what it stands for.
#[derive(Clone, Debug)]
pub(super) enum Member {
    File(Job),
    Link(String),
}

type Members = HashMap<String, Member>;

/// Spools the archive and queues what looks like layers.
fn receive(
    source: impl Read + Send,
    spool: &Spool,
    queue: &Queue,
    limits: &Limits,
) -> Result<Members> {
    let (_, source) = decompress::open(source, limits)?;
    let mut tar = members::Reader::new(source, limits.members);
    let mut found = Members::new();
    let mut buf = vec![0; CHUNK];
    while let Some(header) = tar.next()? {
        let name = clean(&header.name)?;
        let member = match header.kind {
            members::Kind::Link { target, symbolic } => {
                Member::Link(if symbolic { follow(&name, &target)? } else { clean(&target)? })
            }
            members::Kind::File => {
                if LISTINGS.contains(&name.as_str()) {
                    if header.size > limits.listing_bytes {
                        return Err(too_large(&name, header.size, limits.listing_bytes));
                    }
                    if found.contains_key(&name) {
                        return Err(Error::invalid(format!("{name} is in the archive twice")));
                    }
                }
                let offset = spool.written();
                let mut job =
                    Job { offset, size: header.size, kind: Kind::Plain, promised: promised(&name) };
                let mut first = true;
                loop {
                    let n = tar.read(&mut buf)?;
                    if n == 0 {
                        break;
                    }
                    spool.append(&buf[..n])?;
                    if std::mem::take(&mut first) {
                        job.kind = Kind::of(&buf[..n]);
                        if job.kind != Kind::Plain || members::looks_like_tar(&buf[..n], job.size) {
                            queue.push(job.clone());
                        }
                    }
                }
                Member::File(job)
            }
        };
        found.insert(name, member);
    }
    tar.finish()?;
    Ok(found)
}

/// Members that say what is in the archive.
const LISTINGS: [&str; 4] = ["manifest.json", "index.json", "oci-layout", "repositories"];

/// The digest that a name stands for: `blobs/sha256/<hex>`, `<hex>.tar`, `<hex>`.
fn promised(name: &str) -> Option<Digest> {
    let file = name.strip_prefix("blobs/sha256/").unwrap_or(name);
    let hex = file.strip_suffix(".tar").or_else(|| file.strip_suffix(".json")).unwrap_or(file);
    format!("sha256:{hex}").parse().ok()
}

fn too_large(name: &str, size: u64, most: u64) -> Error {
    Error::invalid(format!("{name} has {size} bytes, {most} are allowed"))
}

/// A received archive.
pub(super) struct Archive<'a> {
    members: Members,
    spool: &'a Spool,
    outcomes: Mutex<Outcomes>,
    sink: &'a dyn LayerSink,
    pub(super) options: &'a Options,
}

impl Archive<'_> {
    fn images(&self) -> Result<Vec<LoadedImage>> {
        let images = if let Some(listing) = self.find("manifest.json")? {
            let bytes = self.read("manifest.json", &listing, self.options.limits.listing_bytes)?;
            if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{') {
                vec![oci::dir(self, bytes)?]
            } else {
                docker::images(self, &bytes)?
            }
        } else if let Some(listing) = self.find("index.json")? {
            let bytes = self.read("index.json", &listing, self.options.limits.listing_bytes)?;
            oci::images(self, bytes)?
        } else {
            return Err(Error::invalid("invalid archive: does not contain a manifest.json"));
        };
        let bytes: usize = images
            .iter()
            .map(|i| i.config.raw().len() + i.manifests.iter().map(|(_, m)| m.len()).sum::<usize>())
            .sum();
        if bytes as u64 > ALL_CONFIG_BYTES {
            return Err(too_large("all configs together", bytes as u64, ALL_CONFIG_BYTES));
        }
        Ok(images)
    }

    /// Looks a member up, through links.
    pub(super) fn find(&self, name: &str) -> Result<Option<Job>> {
        let mut name = clean(name)?;
        for _ in 0..LINKS {
            match self.members.get(&name) {
                Some(Member::File(job)) => return Ok(Some(job.clone())),
                Some(Member::Link(target)) => name.clone_from(target),
                // A link to a folder on the way (`<id>` -> `../<other>`).
                None => match self.through_folder(&name) {
                    Some(other) => name = other,
                    None => return Ok(None),
                },
            }
        }
        Err(Error::invalid(format!("too many links from {name:?} in the archive")))
    }

    fn through_folder(&self, name: &str) -> Option<String> {
        let (folder, file) = name.rsplit_once('/')?;
        match self.members.get(folder)? {
            Member::Link(target) => Some(format!("{target}/{file}")),
            Member::File(_) => None,
        }
    }

    /// Like [`Archive::find`], but the member must be there.
    pub(super) fn need(&self, what: &str, name: &str) -> Result<Job> {
        self.find(name)?
            .ok_or_else(|| Error::invalid(format!("invalid archive: {what} {name} is missing")))
    }

    /// Reads a small member whole.
    pub(super) fn read(&self, name: &str, job: &Job, most: u64) -> Result<Vec<u8>> {
        if job.size > most {
            return Err(too_large(name, job.size, most));
        }
        let mut bytes = Vec::with_capacity(job.size as usize);
        self.spool
            .reader(job.offset, job.size)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(format!("cannot read {name} from the archive"), e))?;
        Ok(bytes)
    }

    /// Reads a config.
    pub(super) fn config(&self, name: &str, promised: Option<&Digest>) -> Result<ConfigBlob> {
        let job = self.need("config", name)?;
        let raw = self.read(name, &job, self.options.limits.config_bytes)?;
        let blob = ConfigBlob::parse(raw)?;
        if let Some(promised) = promised.or(job.promised.as_ref())
            && promised != blob.id()
        {
            return Err(mismatch("config", promised, blob.id()));
        }
        let os = blob.config().platform().os;
        if os != "linux" {
            return Err(Error::invalid(format!("cannot load {os} image on linux")));
        }
        Ok(blob)
    }

    /// The layers of an image, each checked against its DiffID.
    pub(super) fn layers(
        &self,
        config: &ConfigBlob,
        members: &[LayerMember],
    ) -> Result<Vec<Applied>> {
        let expected = &config.config().rootfs.diff_ids;
        if expected.len() != members.len() {
            return Err(Error::invalid(format!(
                "invalid manifest, layers length mismatch: expected {}, got {}",
                expected.len(),
                members.len()
            )));
        }
        let mut layers: Vec<Applied> = Vec::with_capacity(members.len());
        for (at, (diff_id, member)) in expected.iter().zip(members).enumerate() {
            let job = self.need("layer", &member.name)?;
            let parents: Vec<Digest> = layers.iter().map(|l| l.layer.clone()).collect();
            let unpacked = self.layer(&job, &parents).map_err(|e| {
                let kind = e.kind();
                Error::new(kind, format!("cannot load layer {}", diff_id.short())).caused_by(e)
            })?;
            if unpacked.applied.diff_id != *diff_id {
                return Err(Error::invalid(format!(
                    "invalid diffID for layer {at}: expected {:?}, got {:?}",
                    diff_id.as_str(),
                    unpacked.applied.diff_id.as_str()
                )));
            }
            if let Some(promised) = member.promised.as_ref().or(member.by_name(&job).as_ref())
                && *promised != unpacked.blob
                && *promised != unpacked.applied.diff_id
            {
                return Err(mismatch("layer", promised, &unpacked.blob));
            }
            if member.size.is_some_and(|size| size != job.size) {
                return Err(Error::invalid(format!(
                    "layer {} has another size than announced",
                    member.name
                )));
            }
            layers.push(unpacked.applied);
        }
        Ok(layers)
    }

    fn layer(&self, job: &Job, parents: &[Digest]) -> Result<Unpacked> {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let again = match outcomes.get(&job.offset) {
            Some(Ok(unpacked)) => unpacked.applied.bound && !parents.is_empty(),
            Some(Err(_)) => !parents.is_empty(),
            None => true,
        };
        if !again && let Some(outcome) = outcomes.get_mut(&job.offset) {
            return match outcome {
                Ok(unpacked) => Ok(unpacked.clone()),
                // Without parents the first try was the only one there is.
                Err(_) => {
                    std::mem::replace(outcome, Err(Error::invalid("the layer was refused before")))
                }
            };
        }
        let mut job = job.clone();
        if !outcomes.contains_key(&job.offset) {
            let mut head = [0; 8];
            let n = self.spool.reader(job.offset, job.size).read(&mut head).unwrap_or_default();
            job.kind = Kind::of(&head[..n]);
        }
        unpack(&job, parents, self.spool, self.sink, &self.options.limits)
    }

    /// Reads a manifest or index by digest, if it is in the archive.
    pub(super) fn manifest(&self, descriptor: &manifest::Descriptor) -> Result<Option<Vec<u8>>> {
        let Some((name, job)) = self.blob(&descriptor.digest)? else { return Ok(None) };
        let bytes = self.read(&name, &job, self.options.limits.manifest_bytes)?;
        let found = Digest::sha256(&bytes);
        if found != descriptor.digest {
            return Err(mismatch("manifest", &descriptor.digest, &found));
        }
        Ok(Some(bytes))
    }

    /// The member that holds a blob: `blobs/sha256/<hex>`, or `<hex>` in a skopeo `dir:`.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<(String, Job)>> {
        for name in
            [format!("blobs/{}/{}", digest.algorithm(), digest.hex()), digest.hex().to_owned()]
        {
            if let Some(job) = self.find(&name)? {
                return Ok(Some((name, job)));
            }
        }
        Ok(None)
    }
}

/// A layer as a manifest names it.
#[derive(Clone, Debug)]
pub(super) struct LayerMember {
    pub(super) name: String,
    pub(super) promised: Option<Digest>,
    pub(super) size: Option<u64>,
}

impl LayerMember {
    /// A name that is a digest promises that digest.
    fn by_name(&self, job: &Job) -> Option<Digest> {
        promised(&clean(&self.name).ok()?).or_else(|| job.promised.clone())
    }
}

fn mismatch(what: &str, promised: &Digest, found: &Digest) -> Error {
    Error::invalid(format!("{what} digest mismatch: expected {promised}, got {found}"))
}
