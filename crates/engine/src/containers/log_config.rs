//! How a container's output is kept: the daemon's defaults, the attributes of records, the tag.
//!
//! Source: Moby `daemon/logs.go`, `daemon/logger/loginfo.go`, `daemon/logger/loggerutils/log_tag.go`.

use super::{Places, Record};
use api::model::LogConfig;
use base::{Error, Result};
use gotmpl::{MissingKey, Template, Value};
use regex::Regex;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Fills in the daemon's driver, its options where the driver is the daemon's too, and its options of the
/// kept copy everywhere; then checks.
///
/// # Errors
/// `Invalid` for a bad driver or option.
pub(crate) fn settle(asked: &mut LogConfig, config: &crate::Config) -> Result<()> {
    if asked.r#type.is_empty() {
        asked.r#type.clone_from(&config.log_driver);
    }
    let same = asked.r#type == config.log_driver;
    let options = asked.config.get_or_insert_default();
    for (name, value) in &config.log_options {
        if same || name.starts_with("cache-") {
            options.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    check(&asked.r#type, options, &config.plugin_folders)
}

/// Whether a driver is a plugin: none of ours is called so, and one is there.
fn is_plugin(driver: &str, folders: &[PathBuf]) -> bool {
    let own = driver.is_empty() || logging::DRIVERS.iter().any(|d| d.name() == driver);
    !own && plugin::find(driver, folders).is_ok()
}

/// Checks a driver and its options, the patterns and the template too.
///
/// # Errors
/// `Invalid`, with docker's text.
pub(crate) fn check(
    driver: &str,
    options: &BTreeMap<String, String>,
    folders: &[PathBuf],
) -> Result<()> {
    let config = logging::Config {
        driver: driver.to_owned(),
        options: logging::Options(options.clone()),
        plugin: is_plugin(driver, folders).then(Default::default),
        ..logging::Config::default()
    };
    config.check()?;
    for name in ["labels-regex", "env-regex"] {
        options.get(name).map(|text| pattern(text)).transpose()?;
    }
    template(options.get("tag").map_or("", String::as_str)).map(drop)
}

/// What the writing and the reading end of this container's log need.
///
/// # Errors
/// `Invalid` for a bad driver or option.
pub(crate) fn log_config(
    record: &Record,
    places: &Places,
    engine: &crate::Config,
) -> Result<logging::Config> {
    let asked = &record.host.log_config;
    let options = asked.config.clone().unwrap_or_default();
    let origin = logging::Origin {
        id: record.id.to_string(),
        name: record.name.clone(),
        image_id: record.image.to_string(),
        image_name: record.image_reference.clone(),
        created: record.created.to_string(),
        command: record.argv().join(" "),
        host: crate::system::hostname(),
    };
    let mut attrs = attributes(record, &options)?;
    let text = options.get("tag").map_or("", String::as_str);
    let tag = if text.is_empty() {
        record.id.as_str().chars().take(12).collect()
    } else {
        render(text, record, &origin, &attrs)?
    };
    if asked.r#type == "json-file" && !text.is_empty() {
        attrs.insert("tag".into(), tag.clone());
    }
    let config = logging::Config {
        driver: asked.r#type.clone(),
        path: places.log(&record.id),
        options: logging::Options(options),
        attrs,
        tag,
        origin,
        relay: engine.program.clone(),
        plugin: told(record, engine),
    };
    config.check()?;
    Ok(config)
}

/// What a plugin is told of the container, when its driver is one. A plugin that has gone meanwhile is waited for.
fn told(record: &Record, engine: &crate::Config) -> Option<logging::drivers::plugin::Told> {
    let driver = record.host.log_config.r#type.as_str();
    if driver.is_empty() || logging::DRIVERS.iter().any(|d| d.name() == driver) {
        return None;
    }
    let mut argv = record.argv().into_iter();
    Some(logging::drivers::plugin::Told {
        folders: engine.plugin_folders.clone(),
        seconds: engine.plugin_timeout.as_secs(),
        entrypoint: argv.next().unwrap_or_default(),
        arguments: argv.collect(),
        environment: record.config.env.clone().unwrap_or_default(),
        labels: record.config.labels.clone().unwrap_or_default().into_iter().collect(),
    })
}

/// Attributes of each record: labels and variables that the options name, by name or by pattern.
fn attributes(
    record: &Record,
    options: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut attributes = BTreeMap::new();
    let mut take = |option: &str, among: &[(&str, &str)]| -> Result<()> {
        if let Some(names) = options.get(option) {
            let names: Vec<&str> = names.split(',').collect();
            let named = among.iter().filter(|(key, _)| names.contains(key));
            attributes.extend(named.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        }
        let by_pattern = options.get(&format!("{option}-regex")).filter(|text| !text.is_empty());
        if let Some(pattern) = by_pattern.map(|text| pattern(text)).transpose()? {
            let found = among.iter().filter(|(key, _)| pattern.is_match(key));
            attributes.extend(found.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        }
        Ok(())
    };
    let labels: Vec<(&str, &str)> =
        record.config.labels.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    take("labels", &labels)?;
    let variables: Vec<(&str, &str)> =
        record.config.env.iter().flatten().filter_map(|e| e.split_once('=')).collect();
    take("env", &variables)?;
    Ok(attributes)
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text)
        .map_err(|e| Error::invalid(format!("invalid regular expression {text:?}")).caused_by(e))
}

/// Parses a tag; functions are those of docker's templates.
fn template(text: &str) -> Result<Template> {
    let words = |args: &[Value]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
    let change = |how: fn(&str) -> String| {
        move |args: &[Value]| {
            let text = args.first().map(ToString::to_string).unwrap_or_default();
            Ok::<_, gotmpl::TemplateError>(Value::from(how(&text)))
        }
    };
    Template::new("log-tag")
        .missing_key(MissingKey::Error)
        .func("lower", change(str::to_lowercase))
        .func("upper", change(str::to_uppercase))
        .func("json", change(|text| serde_json::Value::from(text).to_string()))
        .func("split", move |args| {
            let parts = match words(args).as_slice() {
                [text, by] => text.split(by.as_str()).map(Value::from).collect(),
                _ => Vec::new(),
            };
            Ok(Value::List(parts.into()))
        })
        .func("join", |args| {
            let by = args.get(1).and_then(Value::as_str).unwrap_or_default();
            let Some(Value::List(parts)) = args.first() else { return Ok(Value::from("")) };
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            Ok(Value::from(parts.join(by)))
        })
        .func("truncate", |args| {
            let most = args.get(1).and_then(Value::as_int).and_then(|n| usize::try_from(n).ok());
            let text = args.first().map(ToString::to_string).unwrap_or_default();
            Ok(Value::from(text.chars().take(most.unwrap_or(usize::MAX)).collect::<String>()))
        })
        // In Go a method with one argument, which templates give as `nil`.
        .parse(&text.replace(".ExtraAttributes nil", ".ExtraAttributes"))
        .map_err(|e| Error::invalid(format!("invalid tag {text:?}")).caused_by(e))
}

fn render(
    text: &str,
    record: &Record,
    origin: &logging::Origin,
    attributes: &BTreeMap<String, String>,
) -> Result<String> {
    let short = |text: &str| text.chars().take(12).collect::<String>();
    let map = |pairs: Vec<(String, String)>| {
        Value::from(pairs.into_iter().map(|(k, v)| (k, Value::from(v))).collect::<BTreeMap<_, _>>())
    };
    let labels = record.config.labels.iter().flatten();
    let variables = record.config.env.iter().flatten();
    let extra = map(attributes.clone().into_iter().collect());
    let argv = record.argv();
    let values: BTreeMap<Arc<str>, Value> = [
        ("ID", Value::from(short(&origin.id))),
        ("FullID", Value::from(origin.id.as_str())),
        ("Name", Value::from(origin.name.as_str())),
        ("ImageID", Value::from(short(&origin.image_id))),
        ("ImageFullID", Value::from(origin.image_id.as_str())),
        ("ImageName", Value::from(origin.image_name.as_str())),
        ("Command", Value::from(origin.command.as_str())),
        ("Hostname", Value::from(origin.host.as_str())),
        ("DaemonName", Value::from("docker")),
        ("ContainerID", Value::from(origin.id.as_str())),
        ("ContainerName", Value::from(format!("/{}", origin.name))),
        ("ContainerImageID", Value::from(origin.image_id.as_str())),
        ("ContainerImageName", Value::from(origin.image_name.as_str())),
        ("ContainerCreated", Value::from(origin.created.as_str())),
        ("ContainerEntrypoint", Value::from(argv.first().map_or("", String::as_str))),
        ("ContainerLabels", map(labels.map(|(k, v)| (k.clone(), v.clone())).collect())),
        (
            "ContainerEnv",
            Value::from(variables.map(|v| Value::from(v.as_str())).collect::<Vec<_>>()),
        ),
        ("ExtraAttributes", extra),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value))
    .collect();
    template(text)?
        .execute_to_string(&Value::from(values))
        .map_err(|e| Error::invalid(format!("invalid tag {text:?}")).caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_daemons_options_go_with_the_daemons_driver() {
        let config = crate::Config {
            log_options: options(&[("max-size", "1m"), ("cache-max-file", "2")]),
            ..crate::Config::bare("/nowhere".as_ref(), "/nowhere".into())
        };
        let merged = |driver: &str, given: &[(&str, &str)]| {
            let mut asked = LogConfig { r#type: driver.into(), config: Some(options(given)) };
            settle(&mut asked, &config).unwrap();
            (asked.r#type, asked.config.unwrap())
        };
        let (driver, got) = merged("", &[("max-size", "2m")]);
        assert_eq!(driver, "json-file");
        assert_eq!(got, options(&[("max-size", "2m"), ("cache-max-file", "2")]));
        assert_eq!(merged("local", &[]).1, options(&[("cache-max-file", "2")]));
    }

    #[test]
    fn patterns_and_templates_are_checked_before_anything_is_made() {
        let text =
            |given: &[(&str, &str)]| check("json-file", &options(given), &[]).unwrap_err().chain();
        assert!(text(&[("labels-regex", "(")]).starts_with("invalid regular expression \"(\""));
        assert!(text(&[("tag", "{{.ID")]).starts_with("invalid tag \"{{.ID\""));
        check("json-file", &options(&[("tag", "{{.Name}}/{{.ID}}"), ("env-regex", "^a")]), &[])
            .unwrap();
    }
}
