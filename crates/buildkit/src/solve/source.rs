//! What comes from outside: images, folders of the client, repositories, downloads.

use super::{Folder, Out, Run, State, blocking, name_of, shown};
use crate::{
    attest::Material,
    endpoint::BODIES,
    filesync::Wanted,
    job::Job,
    progress,
    proto::{self, pb, upload},
};
use base::{Error, Platform, Reference, Result};
use build::{
    download,
    host::{Host as _, Image, Lookup},
    output::Output,
};
use engine::{build::Repository, images::Credentials};
use std::{path::PathBuf, sync::Arc};
use sys::root::Root;

/// The host in URLs of archives that the client uploads in its session.
pub(crate) const UPLOADS: &str = "http://buildkit-session/";

impl Run {
    /// Gets a source; tells whether nothing had to be done for it.
    pub(super) async fn source(&self, source: &pb::SourceOp) -> Result<(Out, bool)> {
        let (scheme, rest) = source
            .identifier
            .split_once("://")
            .ok_or_else(|| Error::invalid(format!("malformed source {:?}", source.identifier)))?;
        match scheme {
            "docker-image" => {
                let platform = self.vertex.op.platform.as_ref().map(proto::platform_from);
                let wanted = platform.clone();
                let pull = source.attrs.get("image.resolvemode").is_some_and(|m| m == "pull");
                let (output, pump) = self.output();
                let work = async {
                    let output = output;
                    image(&self.job, rest, wanted, pull, &output).await
                };
                let image = shown(work, pump).await?;
                let digest = self.job.host.digest_of(&rest.parse()?)?;
                self.note(Material::Image { name: rest.to_owned(), digest, platform });
                Ok((Out::State(State::of(&image)), false))
            }
            "local" => {
                self.note(Material::Local { name: rest.to_owned() });
                Ok((self.local(rest, source).await?, false))
            }
            "git" => Ok((self.git(rest, source).await?, false)),
            "http" | "https" => Ok((self.http(source).await?, false)),
            "oci-layout" => Ok((Out::State(self.layout(rest, source).await?), false)),
            other => Err(Error::invalid(format!("sources of the kind {other:?} are unknown"))),
        }
    }

    fn note(&self, material: Material) {
        self.job.note_material(&self.vertex.digest, material);
    }

    async fn local(&self, name: &str, source: &pb::SourceOp) -> Result<Out> {
        let attr = |key: &str| source.attrs.get(key).map_or("", String::as_str);
        let list = |key: &str| -> Result<Vec<String>> {
            match attr(key) {
                "" => Ok(Vec::new()),
                json => serde_json::from_str::<Option<Vec<String>>>(json)
                    .map(Option::unwrap_or_default)
                    .map_err(|e| Error::invalid(format!("cannot read {key}")).caused_by(e)),
            }
        };
        let session = self.job.session(attr("local.session")).await?;
        let wanted = Wanted {
            name: name.to_owned(),
            include: list("local.includepattern")?,
            exclude: list("local.excludepatterns")?,
            follow: list("local.followpaths")?,
            hint: attr("local.sharedkeyhint").to_owned(),
        };
        let (progress, digest) = (&self.job.progress, &self.vertex.digest);
        let what = format!("transferring {name}:");
        let mut last = std::sync::Mutex::new((0_i64, std::time::Instant::now()));
        let told = |bytes: i64| {
            let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if last.1.elapsed() >= std::time::Duration::from_millis(150) {
                last.1 = std::time::Instant::now();
                progress.status(progress::item(digest, &what, bytes, 0, false));
            }
            last.0 = bytes;
        };
        let lease = self.job.site.trees.sync(&session, &wanted, told).await?;
        let bytes = last.get_mut().map_or(0, |l| l.0);
        progress.status(progress::item(digest, &what, bytes, 0, true));
        Ok(Out::Folder(Folder {
            path: lease.path().to_owned(),
            root: Arc::clone(lease.root()),
            lease: Some(Arc::new(lease)),
        }))
    }

