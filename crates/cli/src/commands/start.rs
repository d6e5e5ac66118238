//! `start`: starts containers, and stays with one when asked to.

use super::{
    create::path,
    run::{check_terminal, end_with},
};
use crate::{
    attach::{Ended, Session, Signals, Target, Watch},
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, hidden, short},
    ui::Ui,
};
use api::model::ContainerInspect;
use std::io::Write;

const FLAGS: &[Flag] = &[
    short('a', "attach", Kind::Bool, "Attach STDOUT/STDERR and forward signals"),
    flag("checkpoint", Kind::Text, "Restore from this checkpoint"),
    flag("checkpoint-dir", Kind::Text, "Use a custom checkpoint storage directory"),
    flag("detach-keys", Kind::Text, "Override the key sequence for detaching a container"),
    short('i', "interactive", Kind::Bool, "Attach container's STDIN"),
    hidden("sig-proxy", Kind::Bool),
];

pub(crate) const START: Command = Command {
    names: &["start", "container start"],
    usage: "CONTAINER [CONTAINER...]",
    about: "Start one or more stopped containers",
    count: Count::AtLeast(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    if given.is("attach") || given.is("interactive") {
        if given.words.len() > 1 {
            return Err(Fail::new("you cannot start and attach multiple containers at once"));
        }
        return start_attached(ui, given);
    }
    let query = Query::new()
        .text("checkpoint", &given.text_or_empty("checkpoint"))
        .text("checkpoint-dir", &given.text_or_empty("checkpoint-dir"));
    let mut failed = Vec::new();
    for name in &given.words {
        match ui.client()?.post(&path(name, "start"), &query) {
            Ok(_) => writeln!(ui.out, "{name}")?,
            Err(err) => {
                writeln!(ui.err, "{err}")?;
                failed.push(name.clone());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Fail::new(format!("Error: failed to start containers: {}", failed.join(", "))))
}

fn start_attached(ui: &mut Ui, given: &Given) -> Result<()> {
    let name = &given.words[0];
    let container: ContainerInspect = ui.client()?.get(&path(name, "json"), &Query::new())?;
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let stdin = given.is("interactive") && container.config.open_stdin;
    check_terminal(stdin, tty)?;
    let keys = given.text("detach-keys").unwrap_or(&ui.config.detach_keys).to_owned();
    let signals =
        if given.is_or("sig-proxy", true) && !tty { Signals::Forward } else { Signals::Keep };
    let watch = Watch::begin(signals)?;
    let client = ui.client()?;
    let query = Query::new()
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true)
        .text("detachKeys", &keys);
    let (socket, early) = client.hijack(&path(id, "attach"), &query, Vec::new())?;
    let condition = if container.host_config.auto_remove { "removed" } else { "next-exit" };
    let query = Query::new().text("condition", condition);
    let waiting =
        client.send("POST", &path(id, "wait"), &query, &[], crate::http::Send::Nothing)?;
    client.post(&path(id, "start"), &Query::new())?;
    let session = Session {
        client,
        target: Target::Container(id.to_owned()),
        tty,
        stdin,
        detach_keys: &keys,
        signals: &watch,
    };
    session.resize();
    match session.run(socket, early)? {
        Ended::Detached => Ok(()),
        Ended::Closed => end_with(&session, waiting),
    }
}
