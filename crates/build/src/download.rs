//! Fetching over HTTP and HTTPS: sources of `ADD`, remote contexts and remote Dockerfiles.
//!
//! Bounds: size, time, number of redirects; only `http` and `https`, redirects included. A server may name
//! the file, but only its last component counts. Link-local addresses, where clouds keep their credentials,
//! are never connected to, whatever name leads there (crate `fetch`). Loopback is allowed, as in Docker.
//! Everything here blocks, and runs on a thread of the runtime that may.

use crate::{
    go, limits,
    output::{Message, Output},
};
use base::{Digest, Error, Result};
use fetch::{Client, Pace, Redirects, Request, Response, Settings};
use http::{Method, header};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Write as _},
    path::Path,
    time::{Duration, Instant, SystemTime},
};
use tokio::runtime::Handle;

/// Name of a download whose name nobody tells.
pub const UNNAMED: &str = "__unnamed__";
/// How often progress is told, in bytes.
const TELL_BYTES: u64 = 512 * 1024;
/// How much of an error page is shown.
const ERROR_BYTES: usize = 1024;

/// A finished download.
#[derive(Debug)]
pub struct Download {
    /// What was asked for.
    pub url: String,
    /// File name by URL or server; the file itself is called so, or [`UNNAMED`].
    pub name: Option<String>,
    /// Digest of the content.
    pub digest: Digest,
}

