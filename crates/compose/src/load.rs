//! From files to one tree: read, complete variables, extend, include, merge, validate.
//!
//! Flow, for each file: `yaml` -> `template` -> [`extends`](super::extends) -> what `!reset` takes away from the files
//! before -> [`include`] -> `merge` -> `unique` -> `validate` -> `canonical`. When all files are merged: defaults,
//! absolute paths, variables from outside.
//! Invariants: an include chain and an extends chain have an end ([`MOST_FILES`], [`crate::extends::MOST_DEPTH`]).

use crate::{
    canonical, dotenv,
    error::{Error, Result},
    extends, merge,
    node::{Data, Map, Node, Path},
    template, unique, validate, yaml,
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path as FilePath, PathBuf},
};

/// The most files that one project may be made of.
const MOST_FILES: usize = 1_000;

/// A file, read or to be read.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub path: String,
    pub text: Option<String>,
}

impl File {
    pub(crate) fn named(path: impl Into<String>) -> Self {
        Self { path: path.into(), text: None }
    }

    pub(crate) fn read(&self) -> Result<String> {
        match &self.text {
            Some(text) => Ok(text.clone()),
            None => dotenv::read(FilePath::new(&self.path), "the file"),
        }
    }
}

/// What a load has found besides the tree.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Told to the user, each once.
    pub warnings: RefCell<Vec<String>>,
    /// Contents of secrets that come from variables.
    pub secrets: RefCell<BTreeMap<String, String>>,
    pub variables: RefCell<BTreeMap<String, template::Variable>>,
    files: RefCell<usize>,
}

impl Findings {
    pub(crate) fn warn(&self, text: String) {
        let mut all = self.warnings.borrow_mut();
        if !all.contains(&text) {
            all.push(text);
        }
    }

    fn count(&self) -> Result<()> {
        let mut files = self.files.borrow_mut();
        *files += 1;
        if *files > MOST_FILES {
            return Err(Error::new(format!("a project may be made of {MOST_FILES} files at most")));
        }
        Ok(())
    }
}

/// How files are loaded, and where from.
#[derive(Clone, Debug)]
pub(crate) struct Context<'a> {
    pub folder: PathBuf,
    pub environment: BTreeMap<String, String>,
    pub interpolate: bool,
    pub resolve_paths: bool,
    pub findings: &'a Findings,
    /// The files that led here.
    pub included: Vec<String>,
}