    async fn git(&self, rest: &str, source: &pb::SourceOp) -> Result<Out> {
        let remote = match source.attrs.get("git.fullurl") {
            Some(url) if !url.is_empty() => {
                let fragment = rest.split_once('#').map_or("", |(_, f)| f);
                format!("{url}#{fragment}")
            }
            _ => format!("https://{rest}"),
        };
        let repository = Repository::of(&remote)?;
        let keep = source.attrs.get("git.keepgitdir").is_some_and(|v| v == "true");
        let folder = self.place(&source.identifier);
        let path = folder.clone();
        let root = blocking(move || repository.check_out_as(&path, keep)).await?;
        let found = Repository::commit_of(&folder)?;
        let url = build::download::without_password(&remote);
        self.note(Material::Git { url, commit: found.clone() });
        if let Some(want) = source.attrs.get("git.checksum").filter(|c| !c.is_empty())
            && !found.starts_with(want.as_str())
        {
            return Err(Error::invalid(format!("expected checksum to match {want}, got {found}")));
        }
        let path = root
            .dir()
            .and_then(|d| d.path())
            .map_err(|e| Error::io("cannot open the repository", e.into()))?;
        Ok(Out::Folder(Folder { path, root: Arc::new(root), lease: None }))
    }

    async fn http(&self, source: &pb::SourceOp) -> Result<Out> {
        let attr = |key: &str| source.attrs.get(key).map_or("", String::as_str);
        let number = |key: &str| attr(key).parse::<u32>().ok();
        let folder = self.place(&source.identifier);
        let name = file_name(&source.identifier, attr("http.filename"));
        let is_local =
            source.identifier.starts_with(UPLOADS) || source.identifier.starts_with(BODIES);
        let digest = if let Some(id) = source.identifier.strip_prefix(UPLOADS) {
            self.upload(id, &folder, &name).await?
        } else if let Some(id) = source.identifier.strip_prefix(BODIES) {
            self.body(id, &folder, &name).await?
        } else {
            let (url, target, rename) = (source.identifier.clone(), folder.clone(), name.clone());
            let (output, pump) = self.output();
            let work = blocking(move || {
                let done = download::fetch(&url, &target, &output)?;
                let from = target.join(done.name.as_deref().unwrap_or(download::UNNAMED));
                std::fs::rename(&from, target.join(&rename))
                    .map_err(|e| Error::io(format!("cannot keep {rename}"), e))?;
                Ok(done.digest)
            });
            shown(work, pump).await?
        };
        if !is_local {
            let url = build::download::without_password(&source.identifier);
            self.note(Material::Http { url, digest: digest.clone() });
        }
        let want = attr("http.checksum");
        if !want.is_empty() && want != digest.to_string() {
            return Err(Error::invalid(format!("digest mismatch {digest}: {want}")));
        }
        let path = folder.clone();
        let mode = attr("http.perm").parse::<i64>().ok().and_then(|m| u32::try_from(m).ok());
        let (uid, gid) = (number("http.uid").unwrap_or(0), number("http.gid").unwrap_or(0));
        let root = blocking(move || {
            let root =
                Root::open(&path).map_err(|e| Error::io("cannot open a download", e.into()))?;
            let change = |e: sys::root::Error| Error::io(format!("cannot change {name}"), e.into());
            root.chown(&name, uid, gid).map_err(change)?;
            root.chmod(&name, mode.unwrap_or(0o600)).map_err(change)?;
            Ok(root)
        })
        .await?;
        Ok(Out::Folder(Folder { path: folder, root: Arc::new(root), lease: None }))
    }

