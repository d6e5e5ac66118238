//! What a front end attests of its results: files of states that it made.
//!
//! Invariant: what is read is bounded, and is JSON or the build fails.
//! Source: BuildKit `solver/result/attestation.go`, `exporter/attestation/unbundle.go`.

use super::Predicate;
use crate::{
    job::{Job, Reference},
    solve::{Reading, blocking, evaluate, read},
};
use base::{Error, Result};
use serde_json::{Value, json};
use std::{io::Read as _, sync::Arc};

/// Bytes of one statement.
const STATEMENT: u64 = 64 << 20;
/// Statements in one folder.
const BUNDLE: usize = 64;

/// One thing that a front end says of a result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The result, as the front end calls it.
    pub(crate) platform: String,
    /// What kind of thing is said; of a folder of statements nothing, or the only kind that counts.
    pub(crate) kind: String,
    /// Where it is.
    pub(crate) reference: Reference,
    pub(crate) path: String,
    /// It is a folder of statements.
    pub(crate) bundle: bool,
    /// What it is about besides the result: names, each with digests.
    pub(crate) subjects: Vec<(String, Vec<String>)>,
}

impl Said {
    /// What it comes to.
    ///
    /// # Errors
    /// `NotFound` when the file is not there, `Invalid` when it is not JSON.
    pub(super) async fn predicates(&self, job: &Arc<Job>) -> Result<Vec<Predicate>> {
        let out = evaluate(job, &self.reference).await;
        let out = out.map_err(|f| {
            Error::new(f.error.kind(), format!("cannot make what is attested: {}", f.error.chain()))
        })?;
        let reading = read(job, out.as_ref()).await?;
        let said = self.clone();
        blocking(move || said.read(&reading)).await
    }

    fn read(&self, reading: &Reading) -> Result<Vec<Predicate>> {
        let path = build::go::clean(&format!("/{}", self.path));
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if !self.bundle {
            let value = file(reading, &path)?;
            let others = self.subjects.iter().map(|(name, digests)| {
                let pairs = digests.iter().filter_map(|d| d.split_once(':'));
                let digests: serde_json::Map<String, Value> =
                    pairs.map(|(kind, hex)| (kind.to_owned(), hex.into())).collect();
                json!({ "name": name, "digest": digests })
            });
            let others = others.collect();
            return Ok(vec![Predicate { kind: self.kind.clone().into(), value, name, others }]);
        }
        let fail = |e: sys::root::Error| Error::io(format!("cannot read {path}"), e.into());
        let mut names = reading.root.read_dir(&path).map_err(fail)?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        if names.len() > BUNDLE {
            return Err(Error::invalid(format!("{path} holds more than {BUNDLE} statements")));
        }
        let mut all = Vec::new();
        for (name, _) in names {
            let name = name.to_string_lossy().into_owned();
            let mut statement = file(reading, &format!("{path}/{name}"))?;
            let kind = statement["predicateType"].as_str().unwrap_or_default().to_owned();
            if kind.is_empty() {
                return Err(Error::invalid(format!(
                    "{path}/{name} is no statement: it has no predicateType"
                )));
            }
            if !self.kind.is_empty() && kind != self.kind {
                continue;
            }
            let value = statement["predicate"].take();
            let others = statement["subject"].as_array().cloned().unwrap_or_default();
            all.push(Predicate { kind: kind.into(), value, name, others });
        }
        Ok(all)
    }
}

fn file(reading: &Reading, path: &str) -> Result<Value> {
    let fail = |e: std::io::Error| Error::io(format!("cannot read what is attested: {path}"), e);
    let file = reading.root.open_file(path).map_err(|e| fail(e.into()))?;
    let mut bytes = Vec::new();
    file.take(STATEMENT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > STATEMENT {
        return Err(Error::invalid(format!("{path} is larger than {STATEMENT} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::invalid(format!("what is attested is no JSON: {path}")).caused_by(e))
}
