//! From a method and a path to one of the registry's routes, and the table of them.
//!
//! Repository names hold slashes, so paths are read from their end. Escapes are undone part by part: an
//! escaped slash stays inside its part, where no name has one.

use super::{
    Cx, Reply, blobs, catalog, manifests, referrers, search, system, tags, token, uploads,
};
use crate::{auth::Action, name::Repository};
use futures_util::future::BoxFuture;
use http::Method;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Base,
    Catalog,
    Tags,
    Manifest,
    Blob,
    Uploads,
    Upload,
    Referrers,
    Token,
    Search,
    Ping,
    Health,
    Ready,
}

/// What a caller needs to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// To be somebody: a right token or password, or a registry that asks for none.
    Login,
    /// This in the repository.
    In(Action),
}

pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) kind: Kind,
    pub(crate) need: Need,
    /// Whether it changes something: then it runs on when its client goes away.
    pub(crate) changes: bool,
    pub(crate) run: for<'c> fn(&'c mut Cx) -> BoxFuture<'c, Reply>,
}

macro_rules! routes {
    ($($method:ident $kind:ident $need:expr, $changes:ident => $handler:path;)*) => {
        &[$(Route {
            method: Method::$method,
            kind: Kind::$kind,
            need: $need,
            changes: routes!(@ $changes),
            run: |cx| Box::pin($handler(cx)),
        }),*]
    };
    (@ reads) => { false };
    (@ changes) => { true };
}

/// Every route of the registry.
pub(crate) static ROUTES: &[Route] = routes! {
    GET Base Need::Login, reads => system::base;
    GET Catalog Need::Login, reads => catalog::list;
    GET Tags Need::In(Action::Pull), reads => tags::list;
    GET Manifest Need::In(Action::Pull), reads => manifests::read;
    PUT Manifest Need::In(Action::Push), changes => manifests::put;
    DELETE Manifest Need::In(Action::Delete), changes => manifests::delete;
    GET Blob Need::In(Action::Pull), reads => blobs::read;
    DELETE Blob Need::In(Action::Delete), changes => blobs::delete;
    POST Uploads Need::In(Action::Push), changes => uploads::begin;
    GET Upload Need::In(Action::Push), reads => uploads::status;
    PATCH Upload Need::In(Action::Push), changes => uploads::append;
    PUT Upload Need::In(Action::Push), changes => uploads::finish;
    DELETE Upload Need::In(Action::Push), changes => uploads::cancel;
    GET Referrers Need::In(Action::Pull), reads => referrers::list;
    GET Token Need::Nothing, reads => token::get;
    POST Token Need::Nothing, changes => token::post;
    GET Search Need::Nothing, reads => search::search;
    GET Ping Need::Nothing, reads => system::ping;
    GET Health Need::Nothing, reads => system::health;
    GET Ready Need::Nothing, reads => system::ready;
};

/// A path that names something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) kind: Kind,
    /// Its repository, where it has one.
    pub(crate) repository: Option<Repository>,
    /// A reference, digest or upload's id, not looked at.
    pub(crate) rest: String,
}

/// Why a path names nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// There is no such place.
    Nowhere,
    /// Its repository's name is none.
    Name(String),
}

/// Reads a path.
pub(crate) fn parse(path: &str) -> Result<Path, Wrong> {
    let plain = |kind| Ok(Path { kind, repository: None, rest: String::new() });
    match path {
        "/v2/" | "/v2" => return plain(Kind::Base),
        "/v2/_catalog" => return plain(Kind::Catalog),
        "/auth/token" => return plain(Kind::Token),
        "/v1/search" => return plain(Kind::Search),
        "/v1/_ping" => return plain(Kind::Ping),
        "/healthz" => return plain(Kind::Health),
        "/readyz" => return plain(Kind::Ready),
        _ => {}
    }
    let parts: Vec<&str> = path.strip_prefix("/v2/").ok_or(Wrong::Nowhere)?.split('/').collect();
    let (kind, name, rest) = match parts.as_slice() {
        [name @ .., "tags", "list"] => (Kind::Tags, name, ""),
        [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
            (Kind::Uploads, name, "")
        }
        [name @ .., "blobs", "uploads", id] => (Kind::Upload, name, *id),
        [name @ .., "manifests", reference] => (Kind::Manifest, name, *reference),
        [name @ .., "blobs", digest] => (Kind::Blob, name, *digest),
        [name @ .., "referrers", digest] => (Kind::Referrers, name, *digest),
        _ => return Err(Wrong::Nowhere),
    };
    let name: Option<Vec<String>> = name.iter().map(|part| unescape(part)).collect();
    let name = name.ok_or(Wrong::Nowhere)?.join("/");
    let rest = unescape(rest).ok_or(Wrong::Nowhere)?;
    match Repository::parse(&name) {
        Some(repository) => Ok(Path { kind, repository: Some(repository), rest }),
        None => Err(Wrong::Name(name)),
    }
}

/// Undoes `%XX` in one part of a path; nothing when the result could be mistaken for several.
fn unescape(part: &str) -> Option<String> {
    if !part.contains('%') {
        return Some(part.to_owned());
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (pair, tail) = rest.split_at_checked(2)?;
        rest = tail;
        bytes.push(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(['/', '\0'])).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> (Kind, String, String) {
        let path = parse(path).unwrap();
        (path.kind, path.repository.map_or(String::new(), |r| r.to_string()), path.rest)
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let is = |kind, name: &str, rest: &str| (kind, name.to_owned(), rest.to_owned());
        assert_eq!(found("/v2/"), is(Kind::Base, "", ""));
        assert_eq!(found("/v2/a/b/tags/list"), is(Kind::Tags, "a/b", ""));
        assert_eq!(found("/v2/a/manifests/latest"), is(Kind::Manifest, "a", "latest"));
        assert_eq!(found("/v2/a/manifests/sha256%3Aab"), is(Kind::Manifest, "a", "sha256:ab"));
        assert_eq!(found("/v2/tags/list/tags/list"), is(Kind::Tags, "tags/list", ""));
        assert_eq!(
            found("/v2/blobs/uploads/blobs/uploads/"),
            is(Kind::Uploads, "blobs/uploads", "")
        );
        assert_eq!(found("/v2/a/blobs/uploads"), is(Kind::Uploads, "a", ""));
        assert_eq!(found("/v2/a/blobs/uploads/1f"), is(Kind::Upload, "a", "1f"));
        assert_eq!(found("/v2/a/manifests/manifests/x"), is(Kind::Manifest, "a/manifests", "x"));
    }

    #[test]
    fn paths_that_play_games_name_nothing() {
        for path in [
            "/",
            "/v2/a",
            "/v2/../etc/passwd",
            "/v3/",
            "/v2/a/blobs/..%2f..%2fx",
            "/v2/a/blobs/%00",
            "/v2/a/blobs/%",
            "/v2/a/blobs/%zz",
            "/v2/a/blobs/%ff",
        ] {
            assert_eq!(parse(path), Err(Wrong::Nowhere), "{path}");
        }
        for path in [
            "/v2//blobs/x",
            "/v2/../x/blobs/x",
            "/v2/a//b/tags/list",
            "/v2/A/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/a%20b/tags/list",
        ] {
            assert!(matches!(parse(path), Err(Wrong::Name(_))), "{path}");
        }
        let long = format!("/v2/{}/tags/list", "a".repeat(256));
        assert!(matches!(parse(&long), Err(Wrong::Name(_))));
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(path in "/v2/[a-z%./0-9A-F]{0,60}") {
            let _ = parse(&path);
        }
    }
}
