//! `exec`: runs a command in a running container.

use super::{create::path, run::check_terminal};
use crate::{
    attach::{Session, Signals, Target, Watch},
    client::{Client, Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    options::environment,
    term,
    ui::Ui,
};
use api::model::{ExecConfig, ExecStart, IdReply};

const FLAGS: &[Flag] = &[
    short('d', "detach", Kind::Bool, "Detached mode: run command in the background"),
    flag("detach-keys", Kind::Text, "Override the key sequence for detaching a container"),
    short('e', "env", Kind::List, "Set environment variables"),
    flag("env-file", Kind::List, "Read in a file of environment variables"),
    short('i', "interactive", Kind::Bool, "Keep STDIN open even if not attached"),
    flag("privileged", Kind::Bool, "Give extended privileges to the command"),
    short('t', "tty", Kind::Bool, "Allocate a pseudo-TTY"),
    short('u', "user", Kind::Text, "Username or UID (format: \"<name|uid>[:<group|gid>]\")"),
    short('w', "workdir", Kind::Text, "Working directory inside the container"),
];

pub(crate) const EXEC: Command = Command {
    names: &["exec", "container exec"],
    usage: "CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    count: Count::AtLeast(2),
    words: Words::EndOptions,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let (tty, detach) = (given.is("tty"), given.is("detach"));
    let stdin = given.is("interactive") && !detach;
    let keys = given.text("detach-keys").unwrap_or(&ui.config.detach_keys).to_owned();
    if !detach {
        check_terminal(stdin, tty)?;
    }
    let size = tty.then(term::size).map(|(rows, columns)| [rows.into(), columns.into()]);
    let config = ExecConfig {
        user: given.text_or_empty("user"),
        privileged: given.is("privileged"),
        tty,
        console_size: size,
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach,
        detach_keys: keys,
        env: Some(environment::variables(given.list("env-file"), given.list("env"))?),
        working_dir: given.text_or_empty("workdir"),
        cmd: Some(given.words[1..].to_vec()),
    };
    execute(ui.client()?, &given.words[0], &config)
}

/// Runs a command in a container and stays with it, unless it is detached.
pub(crate) fn execute(client: &Client, container: &str, config: &ExecConfig) -> Result<()> {
    let made: IdReply = client.post_json(&path(container, "exec"), &Query::new(), config)?;
    if made.id.is_empty() {
        return Err(Fail::new("exec ID empty"));
    }
    let (tty, detach) = (config.tty, config.detach);
    let start = ExecStart { detach, tty, console_size: config.console_size };
    let start_path = format!("/exec/{}/start", part(&made.id));
    if detach {
        return Ok(client.post_only(&start_path, &start)?);
    }
    let watch = Watch::begin(Signals::Keep)?;
    let body = serde_json::to_vec(&start).map_err(|e| Fail::new(e.to_string()))?;
    let (socket, early) = client.hijack(&start_path, &Query::new(), body)?;
    let session = Session {
        client,
        target: Target::Exec(made.id.clone()),
        tty,
        stdin: config.attach_stdin,
        detach_keys: &config.detach_keys,
        signals: &watch,
    };
    session.resize();
    session.run(socket, early)?;
    let end = client.get_value(&format!("/exec/{}/json", part(&made.id)), &Query::new())?;
    match end["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok()) {
        None | Some(0) => Ok(()),
        Some(code) => Err(Fail::code(code)),
    }
}
