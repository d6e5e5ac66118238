//! Images.

use crate::{
    call::Call,
    incoming::incoming,
    reply::{self, Reply},
    shapes,
    versions::Version,
};
use base::{Error, Platform, Reference, Result};
use engine::images::{
    Credentials, ImportOptions, ListOptions, LoadOptions, RemoveOptions, pull::PullRequest,
    push::PushRequest,
};
use http::StatusCode;

pub(crate) async fn list(call: Call) -> Result<Reply> {
    let options = ListOptions {
        all: call.query.flag("all"),
        digests: call.query.flag("digests"),
        shared_size: call.query.flag("shared-size"),
        // Counted since 1.51.
        containers: call.version >= Version(1, 51),
        filters: call.filters()?,
    };
    let mut value = serde_json::to_value(call.engine.images_list(options).await?)
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

pub(crate) async fn save_many(call: Call) -> Result<Reply> {
    let names: Vec<String> =
        call.query.all("names").into_iter().filter(|n| !n.is_empty()).collect();
    if names.is_empty() {
        return Err(Error::invalid("no images were named: give them as names=..."));
    }
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

pub(crate) async fn load(mut call: Call) -> Result<Reply> {
    let quiet = call.query.flag_or("quiet", true);
    let options = LoadOptions { quiet, platform: platform(&call)? };
    let body = incoming(&mut call);
    let receiver = call.engine.images_load(body, options, &call.by).await;
    Ok(reply::progress("application/json", receiver).await)
}

/// The platform asked for.
fn platform(call: &Call) -> Result<Option<Platform>> {
    call.query.text("platform").map(platform_of).transpose()
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

pub(crate) async fn create(mut call: Call) -> Result<Reply> {
    let Some(source) = call.query.text("fromSrc").map(str::to_owned) else {
        let image = call.query.get("fromImage").unwrap_or("");
        if image.is_empty() {
            return Err(Error::invalid(
                "invalid reference format: nothing to pull or import is named",
            ));
        }
        return pull(&call, image).await;
    };
    if source != "-" {
        return Err(Error::invalid(
            "cannot import from a URL: only an archive in the request body (fromSrc=-) is taken; the docker CLI sends files so",
        ));
    }
    let import = ImportOptions {
        source,
        repository: call.query.get("repo").unwrap_or("").to_owned(),
        tag: call.query.get("tag").unwrap_or("").to_owned(),
        message: call.query.get("message").unwrap_or("").to_owned(),
        changes: call.query.all("changes"),
        platform: call.query.text("platform").map(str::parse).transpose()?,
    };
    let body = incoming(&mut call);
    let receiver = call.engine.image_import(body, import, &call.by).await;
    Ok(reply::progress("application/json", receiver).await)
}

/// `POST /images/create?fromImage=`: by tag, by digest, or with neither all tags.
async fn pull(call: &Call, image: &str) -> Result<Reply> {
    let tag = call.query.get("tag").unwrap_or("");
    let mut reference: Reference = image.parse()?;
    // A tag that is its own parameter replaces what the name says.
    if let Ok(digest) = tag.parse() {
        reference = reference.with_digest(digest);
    } else if !tag.is_empty() {
        reference = reference.with_tag(tag)?;
    }
    let request = PullRequest {
        all_tags: reference.is_name_only(),
        reference,
        platform: platform(call)?,
        credentials: credentials(call),
    };
    Ok(reply::progress("application/json", call.engine.image_pull(request, &call.by)).await)
}

/// `POST /images/{name}/push`.
pub(crate) async fn push(call: Call) -> Result<Reply> {
    let mut reference: Reference = call.name(0).parse()?;
    if let Some(tag) = call.query.text("tag") {
        reference = reference.with_tag(tag)?;
    }
    let request =
        PushRequest { reference, platform: platform(&call)?, credentials: credentials(&call) };
    Ok(reply::progress("application/json", call.engine.image_push(request, &call.by)).await)
}

/// `GET /images/search`.
pub(crate) async fn search(call: Call) -> Result<Reply> {
    let limit = call.query.number("limit")?;
    let (term, filters) = (call.query.get("term").unwrap_or(""), call.filters()?);
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

/// `GET /distribution/{name}/json`.
pub(crate) async fn distribution(call: Call) -> Result<Reply> {
    let reference: Reference = call.name(0).parse()?;
    let whole = call.query.flag("gantry");
    Ok(reply::ok(&call.engine.distribution(&reference, &credentials(&call), whole).await?))
}

/// `POST /auth`.
pub(crate) async fn auth(mut call: Call) -> Result<Reply> {
    let body = call.document().await?.unwrap_or_default();
    let credentials =
        if body.is_empty() { Credentials::default() } else { Credentials::from_json(&body)? };
    let token = call.engine.registry_login(&credentials).await?;
    Ok(reply::ok(&serde_json::json!({ "Status": "Login Succeeded", "IdentityToken": token })))
}

/// Who the client says it is to a registry.
pub(crate) fn credentials(call: &Call) -> Credentials {
    let header = call.headers.get("x-registry-auth").and_then(|v| v.to_str().ok());
    Credentials::from_header(header)
}
