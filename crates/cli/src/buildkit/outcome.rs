//! What a build came to: its failure with the lines that it is about, warnings, files that were asked for.

use super::{
    blobs,
    request::REF_NAME,
    show::{Mode, Steps},
    wire::{Channel, control},
};
use crate::{
    error::{Fail, Result, text},
    ui::Ui,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard_buildkit_proto::google;
use prost::Message as _;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, fs, io::Write as _, path::Path};

/// Details of failures that name a place of a source.
const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
/// What says what a file of the history is about.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// Lines shown around the ones that failed.
const AROUND: usize = 3;

/// Shows why a build failed, and gives the failure.
pub(super) fn failed(
    ui: &mut Ui,
    mode: Mode,
    steps: &Steps,
    status: &tonic::Status,
) -> Result<Fail> {
    if mode != Mode::Raw
        && let Some(step) = steps.failed()
    {
        writeln!(ui.err, "------\n > {}:", step.vertex.name)?;
        for line in step.lines.iter().chain((!step.open.is_empty()).then_some(&step.open)) {
            writeln!(ui.err, "{line}")?;
        }
        writeln!(ui.err, "------")?;
    }
    let details = google::rpc::Status::decode(status.details()).unwrap_or_default().details;
    for detail in details.iter().filter(|d| d.type_url == SOURCE) {
        if let Ok(source) = serde_json::from_slice(&detail.value)
            && let Some(text) = snippet(&source)
        {
            write!(ui.err, "{text}")?;
        }
    }
    Ok(Fail::new(format!("ERROR: failed to build: failed to solve: {}", status.message())))
}

/// The lines that a failure is about, with those around them.
pub(super) fn snippet(source: &Value) -> Option<String> {
    let info = &source["info"];
    let data = STANDARD.decode(info["data"].as_str()?).ok()?;
    let data = String::from_utf8_lossy(&data);
    let number = |at: &Value| at["line"].as_u64().and_then(|n| usize::try_from(n).ok());
    let ranges: Vec<(usize, usize)> = source["ranges"]
        .as_array()?
        .iter()
        .filter_map(|r| Some((number(&r["start"])?, number(&r["end"])?)))
        .collect();
    let first = ranges.iter().map(|r| r.0).min()?;
    let last = ranges.iter().map(|r| r.1).max()?.max(first);
    let rule = "-".repeat(20);
    let mut text = format!("{}:{first}\n{rule}\n", info["filename"].as_str().unwrap_or_default());
    for (at, line) in data.lines().enumerate() {
        let at = at + 1;
        if at + AROUND >= first && at <= last + AROUND {
            let own = ranges.iter().any(|r| (r.0..=r.1.max(r.0)).contains(&at));
            text.push_str(&format!("{at:>4} | {} {line}\n", if own { ">>>" } else { "   " }));
        }
    }
    Some(format!("{text}{rule}\n"))
}

/// Shows the warnings of a build that went well.
pub(super) fn warn(ui: &mut Ui, mode: Mode, steps: &Steps) -> Result<()> {
    if matches!(mode, Mode::Raw | Mode::Quiet) || steps.warnings.is_empty() {
        return Ok(());
    }
    let count = steps.warnings.len();
    let plural = if count == 1 { "" } else { "s" };
    writeln!(ui.err, "\n{count} warning{plural} found:")?;
    for warning in &steps.warnings {
        let line = warning.ranges.first().and_then(|r| r.start).map(|p| p.line);
        let line = line.map(|l| format!(" (line {l})")).unwrap_or_default();
        writeln!(ui.err, " - {}{line}", String::from_utf8_lossy(&warning.short))?;
    }
    Ok(())
}

/// A value that is JSON, in base64 or not.
pub(super) fn json(text: &str) -> Option<Value> {
    let plain = STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec());
    serde_json::from_slice::<Value>(&plain).ok().filter(Value::is_object)
}

/// The file of `--metadata-file`.
pub(super) fn metadata(
    response: &HashMap<String, String>,
    id: &str,
    attested: Vec<(String, Value)>,
) -> String {
    let mut all: Map<String, Value> = Map::new();
    let mut keys: Vec<&String> = response.keys().collect();
    keys.sort();
    for key in keys {
        let text = &response[key];
        all.insert(key.clone(), json(text).unwrap_or_else(|| text.as_str().into()));
    }
    all.insert("buildx.build.ref".into(), format!("default/default/{id}").into());
    all.extend(attested);
    format!("{:#}\n", Value::Object(all))
}

