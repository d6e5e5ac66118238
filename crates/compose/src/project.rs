//! A loaded project: services, what they share, and which of them are meant.

use crate::{
    check, decode, dotenv,
    error::{Error, Result, suggest},
    files::Options,
    load::{Context, Findings},
    node::{Node, Path},
    normal, render,
    shape::Record,
    tables,
    template::Variable,
    value::{Fields, Value},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path as FilePath, PathBuf},
};

/// Things by name.
pub(crate) type Objects = BTreeMap<String, Fields>;

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// The files it was loaded from.
    pub files: Vec<String>,
    /// Variables that files were completed with.
    pub environment: BTreeMap<String, String>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Between the parts of names: `-`, formerly `_`.
    pub separator: String,
    pub(crate) env_files: Vec<String>,
    pub(crate) profiles: Vec<String>,
    pub(crate) services: Objects,
    pub(crate) disabled: Objects,
    pub(crate) networks: Objects,
    pub(crate) volumes: Objects,
    pub(crate) secrets: Objects,
    pub(crate) configs: Objects,
    pub(crate) models: Objects,
    pub(crate) extra: BTreeMap<String, Value>,
    /// Contents of secrets made of variables.
    pub(crate) contents: BTreeMap<String, String>,
    pub(crate) root: Node,
}

/// Which dependencies come along with chosen services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependencies {
    /// All that are needed.
    Follow,
    /// None.
    Ignore,
}

/// Files merged, as a tree; for what is printed before it is a project.
#[derive(Debug)]
pub struct Model {
    root: Node,
    /// Variables in the files, when they were kept.
    pub variables: BTreeMap<String, Variable>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Model {
    /// Loads and merges the files.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn load(options: &Options) -> Result<Self> {
        let findings = Findings::default();
        let place = options.find(&findings)?;
        let root = tree(options, &place, &findings)?;
        Ok(Self { root, variables: findings.variables.take(), warnings: findings.warnings.take() })
    }

    /// As YAML.
    pub fn yaml(&self) -> String {
        render::yaml(&decode::any(&self.root))
    }

    /// As JSON.
    pub fn json(&self) -> String {
        render::indented(&render::json(&decode::any(&self.root)))
    }

    /// Names of services.
    pub fn services(&self) -> Vec<String> {
        let map = self.root.get("services").and_then(Node::as_map);
        map.into_iter().flatten().map(|(k, _)| k.clone()).collect()
    }
}

fn tree(options: &Options, place: &crate::files::Place, findings: &Findings) -> Result<Node> {
    // Variables that are kept are not looked up anywhere else either.
    let environment =
        if options.keep_variables { BTreeMap::new() } else { place.environment.clone() };
    let context = Context {
        folder: place.folder.clone(),
        environment: environment.clone(),
        interpolate: !options.keep_variables,
        resolve_paths: !options.keep_paths,
        findings,
        included: Vec::new(),
    };
    let mut root = context.model(&place.files)?;
    if !options.keep_short {
        if let Some(entries) = root.as_map_mut() {
            let at = entries.values().next().map(|n| n.at.clone());
            if let Some(at) = at {
                entries.insert("name".into(), Node::text(&at, place.name.clone()));
            }
        }
        normal::normalise(&mut root, &place.name, &environment);
    }
    Ok(root)
}