    /// Takes an archive that the client uploads in its session.
    async fn upload(&self, id: &str, folder: &std::path::Path, name: &str) -> Result<base::Digest> {
        let session = self.job.session("").await?;
        session.needs("/moby.upload.v1.Upload/Pull")?;
        let mut request =
            tonic::Request::new(futures_util::stream::empty::<upload::BytesMessage>());
        let path = format!("/{id}").parse().map_err(|_| Error::invalid("malformed upload"))?;
        request.metadata_mut().insert("urlpath", path);
        let host = "buildkit-session".parse().map_err(|_| Error::internal("malformed host"))?;
        request.metadata_mut().insert("urlhost", host);
        let what = "cannot get the archive from the client";
        let mut body = session
            .uploads()
            .pull(request)
            .await
            .map_err(|s| crate::failure::from_status(what, &s))?
            .into_inner();
        let fail = |e| Error::io("cannot store the client's archive", e);
        crate::site::private(folder)?;
        let mut file = tokio::fs::File::create(folder.join(name)).await.map_err(fail)?;
        let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
        while let Some(piece) =
            body.message().await.map_err(|s| crate::failure::from_status(what, &s))?
        {
            sha2::Digest::update(&mut hasher, &piece.data);
            tokio::io::AsyncWriteExt::write_all(&mut file, &piece.data).await.map_err(fail)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(fail)?;
        Ok(base::Digest::from_sha256(sha2::Digest::finalize(hasher).into()))
    }

    /// Takes the archive of a request.
    async fn body(&self, id: &str, folder: &std::path::Path, name: &str) -> Result<base::Digest> {
        use futures_util::StreamExt as _;
        let fail = |e| Error::io("cannot store the context's archive", e);
        let mut reading = self.job.site.uploads.take(id).await?;
        crate::site::private(folder)?;
        let mut file = tokio::fs::File::create(folder.join(name)).await.map_err(fail)?;
        let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
        while let Some(piece) = reading.body.next().await {
            let piece = piece.map_err(|e| {
                Error::invalid("the archive of the context ended early").caused_by(e)
            })?;
            sha2::Digest::update(&mut hasher, &piece);
            tokio::io::AsyncWriteExt::write_all(&mut file, &piece).await.map_err(fail)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(fail)?;
        Ok(base::Digest::from_sha256(sha2::Digest::finalize(hasher).into()))
    }

    /// A folder of the build for what comes from `identifier`.
    fn place(&self, identifier: &str) -> PathBuf {
        let random = base::ContainerId::random();
        let name = format!("source-{}-{}", &name_of(identifier)[..12], random.short());
        self.job.host.scratch().join(name)
    }
}

/// What a download is called: what is asked for, or the end of its URL.
fn file_name(url: &str, asked: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let last = path.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
    let last = last.and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let name = if asked.is_empty() { last } else { asked };
    match name {
        "" | "." | ".." => "download".into(),
        name => name.replace('/', "_"),
    }
}

/// The image called `name`, from here or from its registry, with the client's credentials.
///
/// # Errors
/// As a pull gives them.
pub(crate) async fn image(
    job: &Job,
    name: &str,
    platform: Option<Platform>,
    pull: bool,
    output: &Output,
) -> Result<Image> {
    let reference: Reference = name.parse()?;
    let lookup = Lookup { platform: platform.clone(), pull: false, local: true };
    if !pull
        && let Ok(image) = job.host.image(&reference.or_latest().familiar(), &lookup, output).await
    {
        return Ok(image);
    }
    let reference: Reference = name.parse()?;
    authorise(job, reference.domain()).await;
    let reference = reference.or_latest();
    let name = reference.familiar();
    let lookup = Lookup { platform: platform.clone(), pull: true, local: false };
    match job.host.image(&name, &lookup, output).await {
        Err(err) if err.kind() == base::Kind::NotFound => {
            // compat(buildkit): a name that stands for one image means that, whatever it is for.
            let Some(wanted) = platform else { return Err(err) };
            let Ok(config) = job.host.remote_config(&reference, &wanted).await else {
                return Err(err);
            };
            let found = config.config().platform();
            if found.satisfies(&wanted) {
                return Err(err);
            }
            let lookup = Lookup { platform: Some(found), pull: false, local: true };
            job.host.image(&name, &lookup, output).await
        }
        found => found,
    }
}

/// The image that is here, if it is.
///
/// # Errors
/// Of the store.
pub(crate) async fn here(
    job: &Job,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<Image>> {
    let (sender, _) = tokio::sync::mpsc::channel(1);
    let lookup = Lookup { platform: Some(platform.clone()), pull: false, local: true };
    match job.host.image(&reference.familiar(), &lookup, &Output::new(sender)).await {
        Ok(image) => Ok(Some(image)),
        Err(err) if err.kind() == base::Kind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Asks the client who it is to the registry of `domain`, once.
pub(crate) async fn authorise(job: &Job, domain: &str) {
    if job.host.knows(domain) {
        return;
    }
    let Ok(session) = job.session("").await else { return };
    if !session.serves("/moby.filesync.v1.Auth/Credentials") {
        return;
    }
    let host = match domain {
        "docker.io" => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    };
    let request = proto::filesync::CredentialsRequest { host };
    // A client that says nothing is nobody, which many registries take.
    let found = session.auth().credentials(request).await.map(tonic::Response::into_inner);
    let mut credentials = Credentials::default();
    if let Ok(found) = found {
        match found.username.is_empty() {
            true => credentials.identity_token = found.secret,
            false => (credentials.username, credentials.password) = (found.username, found.secret),
        }
    }
    job.host.allow(domain, credentials);
}
