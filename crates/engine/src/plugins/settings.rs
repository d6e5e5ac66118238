//! `docker plugin set`: `NAME=VALUE` or `NAME.FIELD=VALUE` for what a plugin's configuration declares settable.
//!
//! Source: Docker's page "docker plugin set"; Moby `plugin/v2/settable.go` (forms, texts).

use super::Record;
use api::model::{PluginConfig, PluginSettings};
use base::{Error, Result};

/// What a plugin begins with.
pub(super) fn initial(config: &PluginConfig) -> PluginSettings {
    let variable = |env: &api::model::PluginEnv| {
        env.value.as_ref().map(|value| format!("{}={value}", env.name))
    };
    PluginSettings {
        args: config.args.value.clone(),
        devices: config.linux.devices.clone().unwrap_or_default(),
        env: config.env.iter().filter_map(variable).collect(),
        mounts: config.mounts.clone(),
    }
}

/// One setting asked for.
struct Asked<'a> {
    text: &'a str,
    name: &'a str,
    field: &'a str,
    value: &'a str,
}

impl<'a> Asked<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let bad = || {
            Error::invalid(format!(
                "invalid plugin setting {text:?}: want NAME=VALUE or NAME.FIELD=VALUE"
            ))
        };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let (name, field) = key.split_once('.').unwrap_or((key, ""));
        if name.is_empty() || (key.contains('.') && field.is_empty()) {
            return Err(bad());
        }
        Ok(Self { text, name, field, value })
    }

    /// Whether this thing of the configuration is meant; an error when it may not be set so.
    fn means(&self, name: &str, settable: Option<&Vec<String>>, field: &str) -> Result<bool> {
        if self.name != name {
            return Ok(false);
        }
        let asked = if self.field.is_empty() { field } else { self.field };
        if asked == field && settable.is_some_and(|s| s.iter().any(|f| f == field)) {
            return Ok(true);
        }
        Err(Error::invalid(format!(
            "{:?} is not settable: the plugin does not allow {asked} of {name} to be set",
            self.text
        )))
    }
}

/// Sets all or nothing.
///
/// # Errors
/// `Invalid` for what the plugin does not have or does not let anybody set.
pub(super) fn set(plugin: &Record, asked: &[String]) -> Result<PluginSettings> {
    let mut settings = plugin.settings.clone();
    for text in asked {
        one(&plugin.config, &mut settings, &Asked::parse(text)?)?;
    }
    Ok(settings)
}

fn one(config: &PluginConfig, settings: &mut PluginSettings, asked: &Asked<'_>) -> Result<()> {
    for env in &config.env {
        if asked.means(&env.name, env.settable.as_ref(), "value")? {
            let new = format!("{}={}", env.name, asked.value);
            let own = |e: &&mut String| e.split('=').next() == Some(env.name.as_str());
            match settings.env.iter_mut().find(own) {
                Some(old) => *old = new,
                None => settings.env.push(new),
            }
            return Ok(());
        }
    }
    for (at, mount) in config.mounts.iter().enumerate() {
        if asked.means(&mount.name, mount.settable.as_ref(), "source")? {
            if let Some(mount) = settings.mounts.get_mut(at) {
                mount.source = Some(asked.value.to_owned());
            }
            return Ok(());
        }
    }
    for (at, device) in config.linux.devices.iter().flatten().enumerate() {
        if asked.means(&device.name, device.settable.as_ref(), "path")? {
            if let Some(device) = settings.devices.get_mut(at) {
                device.path = Some(asked.value.to_owned());
            }
            return Ok(());
        }
    }
    if asked.means(&config.args.name, config.args.settable.as_ref(), "value")? {
        settings.args = asked.value.split_whitespace().map(str::to_owned).collect();
        return Ok(());
    }
    Err(Error::invalid(format!("setting {:?} not found in the plugin configuration", asked.text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{ContainerId, Digest};

    #[test]
    fn only_what_is_settable_is_set() {
        let config: PluginConfig = api::decode(
            br#"{"env":[{"name":"DEBUG","settable":["value"],"value":"0"},{"name":"FIXED","value":"1"},{"name":"NEW","settable":["value"]}],
            "mounts":[{"name":"m","source":"/a","destination":"/b","settable":["source"]}],
            "args":{"name":"args","value":["x"],"settable":["value"]},
            "linux":{"devices":[{"name":"d","path":"/dev/null","settable":["path"]}]}}"#,
        )
        .unwrap();
        let settings = initial(&config);
        assert_eq!(settings.env, ["DEBUG=0", "FIXED=1"]);
        let plugin = Record {
            id: ContainerId::random(),
            name: "p".into(),
            folder: String::new(),
            enabled: false,
            reference: String::new(),
            manifest: Digest::sha256(b""),
            config,
            settings,
        };
        let asked =
            |list: &[&str]| set(&plugin, &list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let got =
            asked(&["DEBUG=a=b", "NEW=1", "m.source=/c", "d=/dev/zero", "args=one two"]).unwrap();
        assert_eq!(got.env, ["DEBUG=a=b", "FIXED=1", "NEW=1"]);
        assert_eq!(got.mounts[0].source.as_deref(), Some("/c"));
        assert_eq!(got.devices[0].path.as_deref(), Some("/dev/zero"));
        assert_eq!(got.args, ["one", "two"]);
        for bad in ["FIXED=2", "NONE=1", "DEBUG", "=1", "m.type=x", "m.=x", "DEBUG.name=x"] {
            assert!(asked(&["DEBUG=1", bad]).is_err(), "{bad}");
        }
    }
}
