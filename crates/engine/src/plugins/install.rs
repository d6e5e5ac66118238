//! Plugins from archives, and their end. A folder is made whole before a row names it.

use super::{Places, Record, digesting::Digesting, named, settings};
use crate::{
    Engine,
    images::{Bytestream, blocking, reader},
    lifecycle::{LIMITS, private_dir},
};
use api::model::{PluginConfig, PluginRootfs};
use base::{ContainerId, Digest, Error, Principal, Result};
use image::{
    Limits,
    compress::{Form, parallel},
    decompress,
    manifest::{DOCKER_MANIFEST, Descriptor, Manifest},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::{Component, Path, PathBuf},
    sync::Arc,
};
use sys::root::Root;

/// Media type of a plugin's configuration.
pub(super) const CONFIG: &str = "application/vnd.docker.plugin.v1+json";
/// Media type of its layers.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A plugin's folder that no row names yet; it goes with this unless one does.
pub(super) struct Draft {
    name: String,
    path: PathBuf,
    settled: bool,
}

impl Draft {
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let name = base::id::random_hex();
        let path = engine.config.data_root.join("plugins").join(&name);
        private_dir(&path.join("blobs"))?;
        let draft = Self { name, path, settled: false };
        let root = draft.root();
        // The plugin sees this folder as its root, whoever it runs as.
        fs::create_dir(&root)
            .and_then(|()| enterable(&root))
            .map_err(|e| Error::io(format!("cannot make {}", root.display()), e))?;
        Ok(draft)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.hex())
    }

    /// Keeps a document under its digest.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::sha256(bytes);
        let place = self.blob(&digest);
        fs::write(&place, bytes)
            .map_err(|e| Error::io(format!("cannot write {}", place.display()), e))?;
        Ok(digest)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.settled
            && let Err(err) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(err = err.to_string(), "a half-made plugin stays until the next start");
        }
    }
}

fn enterable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Checks a configuration before anything is done with it.
pub(super) fn check(config: &PluginConfig) -> Result<()> {
    let refuse =
        |text: String| Err(Error::invalid(format!("invalid plugin configuration: {text}")));
    if config.entrypoint.iter().all(String::is_empty) {
        return refuse("it has no entrypoint".into());
    }
    let socket = Path::new(&config.interface.socket);
    let mut parts = socket.components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
        return refuse(format!("its socket {:?} is no file name", config.interface.socket));
    }
    let protocol = config.interface.protocol_scheme.as_str();
    if !matches!(protocol, "" | "moby.plugins.http/v1") {
        return refuse(format!("protocol {protocol:?} is not known"));
    }
    for mount in &config.mounts {
        if !matches!(mount.r#type.as_str(), "bind" | "tmpfs") {
            return refuse(format!(
                "mount type {:?} of {:?} is not known",
                mount.r#type, mount.name
            ));
        }
        if !mount.destination.starts_with('/') {
            return refuse(format!("mount destination {:?} is not absolute", mount.destination));
        }
    }
    let propagated = config.propagated_mount.as_str();
    if !propagated.is_empty() && (!propagated.starts_with('/') || propagated == "/") {
        return refuse(format!("propagated mount {propagated:?} is no absolute path of a folder"));
    }
    Ok(())
}

/// What a folder holds, once it is whole.
pub(super) struct Made {
    pub(super) draft: Draft,
    pub(super) config: PluginConfig,
    pub(super) manifest: Digest,
    /// What it was pulled as.
    pub(super) reference: String,
}

impl Engine {
    /// `POST /plugins/create`: a plugin of an archive with `config.json` and `rootfs/`.
    ///
    /// # Errors
    /// `Invalid` for a bad name, archive or configuration; `Conflict` for a name that is taken.
    pub async fn plugin_create(
        self: &Arc<Self>,
        name: &str,
        body: Bytestream,
        by: &Principal,
    ) -> Result<()> {
        let name = named(name)?;
        let engine = Arc::clone(self);
        let source = reader(body);
        // Whether the name is free comes after the archive: a client that is still sending it would not read why not.
        let made = blocking(move || unpack(&engine, source)).await?;
        let _turn = self.plugin_turn.lock().await;
        self.plugin_name_is_free(&name)?;
        self.plugin_settle(ContainerId::random(), name, made, ("create", by))
    }

    pub(super) fn plugin_name_is_free(&self, name: &str) -> Result<()> {
        if self.plugin_records()?.iter().any(|p| p.name == name) {
            return Err(Error::conflict(format!("plugin {name:?} already exists")));
        }
        Ok(())
    }

    /// Writes the row of what was made.
    pub(super) fn plugin_settle(
        &self,
        id: ContainerId,
        name: String,
        made: Made,
        (action, by): (&str, &Principal),
    ) -> Result<()> {
        let settings = settings::initial(&made.config);
        let Made { mut draft, config, manifest, reference } = made;
        let folder = draft.name.clone();
        let record =
            Record { id, name, folder, enabled: false, reference, manifest, config, settings };
        self.put_plugin(&record, Some(record.event(action, by)))?;
        draft.settled = true;
        Ok(())
    }