/// The provenance that the history keeps of a build, under its names in the metadata.
pub(super) async fn attested(channel: &Channel, id: &str) -> Vec<(String, Value)> {
    let request = control::BuildHistoryRequest {
        r#ref: id.to_owned(),
        early_exit: true,
        ..control::BuildHistoryRequest::default()
    };
    let mut all = Vec::new();
    // Engines without a history have none of it.
    let Ok(events) = channel.control().listen_build_history(request).await else { return all };
    let mut events = events.into_inner();
    while let Ok(Some(event)) = events.message().await {
        let Some(record) = event.record.filter(|r| r.r#ref == id) else { continue };
        let single = record.result.iter().map(|r| (String::new(), r));
        let several = record.results.iter().map(|(name, r)| (format!("/{name}"), r));
        for (platform, result) in single.chain(several) {
            for blob in &result.attestations {
                let kind = blob.annotations.get(PREDICATE).map_or("", String::as_str);
                if !kind.starts_with("https://slsa.dev/provenance/") {
                    continue;
                }
                if let Some(value) = blobs::of_history(channel, &blob.digest).await {
                    all.push((format!("buildx.build.provenance{platform}"), value));
                }
            }
        }
    }
    all
}

/// Names `descriptor` in the `index.json` of a layout; what had these names before has lost them.
pub(super) fn index(folder: &Path, tags: &[String], descriptor: Value) -> Result<()> {
    let path = folder.join("index.json");
    let fail =
        |e: std::io::Error| Fail::new(format!("cannot write {}: {}", path.display(), text(&e)));
    let mut index: Value = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({})),
        Err(_) => json!({}),
    };
    let mut manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<Option<&String>> = tags.iter().map(Some).collect();
    if names.is_empty() {
        names.push(None);
    }
    for name in names {
        let mut named = descriptor.clone();
        if let Some(name) = name {
            manifests.retain(|m| m["annotations"][REF_NAME].as_str() != Some(name));
            named["annotations"][REF_NAME] = name.as_str().into();
        }
        manifests.push(named);
    }
    index["schemaVersion"] = 2.into();
    index["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
    index["manifests"] = manifests.into();
    fs::create_dir_all(folder).map_err(fail)?;
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").map_err(fail)?;
    let new = folder.join(format!(".index.json.{}", std::process::id()));
    fs::write(&new, index.to_string()).and_then(|()| fs::rename(&new, &path)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_its_lines() {
        let file = "FROM a\nRUN one\nRUN two\nRUN three\nRUN four\nRUN five\nRUN six\n";
        let source = json!({
            "info": { "filename": "Dockerfile", "data": STANDARD.encode(file) },
            "ranges": [{ "start": { "line": 5 }, "end": { "line": 5 } }],
        });
        let text = snippet(&source).unwrap();
        assert!(text.starts_with("Dockerfile:5\n"), "{text}");
        assert!(
            text.contains("\n   5 | >>> RUN four\n") && text.contains("\n   2 |     RUN one\n")
        );
        assert!(!text.contains("FROM"), "{text}");
        assert!(snippet(&json!({})).is_none());
    }

    #[test]
    fn metadata_is_json_where_it_was() {
        let descriptor = STANDARD.encode("{\"size\":1}");
        let response = HashMap::from([
            ("containerimage.descriptor".to_owned(), descriptor),
            ("image.name".to_owned(), "a".to_owned()),
        ]);
        let told: Value = serde_json::from_str(&metadata(&response, "x", Vec::new())).unwrap();
        assert_eq!(told["containerimage.descriptor"]["size"], 1);
        assert_eq!(told["image.name"], "a");
        assert_eq!(told["buildx.build.ref"], "default/default/x");
    }

    #[test]
    fn a_name_in_an_index_means_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let tags = ["a".to_owned(), "b".to_owned()];
        index(dir.path(), &tags, json!({ "digest": "1" })).unwrap();
        index(dir.path(), &tags[..1], json!({ "digest": "2" })).unwrap();
        let read: Value =
            serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
        let all: Vec<_> = read["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| (m["digest"].as_str().unwrap(), m["annotations"][REF_NAME].as_str().unwrap()))
            .collect();
        assert_eq!(all, [("1", "b"), ("2", "a")]);
    }
}
