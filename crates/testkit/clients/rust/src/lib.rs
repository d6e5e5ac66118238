//! What the programs of this folder share.

use std::{collections::BTreeMap, fmt, io::Read as _};

/// Why a section failed.
#[derive(Debug)]
pub struct Failure(String);

/// How a section ended.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// A failure for this reason.
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(err: E) -> Self {
        let mut text = err.to_string();
        let mut cause = err.source();
        while let Some(err) = cause {
            text = format!("{text}: {err}");
            cause = err.source();
        }
        Self(text)
    }
}

/// Runs one section and tells how it went.
pub async fn section(name: &str, failed: &mut u32, run: impl Future<Output = Outcome>) {
    match run.await {
        Ok(()) => println!("ok {name}"),
        Err(Failure(why)) => {
            *failed += 1;
            println!("FAILED {name}: {why}");
        }
    }
}

/// Fails unless the two are equal.
#[track_caller]
pub fn equal<T: PartialEq + fmt::Debug>(got: T, wanted: T) -> Outcome {
    check(got == wanted, format!("got {got:?}, wanted {wanted:?}"))
}

/// Fails unless `holds`.
#[track_caller]
pub fn check(holds: bool, shown: impl fmt::Display) -> Outcome {
    let place = std::panic::Location::caller();
    if holds { Ok(()) } else { Err(Failure(format!("line {}: {shown}", place.line()))) }
}

/// A variable of the environment that has to be there.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// A tar of files by name.
pub fn pack(files: &[(&str, &str)]) -> Result<Vec<u8>, Failure> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        tar.append_data(&mut header, name, content.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

/// The small files of a tar by name.
pub fn unpack(bytes: &[u8]) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries()? {
        let mut entry = entry?;
        if entry.size() > 4096 {
            continue;
        }
        let mut content = String::new();
        if entry.read_to_string(&mut content).is_ok() {
            files.insert(entry.path()?.display().to_string(), content);
        }
    }
    Ok(files)
}
