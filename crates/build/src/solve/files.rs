//! `COPY` and `ADD` as steps: sources, cache, transfer, image.

use super::{
    stage::Stage,
    step::{Found, blocking, passing_id},
};
use crate::{
    copy::{self, Archive, Transfer, Tree, gather, inline, joint_hash},
    download,
    draft::{Copy, Source},
    graph::{self, Op},
    host::{Host, Image, Lookup, View, Workspace as _},
};
use base::{Error, Result};
use image::edit::shell;
use std::sync::Arc;
use sys::root::Root;

/// The tree that sources come from, and what keeps it.
struct Origin {
    root: Option<Arc<Root>>,
    tree: Tree,
    _guard: Option<Box<dyn std::any::Any + Send + Sync>>,
}

impl<H: Host> Stage<'_, H> {
    /// Copies files.
    pub(super) async fn copy(&mut self, copy: Copy) -> Result<()> {
        let origin = self.origin(&copy).await?;
        let name = copy.name;
        let found = self
            .sources(&copy, &origin)
            .await
            .map_err(|cause| Error::new(cause.kind(), format!("{name} failed")).caused_by(cause))?;
        if found.len() > 1 && !copy.dest.ends_with('/') {
            return Err(Error::invalid(format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let mut command = shell(&self.draft.config);
        command.push(format!("#(nop) {}", comment(&copy, &found)));
        let recorded = self.recorded(command);
        let key = self.key(&Op::File { input: self.input(), config: recorded.clone() });
        if self.hit(&key, &recorded).await? {
            return Ok(());
        }
        let host = self.build.host.clone();
        let workspace = host.workspace(self.image.id.as_ref()).await?;
        let working_dir = self.draft.config.working_dir.clone();
        let workspace = blocking(move || {
            let unpack = |archive: std::fs::File, into: &Root| host.unpack(archive, into);
            Transfer { copy: &copy, found: &found, working_dir: &working_dir, unpack: &unpack }
                .run(workspace.root())?;
            drop(origin);
            Ok(workspace)
        })
        .await?;
        let layer = workspace.commit().await?;
        self.commit(key, &recorded, layer).await
    }

    async fn origin(&self, copy: &Copy) -> Result<Origin> {
        let Some(from) = &copy.from else {
            let root = self.build.context.clone();
            return Ok(Origin { root, tree: Tree::Context, _guard: None });
        };
        let image = self.image_named(from).await.map_err(|cause| {
            Error::new(cause.kind(), format!("invalid from flag value {from}")).caused_by(cause)
        })?;
        let Some(id) = &image.id else {
            return Err(Error::invalid(format!("invalid from flag value {from}: it has no files")));
        };
        let View { root, guard } = self.build.host.view(id).await?;
        Ok(Origin { root: Some(Arc::new(root)), tree: Tree::Image, _guard: Some(guard) })
    }

    /// The image that `--from` names: an earlier stage, or any image.
    async fn image_named(&self, from: &str) -> Result<Image> {
        let build = self.build;
        if let Some(stage) = graph::earlier(&build.file, from, self.index) {
            if build.is_needed(stage) {
                return build.stage_image(stage).await;
            }
            // Named only by a trigger of the base image, so nobody asked for it before.
            let done = Box::pin(build.stage(stage, build.total, self.output)).await;
            return done.map(|done| done.image).map_err(|failure| failure.error);
        }
        if let Ok(index) = from.parse::<usize>() {
            return Err(Error::invalid(match index == self.index {
                true => "refers to current build stage",
                false => "index out of bounds",
            }));
        }
        let platform = build.options.platform.clone();
        build.host.image(from, &Lookup { platform, ..Lookup::default() }, self.output).await
    }

    async fn sources(&self, copy: &Copy, origin: &Origin) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for source in &copy.sources {
            match source {
                Source::Inline { name, content } => found.push(inline(name, content)),
                Source::Url(url) => found.push(self.fetch(url, copy).await?),
                Source::Path(path) => {
                    let root = origin.root.clone();
                    let root = root.ok_or_else(|| Error::invalid("missing build context"))?;
                    let (tree, path) = (origin.tree, path.clone());
                    let archive = if copy.name == "ADD" { Archive::Unpack } else { Archive::Keep };
                    found.extend(blocking(move || gather(&root, tree, &path, archive)).await?);
                }
            }
        }
        if found.is_empty() {
            return Err(Error::invalid("no source files were specified"));
        }
        Ok(found)
    }

    /// Downloads a remote source into the scratch folder.
    async fn fetch(&self, url: &str, copy: &Copy) -> Result<Found> {
        let folder = self.build.host.scratch().join(format!("download-{}", passing_id()));
        let (url, output) = (url.to_owned(), self.output.clone());
        let target = folder.clone();
        let download = blocking(move || download::fetch(&url, &target, &output)).await?;
        self.output.text("\n").await;
        let name = match download.name {
            Some(name) => name,
            None if copy.dest.ends_with('/') => {
                return Err(Error::invalid(format!(
                    "cannot determine filename for source {}",
                    download.url
                )));
            }
            None => download::UNNAMED.to_owned(),
        };
        if let Some(want) = &copy.checksum
            && *want != download.digest.to_string()
        {
            return Err(Error::invalid(format!("digest mismatch {}: {want}", download.digest)));
        }
        blocking(move || {
            let root = Root::open(&folder)
                .map_err(|e| copy::failed("cannot open the download".into(), e))?;
            copy::exact(&Arc::new(root), &name)
        })
        .await
    }
}

/// `COPY file:<hex> in /x `, as docker's history has it, blanks and all.
fn comment(copy: &Copy, found: &[Found]) -> String {
    let hash = joint_hash(found);
    let flags = match (&copy.chown, &copy.chmod) {
        (None, None) => String::new(),
        // compat(docker 28): no blank between the owner and the hash.
        (Some(chown), None) => format!("--chown={chown}"),
        (None, Some(chmod)) => format!("--chmod={chmod} "),
        (Some(chown), Some(chmod)) => format!("--chown={chown} --chmod={chmod} "),
    };
    format!("{} {flags}{hash} in {} ", copy.name, copy.dest)
}
