//! Files to the client's disk: `-o type=local`, `-o type=tar`, with what is attested of them beside.

use super::{
    Product,
    sending::Sending,
    tree::{self, Tree},
};
use crate::{
    attest, cache,
    job::Job,
    solve::{blocking, read},
};
use base::{Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::{Part, Times};
use sys::root::{Kind, Root};

/// Folders deeper than this are refused.
const DEPTH: usize = 1000;

/// Each product as a tree with what is attested of it, in a folder of its own where there are several and they are
/// not to be laid into one another.
async fn trees(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    split: bool,
) -> Result<Vec<Tree>> {
    let prefix = attrs.get("attestation-prefix").map_or("", String::as_str);
    if prefix.contains('/') {
        return Err(Error::invalid(format!(
            "the attestation-prefix {prefix:?} is no part of a name"
        )));
    }
    let mut trees = Vec::new();
    for product in products {
        let platform = product.name.replace('/', "_");
        let reading = read(job, product.out.as_ref()).await?;
        let mut tree = Tree {
            platform: product.name.clone(),
            folder: if split { platform.clone() } else { String::new() },
            reading,
            beside: BTreeMap::new(),
        };
        let said = attest::predicates(job, product, &job.attest.in_files()).await?;
        if !said.is_empty() {
            let root = Arc::clone(&tree.reading.root);
            let subjects = blocking(move || subjects(&root)).await?;
            for predicate in said {
                let (stem, end) = predicate.file();
                let name = match split || platform.is_empty() {
                    true => format!("{prefix}{stem}{end}"),
                    false => format!("{prefix}{stem}.{platform}{end}"),
                };
                tree.beside.insert(name, predicate.statement(&subjects));
            }
        }
        trees.push(tree);
    }
    Ok(trees)
}

/// The files of a tree, by path, each with its digest.
fn subjects(root: &Root) -> Result<Vec<(String, Digest)>> {
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if depth > DEPTH {
            return Err(Error::invalid("the result has folders nested too deeply"));
        }
        let fail =
            |e: sys::root::Error| Error::io(format!("cannot read {}", folder.display()), e.into());
        let dir = root.open_dir(Path::new("/").join(&folder)).map_err(fail)?;
        for (name, _) in dir.entries().map_err(fail)? {
            let path = folder.join(&name);
            match dir.stat(&name).map_err(fail)?.kind {
                Kind::Dir => folders.push((path, depth + 1)),
                Kind::File => found.push((path.to_string_lossy().into_owned(), hash(root, &path)?)),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hash(root: &Root, path: &Path) -> Result<Digest> {
    let fail = |e: std::io::Error| Error::io(format!("cannot read {}", path.display()), e);
    let mut file = root.open_file(path).map_err(|e| fail(e.into()))?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut hasher).map_err(fail)?;
    Ok(Digest::from_sha256(hasher.finalize().into()))
}

/// Sends the files as a tar archive.
///
/// # Errors
/// Of the storage, and when the client cannot take it.
pub(super) async fn tar(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    index: usize,
    epoch: Option<i64>,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to client tarball", None);
    let work = async {
        let trees = trees(job, products, attrs, true).await?;
        let sending = Sending::open(job, index, &HashMap::new()).await?;
        sending
            .write(move |out| match epoch {
                None => pack(&trees, out),
                Some(epoch) => storage::through(
                    |tar| pack(&trees, tar),
                    |tar| storage::retime(tar, Times::Exactly(epoch), out),
                ),
            })
            .await
    };
    let done = work.await;
    if done.is_ok() {
        task.item("sending tarball", 0, 0, true);
    }
    task.end(&done);
    done.map(|()| HashMap::new())
}

fn pack(trees: &[Tree], out: &mut dyn std::io::Write) -> Result<()> {
    let mut names = Vec::new();
    for tree in trees {
        for (name, content) in &tree.beside {
            let path = match tree.folder.as_str() {
                "" => name.clone(),
                folder => format!("{folder}/{name}"),
            };
            names.push((path, content));
        }
    }
    let mut parts = Vec::new();
    for tree in trees {
        parts.push(Part::Tree(OsStr::new(&tree.folder), &tree.reading.root));
    }
    parts.extend(names.iter().map(|(name, content)| Part::File(OsStr::new(name), content)));
    storage::export_parts(&parts, out)
}

/// Sends the files as a tree.
///
/// # Errors
/// Of the storage, and when the client cannot take them.
pub(super) async fn local(
    job: &Arc<Job>,
    products: &[Product],
    attrs: &BTreeMap<String, String>,
    index: usize,
    epoch: Option<i64>,
) -> Result<HashMap<String, String>> {
    let task = job.progress.task("exporting to client directory", None);
    let work = async {
        let map = attrs.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let split = cache::on(&map, "platform-split")?.unwrap_or(true);
        let trees = trees(job, products, attrs, split).await?;
        tree::send(job, trees, index, epoch).await
    };
    let done = work.await;
    if done.is_ok() {
        task.item("copying files", 0, 0, true);
    }
    task.end(&done);
    done.map(|()| HashMap::new())
}
