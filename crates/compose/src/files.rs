//! Which files make a project, its name, its folder, its variables: options, `COMPOSE_*`, `.env`, defaults.
//!
//! Order, as docker compose has it: `--project-directory`; the process's environment; `--env-file` or `.env` of the
//! folder; `-f` or `COMPOSE_FILE` or the first default name here or in a folder above; `.env` beside that file; profiles;
//! the name from `-p`, `COMPOSE_PROJECT_NAME`, `name:`, or the folder.

use crate::{
    canonical,
    error::{Error, Result},
    load::{Context, File, Findings},
    node::Node,
    yaml,
};
use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
};

/// Names that are looked for, best first.
pub(crate) const NAMES: &[&str] =
    &["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

const OVERRIDES: &[&str] = &[
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What a load is asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-f`, in order; `-` is standard input.
    pub files: Vec<String>,
    /// `-p`.
    pub name: Option<String>,
    /// `--project-directory`.
    pub directory: Option<String>,
    /// `--env-file`.
    pub env_files: Vec<String>,
    /// `--profile`.
    pub profiles: Vec<String>,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// The folder we are in.
    pub here: PathBuf,
    /// Names with `_` between their parts, as docker-compose 1 made them.
    pub compatibility: bool,
    /// Leave variables as they are.
    pub keep_variables: bool,
    /// Leave paths as they are.
    pub keep_paths: bool,
    /// Leave out what follows from the rest.
    pub keep_short: bool,
    /// Do not check that things fit together.
    pub keep_faults: bool,
}

/// Where a project is and what it is made of.
#[derive(Debug)]
pub(crate) struct Place {
    pub name: String,
    pub folder: PathBuf,
    pub files: Vec<File>,
    pub environment: BTreeMap<String, String>,
    pub profiles: Vec<String>,
}

impl Options {
    pub(crate) fn separator(&self, environment: &BTreeMap<String, String>) -> String {
        let set = environment.get("COMPOSE_COMPATIBILITY").map(String::as_str);
        let old =
            self.compatibility || matches!(set, Some("1" | "t" | "T" | "true" | "True" | "TRUE"));
        if old { "_" } else { "-" }.into()
    }

    fn absolute(&self, path: &str) -> PathBuf {
        canonical::absolute(path, &self.here).into()
    }

    fn folder(&self, files: &[String]) -> PathBuf {
        if let Some(folder) = &self.directory {
            return self.absolute(folder);
        }
        match files.iter().find(|f| *f != "-") {
            Some(file) => {
                let file = self.absolute(file);
                file.parent().unwrap_or(Path::new("/")).to_owned()
            }
            None => self.here.clone(),
        }
    }

    /// Finds everything; reads the files.
    pub(crate) fn find(&self, findings: &Findings) -> Result<Place> {
        let mut environment = self.environment.clone();
        environment.entry("PWD".into()).or_insert_with(|| self.here.to_string_lossy().into_owned());
        let mut files = self.files.clone();
        self.add_variables(&mut environment, &self.folder(&files), findings)?;
        if files.is_empty()
            && let Some(list) = environment.get("COMPOSE_FILE")
        {
            let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|s| !s.is_empty());
            let separator = separator.map_or(":", String::as_str);
            for file in list.split(separator) {
                let path = self.absolute(file).to_string_lossy().into_owned();
                if file != "-" && !Path::new(&path).exists() {
                    let text = format!("stat {path}: no such file or directory");
                    return Err(Error::new(text).hint("it is named by COMPOSE_FILE"));
                }
                files.push(if file == "-" { file.to_owned() } else { path });
            }
        }
        if files.is_empty() {
            files = self.default_files(findings);
        }
        let folder = self.folder(&files);
        self.add_variables(&mut environment, &folder, findings)?;
        let mut profiles = self.profiles.clone();
        if profiles.is_empty() {
            let listed =
                environment.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
            profiles = listed.split(',').map(|p| p.trim().to_owned()).collect();
        }
        if files.is_empty() {
            return Err(Error::new("no configuration file provided: not found").hint(format!(
                "there is no compose.yaml in {} or above; name one with -f",
                self.here.display()
            )));
        }
        let read = files.iter().map(|f| self.open(f)).collect::<Result<Vec<File>>>()?;
        let name = self.choose_name(&folder, &read, &environment, findings)?;
        environment.insert("COMPOSE_PROJECT_NAME".into(), name.clone());
        Ok(Place { name, folder, files: read, environment, profiles })
    }

    fn open(&self, file: &str) -> Result<File> {
        if file == "-" {
            let mut text = String::new();
            let most = 16 << 20;
            std::io::stdin().take(most).read_to_string(&mut text).map_err(|e| {
                Error::new(base::Error::io("cannot read standard input", e).chain())
            })?;
            return Ok(File { path: "-".into(), text: Some(text) });
        }
        if crate::load::is_url(file) {
            return Err(Error::new(format!(
                "{file}: files from elsewhere (git, oci) are not read"
            ))
            .hint("fetch it first, and name the file"));
        }
        let path = self.absolute(file).to_string_lossy().into_owned();
        if !Path::new(&path).exists() {
            return Err(Error::new(format!("open {path}: no such file or directory")));
        }
        let text = File::named(&path).read()?;
        Ok(File { path, text: Some(text) })
    }

    fn add_variables(
        &self,
        environment: &mut BTreeMap<String, String>,
        folder: &Path,
        findings: &Findings,
    ) -> Result<()> {
        let files: Vec<PathBuf> = if self.env_files.is_empty() {
            let off = self.environment.get("COMPOSE_DISABLE_ENV_FILE").map(String::as_str);
            let file = folder.join(".env");
            let wanted = !matches!(off, Some("1" | "t" | "T" | "true" | "True" | "TRUE"));
            Some(file).filter(|f| wanted && f.is_file()).into_iter().collect()
        } else {
            self.env_files.iter().map(|f| self.absolute(f)).collect()
        };
        let context = Context {
            folder: folder.to_owned(),
            environment: environment.clone(),
            interpolate: true,
            resolve_paths: true,
            findings,
            included: Vec::new(),
        };
        for (name, value) in context.variables_of(&files)? {
            environment.entry(name).or_insert(value);
        }
        Ok(())
    }

    fn default_files(&self, findings: &Findings) -> Vec<String> {
        let start = self.folder(&[]);
        let there = |folder: &Path, names: &[&str]| -> Vec<String> {
            let paths = names.iter().map(|n| folder.join(n)).filter(|p| p.exists());
            paths.map(|p| p.to_string_lossy().into_owned()).collect()
        };
        for folder in start.ancestors() {
            let found = there(folder, NAMES);
            let Some(first) = found.first() else { continue };
            if found.len() > 1 {
                let all = found.join(", ");
                findings.warn(format!("Found multiple config files with supported names: {all}"));
                findings.warn(format!("Using {first}"));
            }
            let mut files = vec![first.clone()];
            let over = there(folder, OVERRIDES);
            if over.len() > 1 {
                let all = over.join(", ");
                findings.warn(format!("Found multiple override files with supported names: {all}"));
                findings.warn(format!("Using {}", over[0]));
            }
            files.extend(over.into_iter().next());
            return files;
        }
        Vec::new()
    }

    fn choose_name(
        &self,
        folder: &Path,
        files: &[File],
        environment: &BTreeMap<String, String>,
        findings: &Findings,
    ) -> Result<String> {
        let given = self.name.as_ref().filter(|n| !n.is_empty());
        let given =
            given.or_else(|| environment.get("COMPOSE_PROJECT_NAME").filter(|n| !n.is_empty()));
        if let Some(name) = given {
            if normal_name(name) != *name {
                return Err(invalid_name(name));
            }
            return Ok(name.clone());
        }
        let mut named: Option<Node> = None;
        for file in files {
            // What is wrong in a file is told when it is loaded.
            let text = file.read()?;
            for document in yaml::documents(&file.path.as_str().into(), &text).unwrap_or_default() {
                if let Some(name) = document.root.get("name").filter(|n| n.scalar().is_some()) {
                    named = Some(name.clone());
                }
            }
        }
        let mut name = String::new();
        if let Some(node) = named {
            let context = Context {
                folder: folder.to_owned(),
                environment: environment.clone(),
                interpolate: true,
                resolve_paths: true,
                findings,
                included: Vec::new(),
            };
            let text = node.scalar().unwrap_or_default();
            let made = context.substitute(&text).map_err(|e| Error::at(&node.at, e.to_string()))?;
            name = normal_name(&made);
        }
        if name.is_empty() {
            let last = folder.file_name().map(|n| n.to_string_lossy().into_owned());
            name = normal_name(&last.unwrap_or_default());
        }
        if name.is_empty() {
            return Err(Error::new("project name must not be empty")
                .hint("use `--project-name` to set a valid name"));
        }
        Ok(name)
    }
}

/// A name with what a project's name may hold.
pub(crate) fn normal_name(name: &str) -> String {
    let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c);
    let kept: String = name.to_lowercase().chars().filter(fits).collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

fn invalid_name(name: &str) -> Error {
    Error::new(format!(
        "invalid project name {name:?}: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number"
    ))
}
