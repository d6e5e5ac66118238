//! `attach`: joins a running container's input and output.

use super::{
    create::path,
    run::{check_terminal, end_with},
};
use crate::{
    attach::{Ended, Session, Signals, Target, Watch},
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag},
    ui::Ui,
};
use api::model::ContainerInspect;

const FLAGS: &[Flag] = &[
    flag("detach-keys", Kind::Text, "Override the key sequence for detaching a container"),
    flag("no-stdin", Kind::Bool, "Do not attach STDIN"),
    flag("sig-proxy", Kind::Bool, "Proxy all received signals to the process (default true)"),
];

pub(crate) const ATTACH: Command = Command {
    names: &["attach", "container attach"],
    usage: "CONTAINER",
    about: "Attach local standard input, output, and error streams to a running container",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let name = &given.words[0];
    let container: ContainerInspect = ui.client()?.get(&path(name, "json"), &Query::new())?;
    let state = &container.state;
    if !state.running {
        return Err(Fail::new("cannot attach to a stopped container, start it first"));
    }
    if state.paused {
        return Err(Fail::new("cannot attach to a paused container, unpause it first"));
    }
    if state.restarting {
        return Err(Fail::new("cannot attach to a restarting container, wait until it is running"));
    }
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let stdin = !given.is("no-stdin") && container.config.open_stdin;
    check_terminal(stdin, tty)?;
    let keys = given.text("detach-keys").unwrap_or(&ui.config.detach_keys).to_owned();
    let signals =
        if given.is_or("sig-proxy", true) && !tty { Signals::Forward } else { Signals::Keep };
    let watch = Watch::begin(signals)?;
    let client = ui.client()?;
    let waiting =
        client.send("POST", &path(id, "wait"), &Query::new(), &[], crate::http::Send::Nothing)?;
    let query = Query::new()
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true)
        .text("detachKeys", &keys);
    let (socket, early) = client.hijack(&path(id, "attach"), &query, Vec::new())?;
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
        Ended::Detached => Err(Fail::new("read escape sequence")),
        Ended::Closed => end_with(&session, waiting),
    }
}