impl Context<'_> {
    /// Loads files on top of each other.
    pub(crate) fn model(&self, files: &[File]) -> Result<Node> {
        let mut merged = None;
        for file in files {
            merged = self.file(file, merged)?;
        }
        let Some(mut root) = merged else { return Err(Error::new("empty compose file")) };
        canonical::defaults(&mut root, &mut Path::default());
        crate::check::objects(&root)?;
        if self.resolve_paths {
            canonical::paths(&mut root, &mut Path::default(), &self.folder);
        }
        let mut secrets = self.findings.secrets.borrow_mut();
        canonical::variables(&mut root, &self.environment, &mut secrets);
        Ok(root)
    }

    fn file(&self, file: &File, mut merged: Option<Node>) -> Result<Option<Node>> {
        self.findings.count()?;
        let text = file.read()?;
        for document in yaml::documents(&file.path.as_str().into(), &text)? {
            let mut root = self.complete(document.root)?;
            extends::apply(self, &mut root, &file.path, &document.reset)?;
            if let Some(base) = &mut merged {
                reset(base, &document.reset, &mut Path::default());
            }
            let mut context = self.clone();
            context.included.push(file.path.clone());
            include(&context, &mut root)?;
            let base = match merged.take() {
                Some(base) => base,
                None => Node { at: root.at.clone(), data: Data::Map(Map::new()) },
            };
            let mut all = merge::merge(base, root)?;
            unique::enforce(&mut all, &mut Path::default())?;
            validate::project(&all)?;
            if let Some(entries) = all.as_map_mut()
                && entries.remove("version").is_some()
            {
                self.findings.warn(format!(
                    "{}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion",
                    file.path
                ));
            }
            let mut all = canonical::canonical(all, &mut Path::default(), self.unreadable())?;
            // Ranges of ports are several only now.
            unique::enforce(&mut all, &mut Path::default())?;
            merged = Some(all);
        }
        Ok(merged)
    }

    /// The services of a file that another extends: completed and canonical, not validated, its paths absolute.
    pub(crate) fn services_of(&self, path: &str) -> Result<(Node, Vec<Path>)> {
        self.findings.count()?;
        let text = File::named(path).read()?;
        let mut merged: Option<Node> = None;
        let mut resets = Vec::new();
        for document in yaml::documents(&path.into(), &text)? {
            let root = self.complete(document.root)?;
            if let Some(base) = &mut merged {
                reset(base, &document.reset, &mut Path::default());
            }
            let mut all = match merged.take() {
                Some(base) => merge::merge(base, root)?,
                None => root,
            };
            unique::enforce(&mut all, &mut Path::default())?;
            let mut all = canonical::canonical(all, &mut Path::default(), self.unreadable())?;
            unique::enforce(&mut all, &mut Path::default())?;
            merged = Some(all);
            resets = document.reset;
        }
        let Some(mut root) = merged else { return Err(Error::new(format!("{path} is empty"))) };
        let folder = FilePath::new(path).parent().unwrap_or(FilePath::new("/"));
        canonical::paths(&mut root, &mut Path::default(), folder);
        Ok((root, resets))
    }

    fn unreadable(&self) -> canonical::Unreadable {
        if self.interpolate { canonical::Unreadable::Told } else { canonical::Unreadable::Kept }
    }

    /// Completes the variables of all strings.
    fn complete(&self, mut root: Node) -> Result<Node> {
        if root.as_map().is_none() {
            return Err(Error::at(&root.at, "top-level object must be a mapping"));
        }
        if self.interpolate {
            self.interpolate(&mut root, &mut Path::default())?;
        } else {
            note_variables(&root, &mut self.findings.variables.borrow_mut());
        }
        Ok(root)
    }

    fn interpolate(&self, node: &mut Node, path: &mut Path) -> Result<()> {
        let at = node.at.clone();
        match &mut node.data {
            Data::Text(text) if text.contains('$') => {
                *text = self.substitute(text).map_err(|fault| {
                    let path = path.text();
                    match fault {
                        template::Fault::Invalid(text) => Error::at(
                            &at,
                            format!("invalid interpolation format for {path}.\nYou may need to escape any $ with another $.\n{text}"),
                        ),
                        template::Fault::Missing { ref name, .. } => {
                            let hint = format!("set {name} in the environment or in .env");
                            let text = format!("error while interpolating {path}: {fault}");
                            Error::at(&at, text).hint(hint)
                        }
                    }
                })?;
            }
            Data::Map(map) => {
                for (key, value) in map {
                    path.push(key);
                    self.interpolate(value, path)?;
                    path.pop();
                }
            }
            Data::List(items) => {
                path.push("[]");
                for item in items {
                    self.interpolate(item, path)?;
                }
                path.pop();
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn substitute(&self, text: &str) -> Result<String, template::Fault> {
        let lookup = |name: &str| self.environment.get(name).cloned();
        template::substitute(text, &lookup, &mut |name| self.unset(name))
    }

    fn unset(&self, name: &str) {
        self.findings
            .warn(format!("The {name:?} variable is not set. Defaulting to a blank string."));
    }

    /// Reads files of variables, later ones over earlier ones.
    pub(crate) fn variables_of(&self, files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
        let mut known = BTreeMap::new();
        for file in files {
            if !file.exists() {
                return Err(Error::new(format!("couldn't find env file: {}", file.display())));
            }
            if file.is_dir() {
                return Err(Error::new(format!("{} is a directory", file.display())));
            }
            let text = dotenv::read(file, "env file")?;
            let outside = |name: &str| self.environment.get(name).cloned();
            dotenv::parse(file, &text, &outside, &mut known, &mut |name| self.unset(name))?;
        }
        Ok(known)
    }
}

fn note_variables(node: &Node, found: &mut BTreeMap<String, template::Variable>) {
    match &node.data {
        Data::Text(text) => template::variables(text, found),
        Data::Map(map) => map.values().for_each(|v| note_variables(v, found)),
        Data::List(items) => items.iter().for_each(|v| note_variables(v, found)),
        _ => {}
    }
}

/// Takes away what stands at one of `paths`.
pub(crate) fn reset(node: &mut Node, paths: &[Path], here: &mut Path) {
    if paths.is_empty() {
        return;
    }
    if let Some(map) = node.as_map_mut() {
        map.retain(|key, value| {
            here.push(key);
            let gone = paths.contains(here);
            if !gone {
                reset(value, paths, here);
            }
            here.pop();
            !gone
        });
    }
}

/// Loads what a file includes and puts it beside what the file has itself.
fn include(context: &Context<'_>, root: &mut Node) -> Result<()> {
    let Some(entries) = root.as_map_mut() else { return Ok(()) };
    let Some(node) = entries.remove("include") else { return Ok(()) };
    if node.is_null() {
        return Ok(());
    }
    let Some(items) = node.as_list() else {
        return Err(Error::at(&node.at, "`include` must be a list"));
    };
    for item in items {
        let imported = one_include(context, item)?;
        import(imported, root)?;
    }
    Ok(())
}

fn one_include(context: &Context<'_>, item: &Node) -> Result<Node> {
    let strings = |key: &str| -> Vec<String> {
        match item.get(key).map(|n| &n.data) {
            Some(Data::Text(text)) => vec![text.clone()],
            Some(Data::List(items)) => items.iter().filter_map(Node::scalar).collect(),
            _ => Vec::new(),
        }
    };
    let known = ["path", "env_file", "project_directory"];
    for (key, value) in item.as_map().into_iter().flatten() {
        if !known.contains(&key.as_str()) {
            let text = format!("include additional properties '{key}' not allowed");
            return Err(Error::at(&value.at, text).hint(crate::error::suggest(key, known)));
        }
    }
    let paths = item.as_str().map_or_else(|| strings("path"), |path| vec![path.to_owned()]);
    let mut paths: Vec<String> =
        paths.iter().map(|p| canonical::absolute(p, &context.folder)).collect();
    let Some(first) = paths.first().cloned() else {
        return Err(Error::at(&item.at, "include needs a path"));
    };
    if is_url(&item.as_str().map_or_else(|| strings("path").join(" "), str::to_owned)) {
        return Err(Error::at(&item.at, "files from elsewhere (git, oci) cannot be included")
            .hint("fetch it first, and include the file"));
    }
    if FilePath::new(&first).is_dir() {
        let names = super::files::NAMES;
        let found =
            names.iter().map(|n| format!("{first}/{n}")).find(|p| FilePath::new(p).exists());
        match found {
            Some(found) => paths[0] = found,
            None => {
                return Err(Error::at(&item.at, format!("{first} is a directory"))
                    .hint("name the file in it"));
            }
        }
    }
    let first = paths[0].clone();
    if context.included.contains(&first) {
        let mut chain = context.included.clone();
        chain.push(first);
        let text = format!("include cycle detected:\n{}", chain.join("\n include "));
        return Err(Error::at(&item.at, text).hint("take one of these includes away"));
    }
    let folder = match item.get_str("project_directory") {
        Some(folder) => PathBuf::from(canonical::absolute(folder, &context.folder)),
        None => FilePath::new(&first).parent().unwrap_or(FilePath::new("/")).to_owned(),
    };
    let given = strings("env_file");
    let env_files: Vec<PathBuf> = if given.is_empty() {
        Some(folder.join(".env")).filter(|f| f.is_file()).into_iter().collect()
    } else {
        let null = |f: &String| f != "/dev/null";
        let absolute = |f: String| canonical::absolute(&f, &context.folder).into();
        given.into_iter().filter(null).map(absolute).collect()
    };
    let placed = |e: Error| e.placed(&item.at);
    let mut environment = context.environment.clone();
    for (name, value) in context.variables_of(&env_files).map_err(placed)? {
        environment.entry(name).or_insert(value);
    }
    let inner = Context { folder, environment, resolve_paths: true, ..context.clone() };
    let files: Vec<File> = paths.into_iter().map(File::named).collect();
    inner.model(&files).map_err(placed)
}

/// A reference that docker compose would fetch from elsewhere.
pub(crate) fn is_url(path: &str) -> bool {
    path.starts_with("oci://")
        || path.starts_with("git@")
        || path.contains("://")
        || path.starts_with("github.com/")
}

fn import(source: Node, target: &mut Node) -> Result<()> {
    const SECTIONS: &[&str] = &["services", "volumes", "networks", "secrets", "configs", "models"];
    let Data::Map(mut source) = source.data else { return Ok(()) };
    let Some(target) = target.as_map_mut() else { return Ok(()) };
    for section in SECTIONS {
        let Some(Node { at, data: Data::Map(from) }) = source.remove(*section) else { continue };
        let to = target.entry((*section).to_owned()).or_insert_with(|| Node::map(&at, []));
        let Some(to) = to.as_map_mut() else { continue };
        for (name, value) in from {
            match to.get(&name) {
                None => {
                    to.insert(name, value);
                }
                Some(own) if *own == value => {}
                Some(own) => {
                    let text = format!("{section}.{name} conflicts with imported resource");
                    let hint = format!(
                        "it is also in {}; rename one of them, or put the difference into an override file of the include",
                        value.at
                    );
                    return Err(Error::at(&own.at, text).hint(hint));
                }
            }
        }
    }
    Ok(())
}

/// Names that are in use, for hints.
pub(crate) fn keys(map: Option<&Map>) -> BTreeSet<&str> {
    map.into_iter().flatten().map(|(k, _)| k.as_str()).collect()
}
