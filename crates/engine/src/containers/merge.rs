//! A container's configuration from what was asked and what its image says (Docker's `merge` rules).

use api::model::ContainerConfig;
use base::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Fills `asked` from `image`: what was asked wins; environment and labels are merged by key; the image's
/// command counts only when neither command nor entrypoint was asked for.
///
/// # Errors
/// `Invalid` when no command remains.
pub(crate) fn merge(
    mut asked: ContainerConfig,
    image: &ContainerConfig,
) -> Result<ContainerConfig> {
    let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if asked.user.is_empty() {
        asked.user.clone_from(&image.user);
    }
    merge_map(&mut asked.exposed_ports, image.exposed_ports.as_ref());
    merge_map(&mut asked.labels, image.labels.as_ref());
    asked.labels.get_or_insert_default();
    merge_map(&mut asked.volumes, image.volumes.as_ref());
    asked.env = merge_env(image.env.as_deref(), asked.env.as_deref());
    // An explicit `--entrypoint ""` arrives as [""] and clears the image's entrypoint and command.
    let reset = asked.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty());
    if reset {
        asked.entrypoint = None;
    } else if empty(&asked.entrypoint) {
        if empty(&asked.cmd) {
            asked.cmd.clone_from(&image.cmd);
            asked.args_escaped = image.args_escaped;
        }
        if asked.entrypoint.is_none() {
            asked.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if asked.working_dir.is_empty() {
        asked.working_dir.clone_from(&image.working_dir);
    }
    if asked.stop_signal.as_ref().is_none_or(String::is_empty) {
        asked.stop_signal.clone_from(&image.stop_signal);
    }
    if asked.stop_timeout.is_none() {
        asked.stop_timeout = image.stop_timeout;
    }
    if asked.shell.is_none() {
        asked.shell.clone_from(&image.shell);
    }
    if asked.on_build.is_none() {
        asked.on_build.clone_from(&image.on_build);
    }
    match (&mut asked.healthcheck, &image.healthcheck) {
        (asked, Some(image)) if asked.is_none() => *asked = Some(image.clone()),
        (Some(asked), Some(image)) => {
            if asked.test.as_ref().is_none_or(Vec::is_empty) {
                asked.test.clone_from(&image.test);
            }
            let keep = |asked: &mut i64, image: i64| {
                if *asked == 0 {
                    *asked = image;
                }
            };
            keep(&mut asked.interval, image.interval);
            keep(&mut asked.timeout, image.timeout);
            keep(&mut asked.start_period, image.start_period);
            keep(&mut asked.start_interval, image.start_interval);
            keep(&mut asked.retries, image.retries);
        }
        _ => {}
    }
    if empty(&asked.cmd) && empty(&asked.entrypoint) {
        return Err(Error::invalid("no command specified"));
    }
    Ok(asked)
}

fn merge_map<V: Clone>(
    asked: &mut Option<BTreeMap<String, V>>,
    image: Option<&BTreeMap<String, V>>,
) {
    let Some(image) = image.filter(|i| !i.is_empty()) else {
        // What is asked as empty and what is not asked are one to docker.
        if asked.as_ref().is_some_and(BTreeMap::is_empty) {
            *asked = None;
        }
        return;
    };
    let asked = asked.get_or_insert_default();
    for (key, value) in image {
        asked.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// The image's variables, then what was asked, an asked key in place of the image's.
pub(crate) fn merge_env(image: Option<&[String]>, asked: Option<&[String]>) -> Option<Vec<String>> {
    if image.is_none() && asked.is_none() {
        return None;
    }
    let asked = asked.unwrap_or_default();
    let keys: HashSet<&str> = asked.iter().map(|e| variable(e)).collect();
    let inherited = image.unwrap_or_default().iter().filter(|e| !keys.contains(variable(e)));
    Some(asked.iter().chain(inherited).cloned().collect())
}

/// The name of `NAME=value` or `NAME`.
fn variable(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// The environment of the process: defaults first, then the configuration, `NAME` without value removed.
pub(crate) fn process_env(config: &ContainerConfig, hostname: &str) -> Vec<String> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
    ];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    overlay_env(&mut env, config.env.as_deref().unwrap_or_default());
    env
}

/// Sets `NAME=value` entries over `env` and removes those given as bare `NAME`. The first of a name keeps its place.
pub(crate) fn overlay_env(env: &mut Vec<String>, over: &[String]) {
    // An image may bring a hundred thousand of them.
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(env.len() + over.len());
    let mut kept: Vec<Option<&String>> = Vec::with_capacity(env.len() + over.len());
    for entry in env.iter().chain(over) {
        let name = variable(entry);
        match (places.get(name), entry.contains('=')) {
            (Some(&at), true) => kept[at] = Some(entry),
            (Some(&at), false) => {
                kept[at] = None;
                places.remove(name);
            }
            (None, true) => {
                places.insert(name, kept.len());
                kept.push(Some(entry));
            }
            (None, false) => {}
        }
    }
    *env = kept.into_iter().flatten().cloned().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Option<Vec<String>> {
        Some(text.iter().map(|w| (*w).to_owned()).collect())
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            env: words(&["A=1", "B=2"]),
            cmd: words(&["serve"]),
            entrypoint: words(&["/run"]),
            working_dir: "/w".into(),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn what_was_asked_wins_over_the_image() {
        let asked = ContainerConfig { env: words(&["B=3"]), ..ContainerConfig::default() };
        let merged = merge(asked, &image()).unwrap();
        assert_eq!(merged.env, words(&["B=3", "A=1"]));
        assert_eq!(
            (merged.entrypoint, merged.cmd, merged.working_dir.as_str()),
            (words(&["/run"]), words(&["serve"]), "/w")
        );
    }

    #[test]
    fn a_new_entrypoint_drops_the_images_command() {
        let asked =
            ContainerConfig { entrypoint: words(&["/other"]), ..ContainerConfig::default() };
        let merged = merge(asked, &image()).unwrap();
        assert_eq!((merged.entrypoint, merged.cmd), (words(&["/other"]), None));
        let cleared = ContainerConfig {
            entrypoint: words(&[""]),
            cmd: words(&["x"]),
            ..ContainerConfig::default()
        };
        assert_eq!(merge(cleared, &image()).unwrap().entrypoint, None);
        assert_eq!(
            merge(
                ContainerConfig { entrypoint: words(&[""]), ..ContainerConfig::default() },
                &image()
            )
            .unwrap_err()
            .to_string(),
            "no command specified"
        );
    }

    #[test]
    fn a_bare_name_removes_a_variable() {
        let config =
            ContainerConfig { env: words(&["HOSTNAME", "X=1"]), ..ContainerConfig::default() };
        let env = process_env(&config, "h");
        assert!(!env.iter().any(|e| e.starts_with("HOSTNAME")));
        assert!(env.contains(&"X=1".to_owned()));
    }
}