    /// `DELETE /plugins/{name}`: gives what was removed.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is enabled or in use, unless by force.
    pub async fn plugin_remove(
        self: &Arc<Self>,
        name: &str,
        force: bool,
        by: &Principal,
    ) -> Result<api::model::Plugin> {
        let _turn = self.plugin_turn.lock().await;
        let plugin = self.plugin_record(name)?;
        if !force {
            if plugin.enabled {
                return Err(Error::conflict(format!(
                    "plugin {} is enabled: disable it before removing it",
                    plugin.name
                )));
            }
            self.plugin_is_idle(&plugin)?;
        }
        self.end_plugin(&plugin, by).await?;
        self.store.write(|tx| {
            tx.delete_plugin(plugin.id.as_str())?;
            tx.emit(plugin.event("remove", by));
            Ok(())
        })?;
        self.trash_path(&Places::of(&self.config, &plugin).data)?;
        Ok(plugin.shown())
    }

    /// Folders that no row knows: of a plugin that was being made or removed when the daemon died.
    pub(super) fn sweep_plugin_folders(&self, known: &[Record]) {
        let parent = self.config.data_root.join("plugins");
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if known.iter().any(|p| name == *p.folder) {
                continue;
            }
            let left = self.trash_path(&entry.path());
            if let Err(err) = left {
                tracing::warn!(err = err.chain(), "the folder of an unknown plugin stays");
            }
        }
    }
}

/// The folder of a plugin from its archive; blocks.
fn unpack(engine: &Engine, source: impl std::io::Read + Send) -> Result<Made> {
    let draft = Draft::new(engine)?;
    let archive = draft.path.join("archive");
    private_dir(&archive)?;
    let open = |path: &Path| {
        Root::open(path)
            .map_err(|e| Error::internal(format!("cannot open {}", path.display())).caused_by(e))
    };
    let root = open(&archive)?;
    decompress::piped(source, &Limits::default(), |tar| {
        storage::extract_into(&root, Path::new("/"), tar, &LIMITS)
    })?;
    let mut config = config_of(&archive.join("config.json"))?;
    check(&config)?;
    let files = archive.join("rootfs");
    if !fs::symlink_metadata(&files).is_ok_and(|m| m.is_dir()) {
        return Err(Error::invalid("the plugin's archive has no folder rootfs"));
    }
    let moved = fs::remove_dir(draft.root()).and_then(|()| fs::rename(&files, draft.root()));
    moved
        .and_then(|()| fs::remove_dir_all(&archive))
        .map_err(|e| Error::io("cannot place the plugin's files", e))?;
    let (layer, diff_id) = pack(&draft, &open(&draft.root())?)?;
    config.rootfs =
        Some(PluginRootfs { r#type: "layers".into(), diff_ids: vec![diff_id.to_string()] });
    config.docker_version = crate::config::VERSION.into();
    let encode = |e| Error::internal("cannot encode a plugin").caused_by(e);
    let raw = serde_json::to_vec(&config).map_err(encode)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: DOCKER_MANIFEST.into(),
        config: Descriptor::new(CONFIG, draft.put(&raw)?, raw.len() as u64),
        layers: vec![layer],
        annotations: BTreeMap::new(),
    };
    let manifest = draft.put(&serde_json::to_vec(&manifest).map_err(encode)?)?;
    Ok(Made { draft, config, manifest, reference: String::new() })
}

fn config_of(path: &Path) -> Result<PluginConfig> {
    let most = Limits::default().config_bytes;
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() <= most => {}
        Ok(_) => {
            return Err(Error::invalid(format!(
                "the plugin's config.json is no file of at most {most} bytes"
            )));
        }
        Err(_) => return Err(Error::invalid("the plugin's archive has no config.json")),
    }
    let bytes = fs::read(path).map_err(|e| Error::io("cannot read the plugin's config.json", e))?;
    api::decode(&bytes).map_err(|e| Error::wrap("invalid config.json of the plugin", e))
}

/// The layer of a root, and the digest of its tar.
fn pack(draft: &Draft, root: &Root) -> Result<(Descriptor, Digest)> {
    let place = draft.path.join("blobs").join("layer");
    let failed = |e| Error::io("cannot pack the plugin's files", e);
    let mut out = Digesting::new(File::create(&place).map_err(failed)?);
    let mut diff_id = None;
    parallel(Form::Gzip, &mut out, |tar| {
        let mut tar = Digesting::new(tar);
        storage::export_tree(root, &mut tar)?;
        diff_id = Some(tar.finish().0);
        Ok(())
    })?;
    out.flush().map_err(failed)?;
    let (digest, size) = out.finish();
    fs::rename(&place, draft.blob(&digest)).map_err(failed)?;
    let diff_id =
        diff_id.ok_or_else(|| Error::internal("a plugin was packed without its files"))?;
    Ok((Descriptor::new(LAYER, digest, size), diff_id))
}
