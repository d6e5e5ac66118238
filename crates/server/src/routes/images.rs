//! Images.

use crate::{
    call::{Asked, Call},
    incoming::incoming,
    reply::{self, Reply},
    shapes,
    versions::Version,
};
use base::{Error, Platform, Reference, Result, filters::Filters};
use engine::images::{
    Credentials, ImportOptions, ListOptions, LoadOptions, RemoveOptions, pull::PullRequest,
    push::PushRequest,
};
use http::StatusCode;

pub(crate) fn listing(asked: &Asked) -> Result<ListOptions> {
    Ok(ListOptions {
        all: asked.query.flag("all"),
        digests: asked.query.flag("digests"),
        shared_size: asked.query.flag("shared-size"),
        // Counted since 1.51.
        containers: asked.version >= Version(1, 51),
        filters: asked.filters()?,
    })
}

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let mut value = serde_json::to_value(call.engine.images_list(listing(&call)?).await?)
        .map_err(|e| Error::internal("cannot encode the images").caused_by(e))?;
    shapes::images(&mut value, call.version);
    Ok(reply::ok(&value))
}

pub(crate) async fn inspect(call: Call) -> Result<Reply> {
    let mut value =
        serde_json::to_value(call.engine.image_inspect(call.name(0), platform(&call)?).await?)
            .map_err(|e| Error::internal("cannot encode the image").caused_by(e))?;
    shapes::image(&mut value, shapes::image_version(&call.by.client, call.version));
    Ok(reply::ok(&value))
}

pub(crate) async fn history(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.image_history(call.name(0), platform(&call)?).await?))
}

pub(crate) async fn tag(call: Call) -> Result<Reply> {
    let repository = call.query.get("repo").unwrap_or("");
    call.engine
        .image_tag(call.name(0), repository, call.query.get("tag").unwrap_or(""), &call.by)
        .await?;
    Ok(reply::empty(StatusCode::CREATED))
}

pub(crate) async fn remove(call: Call) -> Result<Reply> {
    let options =
        RemoveOptions { force: call.query.flag("force"), prune: !call.query.flag("noprune") };
    let deleted = call.engine.image_remove(call.name(0), options, &call.by).await?;
    Ok(reply::ok(&deleted))
}

pub(crate) async fn prune(call: Call) -> Result<Reply> {
    Ok(reply::ok(&call.engine.images_prune(call.filters()?, &call.by).await?))
}

pub(crate) async fn save(call: Call) -> Result<Reply> {
    let names = vec![call.name(0).to_owned()];
    saved(&call, names).await
}

pub(crate) fn several(asked: &Asked) -> Result<Vec<String>> {
    let names: Vec<String> =
        asked.query.all("names").into_iter().filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        return Err(Error::invalid("no images were named: give them as names=..."));
    }
    Ok(names)
}

pub(crate) async fn save_many(call: Call) -> Result<Reply> {
    let names = several(&call)?;
    saved(&call, names).await
}

async fn saved(call: &Call, names: Vec<String>) -> Result<Reply> {
    let receiver = call.engine.images_save(names, &call.by).await?;
    let items = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| {
            let item = item.map_err(|err: Error| std::io::Error::other(err.chain()));
            (item, receiver)
        })
    });
    Ok(reply::stream("application/x-tar", items))
}

pub(crate) fn loading(asked: &Asked) -> Result<LoadOptions> {
    Ok(LoadOptions { quiet: asked.query.flag_or("quiet", true), platform: platform(asked)? })
}

pub(crate) async fn load(mut call: Call) -> Result<Reply> {
    let options = loading(&call)?;
    let body = incoming(&mut call);
    let receiver = call.engine.images_load(body, options, &call.by).await;
    Ok(reply::progress("application/json", receiver).await)
}

/// The platform asked for.
pub(crate) fn platform(asked: &Asked) -> Result<Option<Platform>> {
    asked.query.text("platform").map(platform_of).transpose()
}

/// A platform as JSON (`{"os":"linux",...}`) or as text.
fn platform_of(text: &str) -> Result<Platform> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text)
            .map_err(|e| Error::invalid(format!("invalid platform {text:?}")).caused_by(e))
    } else {
        text.parse()
    }
}

/// What `POST /images/create` is asked for.
pub(crate) enum Source {
    Registry(PullRequest),
    Archive(ImportOptions),
}

