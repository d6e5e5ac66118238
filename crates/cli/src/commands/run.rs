//! `run`: makes a container, starts it and stays with it.
//!
//! Order: create, attach, wait (so that no exit is missed), start, then move bytes until the streams end.

use super::create::{create, path, with_help};
use crate::{
    attach::{Ended, Session, Signals, Target, Watch},
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::Response,
    options::{container, flags::CONTAINER},
    term,
    ui::Ui,
};
use api::model::{ContainerConfig, HostConfig, WaitReply};
use std::io::{self, IsTerminal, Write};

const FLAGS: &[Flag] = &[
    short('d', "detach", Kind::Bool, "Run container in background and print container ID"),
    flag("detach-keys", Kind::Text, "Override the key sequence for detaching a container"),
    flag(
        "pull",
        Kind::Text,
        "Pull image before running (\"always\", \"missing\", \"never\") (default \"missing\")",
    ),
    flag("sig-proxy", Kind::Bool, "Proxy received signals to the process (default true)"),
];

pub(crate) const RUN: Command = Command {
    names: &["run", "container run"],
    usage: "IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    count: Count::AtLeast(1),
    words: Words::EndOptions,
    flags: &[CONTAINER, FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let mut body = container::body(ui, given).map_err(|e| with_help(ui, "run", e))?;
    let detached = given.is("detach");
    if detached {
        if given.has("attach") {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Fail::new(text));
        }
        let config = &mut body.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        check_terminal(body.config.attach_stdin, body.config.tty)?;
    }
    if body.config.tty {
        let (rows, columns) = term::size();
        body.host_config.console_size = [rows.into(), columns.into()];
    }
    let signals =
        if given.is_or("sig-proxy", true) && !detached { Signals::Forward } else { Signals::Keep };
    let made = create(ui, given, &body).map_err(|e| with_help(ui, "run", e))?;
    if detached {
        ui.client()?
            .post(&path(&made.id, "start"), &Query::new())
            .map_err(|e| start_failure(ui, &e.into()))?;
        return Ok(writeln!(ui.out, "{}", made.id)?);
    }
    let keys = given.text("detach-keys").unwrap_or(&ui.config.detach_keys).to_owned();
    let watch = Watch::begin(signals)?;
    stay(ui, &made.id, (&body.config, &body.host_config), &keys, &watch)
}

/// A terminal that is asked for must be there.
pub(crate) fn check_terminal(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !io::stdin().is_terminal() {
        return Err(Fail::new("the input device is not a TTY"));
    }
    Ok(())
}

/// Attaches to a container that was made, starts it, and ends with it.
pub(crate) fn stay(
    ui: &mut Ui,
    id: &str,
    (config, host): (&ContainerConfig, &HostConfig),
    keys: &str,
    watch: &Watch,
) -> Result<()> {
    let attached = config.attach_stdin || config.attach_stdout || config.attach_stderr;
    let client = ui.client()?;
    let stream = if attached {
        let query = Query::new()
            .flag("stream", true)
            .flag("stdin", config.attach_stdin)
            .flag("stdout", config.attach_stdout)
            .flag("stderr", config.attach_stderr)
            .text("detachKeys", keys);
        Some(client.hijack(&path(id, "attach"), &query, Vec::new())?)
    } else {
        None
    };
    let condition = if host.auto_remove { "removed" } else { "next-exit" };
    let query = Query::new().text("condition", condition);
    let waiting =
        client.send("POST", &path(id, "wait"), &query, &[], crate::http::Send::Nothing)?;
    if let Err(err) = client.post(&path(id, "start"), &Query::new()) {
        let fail = start_failure(ui, &err.into());
        drop(stream);
        if host.auto_remove {
            // It is removed in any case; being gone is part of having failed.
            let _ = exit_code(waiting);
        }
        return Err(fail);
    }
    let session = Session {
        client: ui.client()?,
        target: Target::Container(id.to_owned()),
        tty: config.tty,
        stdin: config.attach_stdin,
        detach_keys: keys,
        signals: watch,
    };
    session.resize();
    if let Some((socket, early)) = stream {
        if session.run(socket, early)? == Ended::Detached {
            return Ok(());
        }
    } else {
        writeln!(io::stdout(), "{id}")?;
        return Ok(());
    }
    end_with(&session, waiting)
}

/// Waits for the exit, signals still going through, and ends with its code.
pub(super) fn end_with(session: &Session<'_>, waiting: Response) -> Result<()> {
    if !waiting.body.is_buffered() {
        session.wait_for(&waiting.body)?;
    }
    match exit_code(waiting)? {
        0 => Ok(()),
        code => Err(Fail::code(code)),
    }
}

fn exit_code(mut waiting: Response) -> Result<i32> {
    let body = waiting.body.read_all(1 << 20).unwrap_or_default();
    let reply: WaitReply = serde_json::from_slice(&body)
        .map_err(|_| Fail::new("error waiting for container: unexpected EOF").with_code(125))?;
    if let Some(error) = reply.error {
        return Err(
            Fail::new(format!("error waiting for container: {}", error.message)).with_code(125)
        );
    }
    Ok(i32::try_from(reply.status_code).unwrap_or(125))
}

/// A start that failed: 127 when there was nothing to execute, 126 when it could not be, else 125.
fn start_failure(ui: &Ui, fail: &Fail) -> Fail {
    let text = &fail.message;
    let has = |part: &str| text.contains(part);
    let code = if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        125
    };
    with_help(ui, "run", Fail::new(text.clone())).with_code(code)
}
