//! `create`: makes a container; the part that `run` shares.

use crate::{
    client::{Query, part},
    command::{self, Command, Count},
    error::{Fail, Result, text},
    flags::{Flag, Given, Kind, Words, flag},
    options::{container, container::Body, flags::CONTAINER},
    progress::Show,
    ui::Ui,
};
use api::model::ContainerCreated;
use std::{fs, io::Write};

const FLAGS: &[Flag] = &[flag(
    "pull",
    Kind::Text,
    "Pull image before creating (\"always\", \"|missing\", \"never\") (default \"missing\")",
)];

pub(crate) const CREATE: Command = Command {
    names: &["create", "container create"],
    usage: "IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    count: Count::AtLeast(1),
    words: Words::EndOptions,
    flags: &[CONTAINER, FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let body = container::body(ui, given).map_err(|e| with_help(ui, "create", e))?;
    let made = create(ui, given, &body)?;
    Ok(writeln!(ui.out, "{}", made.id)?)
}

/// A failure of ours or the engine's, with the hint and the code that `run` and `create` give.
pub(super) fn with_help(ui: &Ui, command: &'static str, fail: Fail) -> Fail {
    if fail.message.starts_with("invalid argument ") {
        return command::mistake(ui.program, command, &fail.message);
    }
    let program = ui.program;
    let hint = format!("Run '{program} {command} --help' for more information");
    Fail { code: 125, message: format!("{program}: {}\n\n{hint}", fail.message) }
}

/// Makes the container, fetching the image first where the policy says so.
pub(super) fn create(ui: &mut Ui, given: &Given, body: &Body) -> Result<ContainerCreated> {
    let mut id_file = match given.text("cidfile") {
        Some(path) if !path.is_empty() => Some(IdFile::open(path)?),
        _ => None,
    };
    let image = &body.config.image;
    let policy = given.text("pull").unwrap_or("missing");
    if !["always", "missing", "never"].contains(&policy) {
        return Err(Fail::new(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    if policy == "always" {
        pull(ui, given, image)?;
    }
    let query = Query::new()
        .text("name", &given.text_or_empty("name"))
        .text("platform", &given.text_or_empty("platform"));
    let mut made = ui.client()?.post_json("/containers/create", &query, body);
    let image_missing =
        matches!(&made, Err(e) if e.is_missing() && e.to_string().contains("No such image"));
    if image_missing && policy == "missing" {
        if !given.is("quiet") {
            writeln!(ui.err, "Unable to find image '{}' locally", tagged(image))?;
        }
        pull(ui, given, image)?;
        made = ui.client()?.post_json("/containers/create", &query, body);
    }
    let made: ContainerCreated = made?;
    for warning in &made.warnings {
        writeln!(ui.err, "WARNING: {warning}")?;
    }
    if let Some(file) = &mut id_file {
        file.write(&made.id)?;
    }
    Ok(made)
}

fn tagged(image: &str) -> String {
    if image.contains('@') {
        return image.to_owned();
    }
    let (repo, tag) = super::tag::split_tag(image);
    format!("{repo}:{tag}")
}

fn pull(ui: &mut Ui, given: &Given, image: &str) -> Result<()> {
    let reference: base::Reference =
        image.parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
    let platform = given.text_or_empty("platform");
    super::pull::fetch(ui, &reference.or_latest(), &platform, Show::Nothing)
}

/// `--cidfile`: must not be there before, is removed again when nothing was made.
struct IdFile {
    path: String,
    written: bool,
}

impl IdFile {
    fn open(path: &str) -> Result<Self> {
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Ok(Self { path: path.to_owned(), written: false }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Fail::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(e) => Err(Fail::new(format!(
                "failed to create the container ID file: open {path}: {}",
                text(&e)
            ))),
        }
    }

    fn write(&mut self, id: &str) -> Result<()> {
        fs::write(&self.path, id)?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // Ours and empty; nobody misses it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The path of a container's resource.
pub(super) fn path(name: &str, what: &str) -> String {
    format!("/containers/{}/{what}", part(name))
}
