//! `manifest inspect`: shows what a name means in its registry, as the registry says it.

use crate::{
    client::{Query, part},
    command::{Command, Count},
    credentials,
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    http::Send,
    ui::Ui,
};
use base::Reference;
use serde_json::{Value, json};
use std::io::Write;

const FLAGS: &[Flag] = &[
    flag("insecure", Kind::Bool, "Accepted; the daemon knows which registries are insecure"),
    short('v', "verbose", Kind::Bool, "Output additional info including layers and platform"),
];

pub(crate) const MANIFEST_INSPECT: Command = Command {
    names: &["manifest inspect"],
    usage: "MANIFEST",
    about: "Display an image manifest, or manifest list",
    count: Count::Exactly(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let reference: Reference =
        given.words[0].parse().map_err(|e: base::Error| Fail::new(e.chain()))?;
    let headers = credentials::header(&ui.config, reference.domain())?;
    let reference = reference.or_latest();
    let path = format!("/distribution/{}/json", part(&reference.to_string()));
    let query = Query::new().flag("gantry", true);
    let mut answer = ui.client()?.send("GET", &path, &query, &headers, Send::Nothing)?;
    let bad = |e: serde_json::Error| Fail::new(format!("cannot read the daemon's answer: {e}"));
    let answer: Value = serde_json::from_slice(&answer.body.read_all(64 << 20)?).map_err(bad)?;
    let shown = if given.is("verbose") {
        let all = answer["Gantry"]["Manifests"].as_array().cloned().unwrap_or_default();
        let mut list: Vec<Value> = all.iter().map(|one| verbose(&reference, one)).collect();
        if list.len() == 1 { list.remove(0) } else { Value::Array(list) }
    } else {
        let raw = answer["Gantry"]["Raw"].as_str().unwrap_or_default();
        serde_json::from_str(raw).map_err(bad)?
    };
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, tabs);
    serde::Serialize::serialize(&shown, &mut writer).map_err(bad)?;
    ui.out.write_all(&text)?;
    Ok(writeln!(ui.out)?)
}

fn verbose(reference: &Reference, one: &Value) -> Value {
    let digest = one["Descriptor"]["digest"].as_str().unwrap_or_default();
    let media_type = one["Descriptor"]["mediaType"].as_str().unwrap_or_default();
    let raw = one["Raw"].as_str().unwrap_or_default();
    let parsed: Value = serde_json::from_str(raw).unwrap_or(Value::Null);
    let key = if media_type.contains("oci") { "OCIManifest" } else { "SchemaV2Manifest" };
    json!({
        "Ref": format!("{}@{digest}", reference.repository_with_tag()),
        "Descriptor": one["Descriptor"],
        key: parsed,
    })
}