impl Project {
    /// Loads a project.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn load(options: &Options) -> Result<Self> {
        let findings = Findings::default();
        let place = options.find(&findings)?;
        let root = tree(options, &place, &findings)?;
        let objects = |section: &str, of: &'static Record| -> Result<Objects> {
            let map = root.get(section).and_then(Node::as_map);
            let made = map.into_iter().flatten().map(|(name, node)| {
                let mut path = Path::of(&[section, name]);
                Ok((name.clone(), decode::record(node, of, &mut path)?))
            });
            made.collect()
        };
        let mut project = Self {
            services: objects("services", &tables::SERVICE)?,
            networks: objects("networks", &tables::NETWORK)?,
            volumes: objects("volumes", &tables::VOLUME)?,
            secrets: objects("secrets", &tables::SECRET)?,
            configs: objects("configs", &tables::CONFIG)?,
            models: objects("models", &tables::MODEL)?,
            disabled: Objects::new(),
            extra: root
                .as_map()
                .into_iter()
                .flatten()
                .filter(|(k, _)| k.starts_with("x-"))
                .map(|(k, v)| (k.clone(), decode::any(v)))
                .collect(),
            name: place.name,
            directory: place.folder,
            files: place.files.into_iter().map(|f| f.path).collect(),
            separator: options.separator(&place.environment),
            env_files: options.env_files.clone(),
            environment: place.environment,
            profiles: place.profiles,
            contents: findings.secrets.take(),
            warnings: Vec::new(),
            root,
        };
        project.apply_profiles();
        if !options.keep_faults {
            check::project(&mut project)?;
        }
        project.warnings = findings.warnings.take();
        Ok(project)
    }

    fn apply_profiles(&mut self) {
        let mut all = std::mem::take(&mut self.services);
        all.append(&mut self.disabled);
        for (name, service) in all {
            let listed: Vec<&str> = service.texts("profiles").collect();
            let on = listed.is_empty()
                || self.profiles.iter().any(|p| p == "*" || listed.contains(&p.as_str()));
            if on { &mut self.services } else { &mut self.disabled }.insert(name, service);
        }
    }

    /// Turns on what is needed to have these services.
    pub fn enable(&mut self, names: &[String]) {
        for name in names {
            if let Some(service) = self.disabled.get(name) {
                self.profiles.extend(service.texts("profiles").map(str::to_owned));
            }
        }
        if !names.is_empty() {
            self.apply_profiles();
        }
    }

    /// Keeps these services and what they depend on; all when there are no names.
    ///
    /// # Errors
    /// A name that is no service.
    pub fn select(&mut self, names: &[String], dependencies: Dependencies) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut kept = BTreeSet::new();
        let mut waiting: Vec<(String, bool)> = names.iter().map(|n| (n.clone(), true)).collect();
        while let Some((name, required)) = waiting.pop() {
            let Some(service) = self.services.get(&name) else {
                if required {
                    return Err(self.no_such_service(&name));
                }
                continue;
            };
            if kept.insert(name) && dependencies == Dependencies::Follow {
                for (other, dependency) in service.map("depends_on") {
                    let required = dependency.as_fields().is_some_and(|d| d.flag("required"));
                    waiting.push((other.clone(), required));
                }
            }
        }
        let all = std::mem::take(&mut self.services);
        for (name, mut service) in all {
            if kept.contains(&name) {
                drop_dependencies(&mut service, |other| kept.contains(other));
                self.services.insert(name, service);
            } else {
                self.disabled.insert(name, service);
            }
        }
        Ok(())
    }

    /// Takes a service out, and every dependency on it.
    pub fn disable(&mut self, name: &str) {
        if let Some(service) = self.services.remove(name) {
            self.disabled.insert(name.to_owned(), service);
        }
        for service in self.services.values_mut() {
            drop_dependencies(service, |other| other != name);
        }
    }

    pub(crate) fn no_such_service(&self, name: &str) -> Error {
        let text = format!("no such service: {name}");
        if self.disabled.contains_key(name) {
            return Error::new(text).hint("it is in a profile that is not active");
        }
        Error::new(text).hint(suggest(name, self.services.keys().map(String::as_str)))
    }

    /// The service of this name.
    ///
    /// # Errors
    /// There is none, or it is in a profile that is not active.
    pub(crate) fn service(&self, name: &str) -> Result<&Fields> {
        self.services.get(name).ok_or_else(|| self.no_such_service(name))
    }

    /// Checks that these are services.
    ///
    /// # Errors
    /// The first that is none.
    pub fn known(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|n| self.service(n).map(drop))
    }

    /// Takes out networks, volumes, secrets and configs that no service uses.
    pub fn drop_unused(&mut self) {
        let (mut networks, mut volumes) = (BTreeSet::new(), BTreeSet::new());
        let (mut secrets, mut configs, mut models) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for service in self.services.values() {
            networks.extend(service.map("networks").map(|(k, _)| k.clone()));
            models.extend(service.map("models").map(|(k, _)| k.clone()));
            let sources = |of: &Fields, key: &str| -> Vec<String> {
                let list = of.list(key).filter_map(Value::as_fields);
                list.map(|f| f.text("source").to_owned()).collect()
            };
            for mount in service.list("volumes").filter_map(Value::as_fields) {
                if mount.text("type") == "volume" {
                    volumes.insert(mount.text("source").to_owned());
                }
            }
            secrets.extend(sources(service, "secrets"));
            configs.extend(sources(service, "configs"));
            if let Some(build) = service.fields("build") {
                secrets.extend(sources(build, "secrets"));
            }
        }
        self.networks.retain(|k, _| networks.contains(k));
        self.volumes.retain(|k, _| volumes.contains(k));
        self.secrets.retain(|k, _| secrets.contains(k));
        self.configs.retain(|k, _| configs.contains(k));
        self.models.retain(|k, _| models.contains(k));
    }

    /// Gives services the variables of their `env_file`s.
    ///
    /// # Errors
    /// A file that is missing or wrong.
    pub fn resolve_env_files(&mut self) -> Result<()> {
        let mut warnings = std::mem::take(&mut self.warnings);
        for service in self.services.values_mut() {
            resolve_env_files(service, &self.environment, &mut warnings)?;
        }
        self.warnings = warnings;
        Ok(())
    }

    /// Gives services the labels of their `label_file`s; the list stays when `keep` says so.
    ///
    /// # Errors
    /// A file that is missing or wrong.
    pub fn resolve_label_files(&mut self, keep: KeepFiles) -> Result<()> {
        for service in self.services.values_mut() {
            let mut labels = BTreeMap::new();
            for file in service.texts("label_file") {
                let path = FilePath::new(file);
                if !path.exists() {
                    return Err(Error::at(&service.at, format!("label file {file} not found")));
                }
                let text = dotenv::read(path, "label file")?;
                dotenv::parse(path, &text, &|_| None, &mut labels, &mut |_| {})?;
            }
            if !labels.is_empty() {
                for (key, value) in service.map("labels") {
                    if let Some(value) = value.as_str() {
                        labels.insert(key.clone(), value.to_owned());
                    }
                }
                let made = labels.into_iter().map(|(k, v)| (k, Value::Text(v))).collect();
                service.set.insert("labels", Value::Map(made));
            }
            if keep == KeepFiles::No {
                service.set.remove("label_file");
            }
        }
        Ok(())
    }

    /// Names of services, sorted.
    pub fn service_names(&self) -> Vec<String> {
        self.services.keys().cloned().collect()
    }

    /// Names of all profiles.
    pub fn profile_names(&self) -> BTreeSet<String> {
        let all = self.services.values().chain(self.disabled.values());
        all.flat_map(|s| s.texts("profiles").map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    /// Keys of volumes.
    pub fn volume_names(&self) -> Vec<String> {
        self.volumes.keys().cloned().collect()
    }

    /// Keys of networks.
    pub fn network_names(&self) -> Vec<String> {
        self.networks.keys().cloned().collect()
    }

    /// Names of models.
    pub fn model_names(&self) -> Vec<String> {
        self.models.values().map(|m| m.text("model").to_owned()).collect()
    }

    /// Images of services.
    pub fn image_names(&self) -> Vec<String> {
        self.services
            .iter()
            .map(|(name, s)| image_of(&self.name, &self.separator, name, s))
            .collect()
    }

    fn whole(&self) -> Vec<(&'static str, Value)> {
        let objects = |all: &Objects| {
            Value::Map(all.iter().map(|(k, v)| (k.clone(), Value::Fields(v.clone()))).collect())
        };
        let mut out = vec![
            ("name", Value::Text(self.name.clone())),
            ("services", objects(&self.services)),
            ("networks", objects(&self.networks)),
            ("volumes", objects(&self.volumes)),
            ("secrets", objects(&self.secrets)),
            ("configs", objects(&self.configs)),
            ("models", objects(&self.models)),
        ];
        // The value of a variable is not printed, its name is.
        if let Some((_, Value::Map(configs))) = out.iter_mut().find(|(k, _)| *k == "configs") {
            for config in configs.values_mut() {
                if let Value::Fields(fields) = config
                    && !fields.text("environment").is_empty()
                {
                    fields.set.remove("content");
                }
            }
        }
        out.retain(|(k, v)| *k == "services" || !v.is_zero());
        out
    }

    /// As YAML, as `docker compose config` prints it.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        for (key, value) in self.whole() {
            let one = Value::Map([(key.to_owned(), value)].into());
            out.push_str(&render::yaml(&one));
        }
        if !self.extra.is_empty() {
            out.push_str(&render::yaml(&Value::Map(self.extra.clone())));
        }
        out
    }

    /// As JSON, as `docker compose config --format json` prints it.
    pub fn json(&self) -> String {
        let mut all: BTreeMap<String, Value> = self.extra.clone();
        all.extend(
            self.whole()
                .into_iter()
                .filter(|(k, _)| *k != "models")
                .map(|(k, v)| (k.to_owned(), v)),
        );
        render::indented(&render::json(&Value::Map(all)))
    }
}