pub(crate) fn source(asked: &Asked) -> Result<Source> {
    let Some(source) = asked.query.text("fromSrc").map(str::to_owned) else {
        let image = asked.query.get("fromImage").unwrap_or("");
        if image.is_empty() {
            return Err(Error::invalid(
                "invalid reference format: nothing to pull or import is named",
            ));
        }
        return pull(asked, image).map(Source::Registry);
    };
    if source != "-" {
        return Err(Error::invalid(
            "cannot import from a URL: only an archive in the request body (fromSrc=-) is taken; the docker CLI sends files so",
        ));
    }
    Ok(Source::Archive(ImportOptions {
        source,
        repository: asked.query.get("repo").unwrap_or("").to_owned(),
        tag: asked.query.get("tag").unwrap_or("").to_owned(),
        message: asked.query.get("message").unwrap_or("").to_owned(),
        changes: asked.query.all("changes"),
        platform: asked.query.text("platform").map(str::parse).transpose()?,
    }))
}

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let receiver = match source(&call)? {
        Source::Registry(request) => call.engine.image_pull(request, &call.by),
        Source::Archive(import) => {
            let body = incoming(&mut call);
            call.engine.image_import(body, import, &call.by).await
        }
    };
    Ok(reply::progress("application/json", receiver).await)
}

/// `POST /images/create?fromImage=`: by tag, by digest, or with neither all tags.
fn pull(asked: &Asked, image: &str) -> Result<PullRequest> {
    let tag = asked.query.get("tag").unwrap_or("");
    let mut reference: Reference = image.parse()?;
    // A tag that is its own parameter replaces what the name says.
    if let Ok(digest) = tag.parse() {
        reference = reference.with_digest(digest);
    } else if !tag.is_empty() {
        reference = reference.with_tag(tag)?;
    }
    Ok(PullRequest {
        all_tags: reference.is_name_only(),
        reference,
        platform: platform(asked)?,
        credentials: credentials(asked),
    })
}

pub(crate) fn pushing(asked: &Asked) -> Result<PushRequest> {
    let mut reference: Reference = asked.name(0).parse()?;
    if let Some(tag) = asked.query.text("tag") {
        reference = reference.with_tag(tag)?;
    }
    Ok(PushRequest { reference, platform: platform(asked)?, credentials: credentials(asked) })
}

/// `POST /images/{name}/push`.
pub(crate) async fn push(call: Call) -> Result<Reply> {
    let request = pushing(&call)?;
    Ok(reply::progress("application/json", call.engine.image_push(request, &call.by)).await)
}

pub(crate) fn searching(asked: &Asked) -> Result<(Option<i64>, Filters)> {
    Ok((asked.query.number("limit")?, asked.filters()?))
}

/// `GET /images/search`.
pub(crate) async fn search(call: Call) -> Result<Reply> {
    let (limit, filters) = searching(&call)?;
    let term = call.query.get("term").unwrap_or("");
    let credentials = credentials(&call);
    let found = call.engine.image_search(term, limit, &filters, &credentials).await?;
    let rows = found.iter().map(|one| {
        serde_json::json!({
            "name": one.name, "description": one.description, "star_count": one.star_count,
            "is_official": one.is_official, "is_automated": one.is_automated,
        })
    });
    Ok(reply::ok(&rows.collect::<Vec<_>>()))
}

pub(crate) fn reference(asked: &Asked) -> Result<Reference> {
    asked.name(0).parse()
}

/// `GET /distribution/{name}/json`.
pub(crate) async fn distribution(call: Call) -> Result<Reply> {
    let reference = reference(&call)?;
    let whole = call.query.flag("gantry");
    Ok(reply::ok(&call.engine.distribution(&reference, &credentials(&call), whole).await?))
}

pub(crate) fn identity(asked: &Asked, body: &[u8]) -> Result<Credentials> {
    match asked.document(body)?.unwrap_or_default() {
        [] => Ok(Credentials::default()),
        body => Credentials::from_json(body),
    }
}

/// `POST /auth`.
pub(crate) async fn auth(mut call: Call) -> Result<Reply> {
    let credentials = call.read(identity).await?;
    let token = call.engine.registry_login(&credentials).await?;
    Ok(reply::ok(&serde_json::json!({ "Status": "Login Succeeded", "IdentityToken": token })))
}

/// Who the client says it is to a registry.
pub(crate) fn credentials(asked: &Asked) -> Credentials {
    let header = asked.headers.get("x-registry-auth").and_then(|v| v.to_str().ok());
    Credentials::from_header(header)
}
