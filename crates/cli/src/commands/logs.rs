//! `logs`: what a container has written.

use super::create::path;
use crate::{
    attach::Demux,
    client::Query,
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    ui::Ui,
};
use api::model::ContainerInspect;
use base::Timestamp;
use std::io::Read;

const FLAGS: &[Flag] = &[
    flag("details", Kind::Bool, "Show extra details provided to logs"),
    short('f', "follow", Kind::Bool, "Follow log output"),
    flag(
        "since",
        Kind::Text,
        "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
    short(
        'n',
        "tail",
        Kind::Text,
        "Number of lines to show from the end of the logs (default \"all\")",
    ),
    short('t', "timestamps", Kind::Bool, "Show timestamps"),
    flag(
        "until",
        Kind::Text,
        "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)",
    ),
];

pub(crate) const LOGS: Command = Command {
    names: &["logs", "container logs"],
    usage: "CONTAINER",
    about: "Fetch the logs of a container",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let name = &given.words[0];
    let client = ui.client()?;
    let container: ContainerInspect = client.get(&path(name, "json"), &Query::new())?;
    let query = Query::new()
        .flag("stdout", true)
        .flag("stderr", true)
        .flag("follow", given.is("follow"))
        .flag("timestamps", given.is("timestamps"))
        .flag("details", given.is("details"))
        .text("since", &moment(given.text("since"), "since")?)
        .text("until", &moment(given.text("until"), "until")?)
        .text("tail", given.text("tail").unwrap_or("all"));
    let mut answer = client.get_stream(&path(&container.id, "logs"), &query)?;
    let mut demux = Demux::new(container.config.tty);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match answer.body.read(&mut buffer)? {
            0 => return Ok(()),
            n => demux.feed(&buffer[..n])?,
        }
    }
}

/// A user's time as the API wants it: seconds, a dot, nine digits.
pub(crate) fn moment(text: Option<&str>, what: &str) -> Result<String> {
    let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(String::new()) };
    let at = Timestamp::parse_relative(text, Timestamp::now()).map_err(|_| {
        let why = format!("failed to parse value as time or duration: {text:?}");
        Fail::new(if what.is_empty() {
            why
        } else {
            format!("invalid value for \"{what}\": {why}")
        })
    })?;
    Ok(format!("{}.{:09}", at.unix(), at.subsec_nanos()))
}
