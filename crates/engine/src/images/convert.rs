//! An image's run configuration in the API's words, and back.

use api::model;
use image::{RunConfig, config};
use serde_json::Value;
use std::collections::BTreeMap;

/// The container configuration that an image stands for.
pub(crate) fn to_api(run: &RunConfig) -> model::ContainerConfig {
    let text = |key: &str| run.rest.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |key: &str| run.rest.get(key).and_then(Value::as_bool).unwrap_or_default();
    let list = |list: &Vec<String>| Some(list.clone()).filter(|l| !l.is_empty());
    model::ContainerConfig {
        hostname: text("Hostname"),
        domainname: text("Domainname"),
        user: run.user.clone(),
        attach_stdin: flag("AttachStdin"),
        attach_stdout: flag("AttachStdout"),
        attach_stderr: flag("AttachStderr"),
        exposed_ports: set(&run.exposed_ports),
        tty: flag("Tty"),
        open_stdin: flag("OpenStdin"),
        stdin_once: flag("StdinOnce"),
        env: list(&run.env),
        cmd: run.cmd.clone(),
        healthcheck: run.healthcheck.as_ref().map(health),
        args_escaped: run.args_escaped,
        image: text("Image"),
        volumes: set(&run.volumes),
        working_dir: run.working_dir.clone(),
        entrypoint: run.entrypoint.clone(),
        network_disabled: flag("NetworkDisabled"),
        mac_address: text("MacAddress"),
        on_build: list(&run.on_build),
        labels: Some(run.labels.clone()).filter(|l| !l.is_empty()),
        stop_signal: Some(run.stop_signal.clone()).filter(|s| !s.is_empty()),
        stop_timeout: run.stop_timeout,
        shell: run.shell.clone().filter(|s| !s.is_empty()),
    }
}

/// What an image made from a container with this configuration says.
pub(crate) fn from_api(config: &model::ContainerConfig) -> RunConfig {
    RunConfig {
        user: config.user.clone(),
        exposed_ports: keys(config.exposed_ports.as_ref()),
        env: config.env.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone().filter(|e| !e.is_empty()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(|h| config::Healthcheck {
            test: h.test.clone().unwrap_or_default(),
            interval: h.interval,
            timeout: h.timeout,
            start_period: h.start_period,
            start_interval: h.start_interval,
            retries: h.retries,
        }),
        args_escaped: config.args_escaped,
        volumes: keys(config.volumes.as_ref()),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone().unwrap_or_default(),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        ..RunConfig::default()
    }
}

fn set(keys: &BTreeMap<String, config::Empty>) -> Option<BTreeMap<String, model::Empty>> {
    let set: BTreeMap<_, _> = keys.keys().map(|k| (k.clone(), model::Empty {})).collect();
    Some(set).filter(|s| !s.is_empty())
}

fn keys(set: Option<&BTreeMap<String, model::Empty>>) -> BTreeMap<String, config::Empty> {
    set.into_iter().flat_map(BTreeMap::keys).map(|k| (k.clone(), config::Empty {})).collect()
}

fn health(check: &config::Healthcheck) -> model::HealthConfig {
    model::HealthConfig {
        test: Some(check.test.clone()).filter(|t| !t.is_empty()),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_there_and_back() {
        let json = serde_json::json!({
            "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=1"], "Entrypoint": ["e"], "Cmd": ["c"],
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5, "Retries": 2}, "Volumes": {"/v": {}},
            "WorkingDir": "/w", "OnBuild": ["RUN x"], "Labels": {"a": "b"}, "StopSignal": "SIGINT",
            "StopTimeout": 3, "Shell": ["sh"]
        });
        let run: RunConfig = serde_json::from_value(json).unwrap();
        assert_eq!(from_api(&to_api(&run)), run);
        let old = serde_json::json!({"Hostname": "abc", "Tty": true, "Image": "sha256:x"});
        let api = to_api(&serde_json::from_value(old).unwrap());
        assert_eq!((api.hostname.as_str(), api.tty, api.image.as_str()), ("abc", true, "sha256:x"));
    }
}
