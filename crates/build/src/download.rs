//! Fetching over HTTP and HTTPS: sources of `ADD`, remote contexts and remote Dockerfiles.
//!
//! Bounds: size, time, number of redirects; only `http` and `https`, redirects included. A server may name
//! the file, but only its last component counts. Link-local addresses, where clouds keep their credentials,
//! are never connected to, whatever name leads there; addresses are checked where they are connected to,
//! so that a second answer of the name server changes nothing. Loopback is allowed, as in Docker.

use crate::{
    go, limits,
    output::{Message, Output},
};
use base::{Digest, Error, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};
use ureq::{
    Agent,
    config::Config,
    http::{Response, Uri, header},
    tls::{RootCerts, TlsConfig},
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// Name of a download whose name nobody tells.
pub const UNNAMED: &str = "__unnamed__";
/// How often progress is told, in bytes.
const TELL_BYTES: u64 = 512 * 1024;
/// How much of an error page is shown.
const ERROR_BYTES: u64 = 1024;

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
    let response = agent().get(url).call().map_err(|cause| {
        Error::invalid(format!("Get {}", go::quote(&without_password(url))))
            .caused_by(reason(cause))
    })?;
    let status = response.status();
    if !status.is_success() {
        return Err(refused(url, response));
    }
    let headers = response.headers();
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let content_type =
        content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name =
        name_of_path(url).or_else(|| text(header::CONTENT_DISPOSITION).and_then(disposition));
    let modified = text(header::LAST_MODIFIED).and_then(http_date);
    let length = response.body().content_length();
    if length.is_some_and(|l| l > limits::DOWNLOAD_BYTES) {
        return Err(Error::invalid(format!(
            "{url} is larger than the {} bytes that are allowed",
            limits::DOWNLOAD_BYTES
        )));
    }
    let body = response.into_body().into_with_config().limit(limits::DOWNLOAD_BYTES).reader();
    Ok(Remote { body: Box::new(body), content_type, length, name, modified })
}

fn agent() -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(limits::REDIRECTS)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(limits::DOWNLOAD_IDLE))
        .timeout_global(Some(limits::DOWNLOAD_TOTAL))
        .user_agent(concat!("gantry/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .build();
    Agent::with_parts(config, DefaultConnector::default(), Checked(DefaultResolver::default()))
}

/// Resolves names and leaves out addresses that nobody may reach from here.
#[derive(Debug)]
struct Checked(DefaultResolver);

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = self.0.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        all.iter().filter(|a| !is_link_local(a)).for_each(|a| allowed.push(*a));
        if allowed.is_empty() && !all.is_empty() {
            return Err(
                std::io::Error::other("link-local addresses are not allowed in builds").into()
            );
        }
        Ok(allowed)
    }
}

fn is_link_local(address: &SocketAddr) -> bool {
    match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => {
            ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_link_local())
        }
    }
}

fn reason(err: ureq::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match err {
        // As Go writes it: without the number, in lower case.
        ureq::Error::Io(err) => {
            let text = err.to_string().to_lowercase();
            text.split(" (os error").next().unwrap_or_default().into()
        }
        other => Box::new(other),
    }
}

fn refused(url: &str, response: Response<ureq::Body>) -> Error {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut page = Vec::new();
    let mut body = response.into_body().into_with_config().limit(limits::DOWNLOAD_BYTES).reader();
    let _cut_short = (&mut body).take(ERROR_BYTES).read_to_end(&mut page);
    let page = String::from_utf8_lossy(&page);
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
