//! What plugins for volumes understand: `VolumeDriver.*`.
//!
//! Invariant: a volume that a plugin shows has a name.
//! Source: Docker's page "Docker volume plugins"; Moby `volume/drivers` (bounds, older plugins).
//! Not here: which volumes there are and who uses them (engine).

use crate::{Plugin, Plugins};
use base::{Error, Kind, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// What a plugin for volumes says it implements.
pub const KIND: &str = "VolumeDriver";

/// A volume as its plugin shows it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Where it is mounted, when it is.
    pub mountpoint: String,
    /// When it was made, if the plugin knows.
    pub created_at: String,
    /// What else the plugin has to say.
    pub status: Option<Value>,
}

/// A plugin for volumes.
#[derive(Clone, Debug)]
pub struct Driver(Plugin);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'n> {
    name: &'n str,
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<&'n str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    mountpoint: Option<String>,
    volume: Option<Shown>,
    volumes: Option<Vec<Shown>>,
    capabilities: Option<Capabilities>,
    err: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Capabilities {
    scope: String,
}

/// Whether a failure is the plugin's own word, and not that it could not be asked.
pub fn answered(err: &Error) -> bool {
    !matches!(err.kind(), Kind::Unavailable | Kind::NotFound)
}

impl Driver {
    /// The plugin `name`, which has to be there and be for volumes.
    ///
    /// # Errors
    /// `NotFound`; as [`Plugin::call`].
    pub async fn find(plugins: &Plugins, name: &str) -> Result<Self> {
        plugins.implementing(name, KIND).await.map(Self)
    }

    /// The plugin `name`, which was for volumes once and may be starting just now: it is waited for that long.
    pub fn known(plugins: &Plugins, name: &str, patience: Duration) -> Self {
        Self(plugins.get(name).awaited(patience))
    }

    /// All of them that answer within `limit`, which bounds further calls too.
    pub async fn all(plugins: &Plugins, limit: Duration) -> Vec<Self> {
        plugins.all(KIND, limit).await.into_iter().map(Self).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The same with another bound for a call.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self(self.0.within(limit))
    }

    async fn ask(&self, method: &str, argument: &(impl Serialize + Sync)) -> Result<Answer> {
        let answer: Answer = self.call(method, argument).await?;
        match answer.err.filter(|e| !e.is_empty()) {
            Some(err) => Err(Error::internal(err)),
            None => Ok(Answer { err: None, ..answer }),
        }
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: &str,
        argument: &(impl Serialize + Sync),
    ) -> Result<A> {
        self.0.call(&format!("VolumeDriver.{method}"), argument).await
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        self.ask("Create", &json!({"Name": name, "Opts": options})).await.map(drop)
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.ask("Remove", &Named { name, id: None }).await.map(drop)
    }

    /// Where a volume is, when it is mounted.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn path(&self, name: &str) -> Result<String> {
        let answer = self.ask("Path", &Named { name, id: None }).await?;
        Ok(self.seen(answer.mountpoint.unwrap_or_default()))
    }

    /// A mount point as the host sees it, to be shown.
    fn seen(&self, mountpoint: String) -> String {
        let outside = Some(&mountpoint).filter(|m| !m.is_empty()).map(|m| self.0.outside(m.into()));
        match outside {
            Some(Ok(path)) => path.display().to_string(),
            _ => mountpoint,
        }
    }

    /// Makes a volume's content appear at a path of the host, for `id`. The path of one that is not managed is as it
    /// gives it.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        let answer = self.ask("Mount", &Named { name, id: Some(id) }).await?;
        self.0.outside(answer.mountpoint.unwrap_or_default().into())
    }

    /// Says that `id` needs it no more.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.ask("Unmount", &Named { name, id: Some(id) }).await.map(drop)
    }

    /// One volume.
    ///
    /// # Errors
    /// `Internal`, also when the plugin knows no such volume: plugins have no word for that; as [`Plugin::call`].
    pub async fn get(&self, name: &str) -> Result<Shown> {
        let answer = self.ask("Get", &Named { name, id: None }).await?;
        let shown = answer.volume.filter(|v| !v.name.is_empty()).map(|v| self.shown(v));
        shown.ok_or_else(|| Error::internal(format!("plugin {} shows no volume", self.name())))
    }

    /// All volumes of the plugin.
    ///
    /// # Errors
    /// The plugin's; as [`Plugin::call`].
    pub async fn list(&self) -> Result<Vec<Shown>> {
        let mut all = self.ask("List", &json!({})).await?.volumes.unwrap_or_default();
        all.retain(|volume| !volume.name.is_empty());
        Ok(all.into_iter().map(|volume| self.shown(volume)).collect())
    }

    fn shown(&self, volume: Shown) -> Shown {
        Shown { mountpoint: self.seen(volume.mountpoint), ..volume }
    }

    /// `local`, or `global` when all machines see the same volumes. Plugins that do not know the question are local.
    pub async fn scope(&self) -> String {
        let answer = self.ask("Capabilities", &json!({})).await.unwrap_or_default();
        let scope = answer.capabilities.unwrap_or_default().scope.to_lowercase();
        if scope == "global" { scope } else { "local".to_owned() }
    }
}