/// Whether the names of files stay beside what was read from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepFiles {
    /// They stay.
    Yes,
    /// They go.
    No,
}

fn drop_dependencies(service: &mut Fields, keep: impl Fn(&str) -> bool) {
    if let Some(Value::Map(map)) = service.set.get_mut("depends_on") {
        map.retain(|name, _| keep(name));
        if map.is_empty() {
            service.set.remove("depends_on");
        }
    }
}

/// The image of a service: its own, or one named after it.
pub(crate) fn image_of(project: &str, separator: &str, name: &str, service: &Fields) -> String {
    match service.text("image") {
        "" => [project, separator, name].concat(),
        image => image.to_owned(),
    }
}

fn resolve_env_files(
    service: &mut Fields,
    outside: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut own: BTreeMap<String, Value> =
        service.map("environment").map(|(k, v)| (k.clone(), v.clone())).collect();
    for (name, value) in &mut own {
        if matches!(value, Value::Null)
            && let Some(found) = outside.get(name)
        {
            *value = Value::Text(found.clone());
        }
    }
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let mut all: BTreeMap<String, String> =
        own.iter().filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect();
    for file in service.list("env_file").filter_map(Value::as_fields) {
        let path = FilePath::new(file.text("path"));
        if !path.exists() {
            if file.flag("required") {
                let why = format!(
                    "env file {} not found: stat {}: no such file or directory",
                    path.display(),
                    path.display()
                );
                return Err(
                    Error::at(&file.at, why).hint("set required: false if it may be missing")
                );
            }
            continue;
        }
        let content = dotenv::read(path, "env file").map_err(|e| e.placed(&file.at))?;
        let lookup =
            |name: &str| outside.get(name).cloned().or_else(|| own.get(name).and_then(text));
        match file.text("format") {
            "" => {
                let mut unset = |name: &str| {
                    let text =
                        format!("The {name:?} variable is not set. Defaulting to a blank string.");
                    if !warnings.contains(&text) {
                        warnings.push(text);
                    }
                };
                dotenv::parse(path, &content, &lookup, &mut all, &mut unset)?;
            }
            "raw" => dotenv::parse_raw(&content, &lookup, &mut all),
            other => {
                return Err(Error::at(&file.at, format!("unsupported env_file format {other:?}"))
                    .hint("leave it out, or write raw"));
            }
        }
    }
    let mut merged: BTreeMap<String, Value> =
        all.into_iter().map(|(k, v)| (k, Value::Text(v))).collect();
    merged.extend(own);
    if !merged.is_empty() {
        service.set.insert("environment", Value::Map(merged));
    }
    service.set.remove("env_file");
    Ok(())
}
