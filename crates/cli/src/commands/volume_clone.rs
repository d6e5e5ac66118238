//! `volume clone` and `volume snapshot`: a new volume with the content of another. Gantry's own.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::Result,
    flags::{Flag, Given, Kind, Words, flag},
    options::values,
    ui::Ui,
};
use api::model::{Volume, VolumeClone};
use std::io::Write;

const FLAGS: &[Flag] = &[
    flag("label", Kind::List, "Set metadata for the new volume"),
    flag("no-pause", Kind::Bool, "Leave containers that use the volume running while it is copied"),
];

pub(crate) const VOLUME_CLONE: Command = Command {
    names: &["volume clone"],
    usage: "VOLUME NEW_VOLUME",
    about: "Create a volume with the content of another",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run: |ui, given| run(ui, given, given.words[1].clone()),
};

pub(crate) const VOLUME_SNAPSHOT: Command = Command {
    names: &["volume snapshot"],
    usage: "VOLUME [SNAPSHOT]",
    about: "Keep a volume's content of this moment as a volume of its own (default VOLUME-YYYYMMDD-HHMMSS)",
    count: Count::Between(1, 2),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run: |ui, given| {
        let name = given.words.get(1).cloned().unwrap_or_else(|| dated(&given.words[0]));
        run(ui, given, name)
    },
};

fn dated(name: &str) -> String {
    // `2026-11-29T23:10:05Z`
    let now = base::Timestamp::from_unix(base::Timestamp::now().unix(), 0).to_string();
    let digits: String = now.chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = digits.split_at(8.min(digits.len()));
    format!("{name}-{day}-{time}")
}

fn run(ui: &mut Ui, given: &Given, name: String) -> Result<()> {
    let request = VolumeClone {
        name,
        labels: Some(values::map(given.list("label"))),
        pause: !given.is("no-pause"),
    };
    let path = format!("/volumes/{}/clone", part(&given.words[0]));
    let made: Volume = ui.client()?.post_json(&path, &Query::new(), &request)?;
    Ok(writeln!(ui.out, "{}", made.name)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn snapshots_bear_their_time() {
        let name = super::dated("data");
        let time = name.strip_prefix("data-").unwrap();
        assert_eq!(time.len(), 15, "{name}");
        assert!(time.chars().all(|c| c.is_ascii_digit() || c == '-'), "{name}");
    }
}