/// An answer whose body is still to be read.
pub struct Remote {
    /// Its body, bounded in size and time.
    pub body: Box<dyn Read + Send>,
    /// `Content-Type`, lower case, without parameters.
    pub content_type: String,
    /// `Content-Length`, when known.
    pub length: Option<u64>,
    name: Option<String>,
    modified: Option<SystemTime>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Fetches `url` into the folder `folder`, which is made. Blocks.
///
/// # Errors
/// `Invalid` with docker's wording when the server refuses; when a bound is passed; of the disk.
pub fn fetch(url: &str, folder: &Path, output: &Output) -> Result<Download> {
    let mut remote = open(url)?;
    let write = |e| Error::io(format!("cannot store {url}"), e);
    fs::create_dir_all(folder).map_err(write)?;
    let path = folder.join(remote.name.as_deref().unwrap_or(UNNAMED));
    let mut file = File::options().write(true).create_new(true).open(&path).map_err(write)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let (mut done, mut told) = (0_u64, 0_u64);
    loop {
        let n = remote
            .body
            .read(&mut buffer)
            .map_err(|e| Error::invalid(format!("failed to GET {url}")).caused_by(e))?;
        if n == 0 {
            break;
        }
        if output.is_closed() {
            return Err(Error::cancelled("the client has gone"));
        }
        hasher.update(&buffer[..n]);
        file.write_all(&buffer[..n]).map_err(write)?;
        done += n as u64;
        if done >= told + TELL_BYTES || Some(done) == remote.length {
            told = done;
            output.send_blocking(progress("Downloading", done, remote.length));
        }
    }
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(write)?;
    file.set_modified(remote.modified.unwrap_or(SystemTime::UNIX_EPOCH)).map_err(write)?;
    Ok(Download {
        url: url.to_owned(),
        name: remote.name,
        digest: Digest::from_sha256(hasher.finalize().into()),
    })
}

/// A message of progress.
pub fn progress(what: &str, current: u64, total: Option<u64>) -> Message {
    let mut detail = json!({ "current": current });
    if let Some(total) = total {
        detail["total"] = total.into();
    }
    Message::Progress(json!({ "status": what, "progressDetail": detail }))
}

/// Asks for `url`. Blocks.
///
/// # Errors
/// `Invalid` when it is no URL, the server cannot be reached or refuses.
pub fn open(url: &str) -> Result<Remote> {
    let failed = |cause: fetch::Error| {
        Error::invalid(format!("Get {}", go::quote(&without_password(url))))
            .caused_by(reason(cause))
    };
    let runtime = Handle::try_current()
        .map_err(|e| Error::internal("cannot download outside the runtime").caused_by(e))?;
    let uri = fetch::url::parse(url).map_err(failed)?;
    let request = Request::new(Method::GET, uri)
        .redirects(Redirects::Follow(limits::REDIRECTS))
        .answer_within(limits::DOWNLOAD_IDLE);
    let client = client().map_err(failed)?;
    let response = runtime.block_on(client.send(request)).map_err(failed)?;
    if !response.status().is_success() {
        return Err(refused(url, runtime.block_on(told(response))));
    }
    let text = |name: header::HeaderName| response.header(name);
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let content_type =
        content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name =
        name_of_path(url).or_else(|| text(header::CONTENT_DISPOSITION).and_then(disposition));
    let modified = text(header::LAST_MODIFIED).and_then(http_date);
    let length = response.length();
    if length.is_some_and(|l| l > limits::DOWNLOAD_BYTES) {
        return Err(too_large(url));
    }
    let body = Body {
        response,
        runtime,
        piece: bytes::Bytes::new(),
        left: limits::DOWNLOAD_BYTES,
        until: Instant::now() + limits::DOWNLOAD_TOTAL,
        url: without_password(url),
    };
    Ok(Remote { body: Box::new(body), content_type, length, name, modified })
}

/// A new client for each download: it keeps nothing that another could meet.
fn client() -> std::result::Result<Client, fetch::Error> {
    let pace = Pace { idle: limits::DOWNLOAD_IDLE, window: limits::DOWNLOAD_IDLE, floor_bytes: 1 };
    Ok(Client::new(&Settings { proxies: proxies(), ..Settings::default() })?.with_pace(pace))
}

/// Builds fetch through the proxies of the daemon's environment, as Docker's do.
fn proxies() -> fetch::Proxies {
    let variable = |name: &str| {
        let upper = std::env::var(name).ok().filter(|v| !v.is_empty());
        upper.or_else(|| std::env::var(name.to_ascii_lowercase()).ok()).unwrap_or_default()
    };
    fetch::Proxies {
        http: variable("HTTP_PROXY"),
        https: variable("HTTPS_PROXY"),
        no_proxy: variable("NO_PROXY"),
    }
}

fn too_large(url: &str) -> Error {
    Error::invalid(format!(
        "{} is larger than the {} bytes that are allowed",
        without_password(url),
        limits::DOWNLOAD_BYTES
    ))
}

/// An answer's body, read from a thread that may block.
struct Body {
    response: Response,
    runtime: Handle,
    piece: bytes::Bytes,
    left: u64,
    until: Instant,
    url: String,
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if Instant::now() > self.until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.runtime.block_on(self.response.piece())? {
                None => return Ok(0),
                Some(piece) => self.piece = piece,
            }
            self.left = self
                .left
                .checked_sub(self.piece.len() as u64)
                .ok_or_else(|| io::Error::other(too_large(&self.url)))?;
        }
        let n = buf.len().min(self.piece.len());
        buf[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

fn reason(err: fetch::Error) -> Box<dyn std::error::Error + Send + Sync> {
    // The request is named by whoever wraps this.
    std::error::Error::source(&err)
        .map_or_else(|| err.to_string().into(), |source| base::error::chain(source).into())
}

async fn told(response: Response) -> (http::StatusCode, String) {
    let status = response.status();
    let page = response.beginning(ERROR_BYTES).await;
    (status, String::from_utf8_lossy(&page).into_owned())
}

fn refused(url: &str, (status, page): (http::StatusCode, String)) -> Error {
    let reason = status.canonical_reason().unwrap_or_default();
    let text =
        format!("failed to GET {} with status {} {reason}", without_password(url), status.as_u16());
    let kind = match status.as_u16() {
        404 => base::Kind::NotFound,
        401 => base::Kind::Unauthorized,
        403 => base::Kind::Forbidden,
        _ => base::Kind::Invalid,
    };
    match page.trim() {
        "" => Error::new(kind, text),
        page => Error::new(kind, format!("{text}: {page}")),
    }
}

/// `url` fit to be shown.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://xxxxx{}", &rest[at..]),
        None => url.to_owned(),
    }
}

fn name_of_path(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let path = rest.split(['?', '#']).next()?;
    let (_, path) = path.split_once('/')?;
    safe_name(path.rsplit('/').next()?)
}

/// The `filename` of `Content-Disposition: attachment; filename="x"`, its last component.
fn disposition(value: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        key.trim().eq_ignore_ascii_case("filename").then_some(())?;
        safe_name(value.trim().trim_matches('"').rsplit(['/', '\\']).next()?)
    })
}

fn safe_name(name: &str) -> Option<String> {
    let name = percent_decoded(name)?;
    let fine = !matches!(name.as_str(), "" | "." | "..")
        && name.len() <= 255
        && !name.contains(['/', '\0']);
    fine.then_some(name)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn http_date(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let iso = format!("{year}-{month:02}-{day:0>2}T{time}Z");
    let at: base::Timestamp = iso.parse().ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(at.unix()).ok()?))
}

#[cfg(test)]
mod tests;
