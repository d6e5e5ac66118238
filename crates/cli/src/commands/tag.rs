//! `tag`: gives an image another name.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    error::{Fail, Result},
    flags::{Given, Words},
    ui::Ui,
};

pub(crate) const TAG: Command = Command {
    names: &["tag", "image tag"],
    usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    count: Count::Exactly(2),
    words: Words::Anywhere,
    flags: &[&[]],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let target = &given.words[1];
    for name in &given.words {
        if let Err(err) = name.parse::<base::Reference>() {
            let why = err.chain();
            return Err(Fail::new(format!(
                "Error parsing reference: {name:?} is not a valid repository/tag: {why}"
            )));
        }
    }
    if target.contains('@') {
        return Err(Fail::new("refusing to create a tag with a digest reference"));
    }
    let (repo, tag) = split_tag(target);
    let query = Query::new().text("repo", repo).text("tag", tag);
    ui.client()?.post(&format!("/images/{}/tag", part(&given.words[0])), &query)?;
    Ok(())
}

/// Repository and tag; `latest` when none is said.
pub(super) fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (name, "latest"),
    }
}
