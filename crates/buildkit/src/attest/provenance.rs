//! SLSA provenance: v1 is what is worked out, v0.2 the same in older words.

use super::{Material, Predicate, Provenance, definition, image_purl};
use crate::{export::Product, graph::Graph, job::Job, proto::pb};
use base::{Platform, Result, Timestamp};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

const V1: &str = "https://slsa.dev/provenance/v1";
const V0_2: &str = "https://slsa.dev/provenance/v0.2";
const TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const TYPE_V0_2: &str = "https://mobyproject.org/buildkit@v1";
/// What of a front end's options says nothing about the result.
const HOST: [&str; 5] =
    ["cgroup-parent", "image-resolve-mode", "platform", "cache-imports", "frontend.caps"];

/// Everything that is said, before it is put into words.
#[derive(Default)]
struct Facts {
    source: Map<String, Value>,
    path: String,
    frontend: String,
    args: BTreeMap<String, String>,
    vcs: BTreeMap<String, String>,
    secrets: Vec<Value>,
    agents: Vec<Value>,
    locals: Vec<String>,
    dependencies: Vec<Value>,
    /// All arguments are told.
    complete: bool,
    /// A step could reach a network.
    network: bool,
    steps: Option<Value>,
    written: Option<Value>,
}

/// Where a result comes from.
pub(super) fn predicate(
    job: &Arc<Job>,
    product: &Product,
    wanted: &Provenance,
) -> Result<Predicate> {
    let graph = match &product.definition {
        Some(definition) => Graph::read(definition)?,
        None => Graph::read(&pb::Definition::default())?,
    };
    let facts = facts(job, product, &graph, wanted);
    let (started, finished) = (job.started.to_string(), Timestamp::now().to_string());
    let value = v1(&facts, wanted, &job.id, &started, &finished);
    Ok(match wanted.old {
        false => Predicate::of(V1, value),
        true => Predicate::of(V0_2, v0_2(&value)),
    })
}

fn facts(job: &Job, product: &Product, graph: &Graph, wanted: &Provenance) -> Facts {
    let (frontend, options) = job.frontend();
    let mut facts = Facts { frontend, complete: true, ..Facts::default() };
    let materials = job.materials();
    for vertex in &graph.vertices {
        match &vertex.op.op {
            Some(pb::op::Op::Source(_)) => {
                if let Some(material) = materials.get(&vertex.digest) {
                    note(&mut facts, material);
                }
            }
            Some(pb::op::Op::Exec(exec)) => {
                facts.network |= exec.network != pb::NetMode::None as i32;
                for env in &exec.secretenv {
                    push(&mut facts.secrets, &env.id, env.optional);
                }
                for mount in &exec.mounts {
                    if let Some(secret) = &mount.secret_opt {
                        push(&mut facts.secrets, &secret.id, secret.optional);
                    }
                    if let Some(agent) = &mount.ssh_opt {
                        push(&mut facts.agents, &agent.id, agent.optional);
                    }
                }
            }
            _ => {}
        }
    }
    // The Dockerfile's folder is read by the front end, outside the definition.
    for material in materials.values() {
        if let Material::Local { name } = material
            && !facts.locals.contains(name)
        {
            facts.locals.push(name.clone());
        }
    }
    facts.locals.sort();
    arguments(&mut facts, &options, &materials, wanted.max);
    if wanted.max {
        facts.steps = Some(definition::steps(graph));
        facts.written = product.definition.as_ref().and_then(definition::sources);
    } else {
        facts.secrets.clear();
        facts.agents.clear();
    }
    facts
}

fn push(all: &mut Vec<Value>, id: &str, optional: bool) {
    let mut one = json!({ "id": id });
    if optional {
        one["optional"] = true.into();
    }
    if !all.contains(&one) {
        all.push(one);
    }
}

fn note(facts: &mut Facts, material: &Material) {
    let dependency = match material {
        Material::Image { name, digest, platform } => {
            // An image that came by no registry is known here alone.
            let kind = if digest.is_some() { "docker" } else { "oci" };
            let uri = image_purl(kind, name, platform.as_ref());
            match digest {
                Some(digest) => {
                    json!({ "uri": uri, "digest": { digest.algorithm(): digest.hex() } })
                }
                None => json!({ "uri": uri }),
            }
        }
        Material::Git { url, commit } => git(url, commit),
        Material::Http { url, digest } => {
            json!({ "uri": url, "digest": { digest.algorithm(): digest.hex() } })
        }
        Material::Local { .. } => return,
    };
    if !facts.dependencies.contains(&dependency) {
        facts.dependencies.push(dependency);
    }
}

fn git(url: &str, commit: &str) -> Value {
    let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
    json!({ "uri": url, "digest": { algorithm: commit } })
}

/// What the client gave the front end.
fn arguments(
    facts: &mut Facts,
    options: &HashMap<String, String>,
    materials: &HashMap<String, Material>,
    max: bool,
) {
    for (key, value) in options {
        if HOST.contains(&key.as_str())
            || key.starts_with("attest:")
            || key.starts_with("local-sessionid:")
        {
            continue;
        }
        let clean = build::download::without_password(value);
        match key.as_str() {
            "context" if !value.is_empty() => {
                let found = materials.values().find_map(|m| match m {
                    Material::Git { url, commit } if url == value => Some(git(url, commit)),
                    Material::Http { url, digest } if url == value => Some(json!({
                        "uri": url, "digest": { digest.algorithm(): digest.hex() },
                    })),
                    _ => None,
                });
                let found = found.unwrap_or_else(|| json!({ "uri": clean }));
                facts.source = found.as_object().cloned().unwrap_or_default();
            }
            "filename" => facts.path.clone_from(value),
            key if key.starts_with("vcs:") => {
                if !value.is_empty() {
                    facts.vcs.insert(key["vcs:".len()..].to_owned(), clean);
                }
            }
            key if !max && (key.starts_with("build-arg:") || key.starts_with("label:")) => {
                facts.complete = false;
            }
            key if key.starts_with("context:") => {
                facts.args.insert(key.to_owned(), clean);
            }
            key => {
                facts.args.insert(key.to_owned(), value.clone());
            }
        }
    }
}

fn v1(facts: &Facts, wanted: &Provenance, id: &str, started: &str, finished: &str) -> Value {
    let mut source = facts.source.clone();
    if !facts.path.is_empty() {
        source.insert("path".into(), facts.path.clone().into());
    }
    let mut request = json!({ "frontend": facts.frontend, "args": facts.args });
    for (key, list) in [("secrets", &facts.secrets), ("ssh", &facts.agents)] {
        if !list.is_empty() {
            request[key] = list.clone().into();
        }
    }
    if !facts.locals.is_empty() {
        let locals: Vec<Value> = facts.locals.iter().map(|name| json!({ "name": name })).collect();
        request["locals"] = locals.into();
    }
    let mut internal = json!({ "builderPlatform": Platform::host().to_string() });
    if let Some(steps) = &facts.steps {
        internal["buildConfig"] = steps.clone();
    }
    let whole = facts.locals.is_empty();
    let mut known = Map::new();
    if !facts.vcs.is_empty() {
        known.insert("vcs".into(), json!(facts.vcs));
    }
    if let Some(written) = &facts.written {
        known.insert("source".into(), written.clone());
    }
    let mut metadata = json!({
        "invocationId": id,
        "startedOn": started,
        "finishedOn": finished,
        "buildkit_metadata": known,
        "buildkit_completeness": {
            "request": facts.complete && !facts.frontend.is_empty(),
            "resolvedDependencies": whole,
        },
    });
    if whole && !facts.network {
        metadata["buildkit_hermetic"] = true.into();
    }
    if wanted.reproducible {
        metadata["buildkit_reproducible"] = true.into();
    }
    json!({
        "buildDefinition": {
            "buildType": TYPE_V1,
            "externalParameters": { "configSource": source, "request": request },
            "internalParameters": internal,
            "resolvedDependencies": facts.dependencies,
        },
        "runDetails": { "builder": { "id": wanted.builder }, "metadata": metadata },
    })
}

/// The same in the words of v0.2.
fn v0_2(new: &Value) -> Value {
    let (definition, details) = (&new["buildDefinition"], &new["runDetails"]);
    let (external, internal) =
        (&definition["externalParameters"], &definition["internalParameters"]);
    let mut source = external["configSource"].clone();
    if let Some(object) = source.as_object_mut()
        && let Some(path) = object.remove("path")
    {
        object.insert("entryPoint".into(), path);
    }
    let metadata = &details["metadata"];
    let mut told = json!({
        "buildInvocationID": metadata["invocationId"],
        "buildStartedOn": metadata["startedOn"],
        "buildFinishedOn": metadata["finishedOn"],
        "completeness": {
            "parameters": metadata["buildkit_completeness"]["request"],
            "environment": true,
            "materials": metadata["buildkit_completeness"]["resolvedDependencies"],
        },
        "reproducible": metadata["buildkit_reproducible"] == true,
        "https://mobyproject.org/buildkit@v1#metadata": metadata["buildkit_metadata"],
    });
    if metadata["buildkit_hermetic"] == true {
        told["https://mobyproject.org/buildkit@v1#hermetic"] = true.into();
    }
    let mut old = json!({
        "builder": details["builder"],
        "buildType": TYPE_V0_2,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": { "platform": internal["builderPlatform"] },
        },
        "metadata": told,
    });
    if !internal["buildConfig"].is_null() {
        old["buildConfig"] = internal["buildConfig"].clone();
    }
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_told_only_when_all_is_wanted() {
        let options: HashMap<String, String> = [
            ("build-arg:A", "1"),
            ("target", "t"),
            ("filename", "D"),
            ("platform", "linux/amd64"),
            ("context", "https://user:word@host/x.git"),
            ("vcs:revision", "abc"),
        ]
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
        let read = |max| {
            let mut facts = Facts { frontend: "f".into(), complete: true, ..Facts::default() };
            arguments(&mut facts, &options, &HashMap::new(), max);
            v1(&facts, &Provenance::default(), "id", "a", "b")
        };
        let (min, max) = (read(false), read(true));
        let external = |v: &Value| v["buildDefinition"]["externalParameters"].clone();
        assert_eq!(external(&min)["request"]["args"], json!({ "target": "t" }));
        assert_eq!(external(&max)["request"]["args"], json!({ "build-arg:A": "1", "target": "t" }));
        assert_eq!(external(&min)["configSource"]["path"], "D");
        assert!(!min.to_string().contains("word"), "{min}");
        assert_eq!(min["runDetails"]["metadata"]["buildkit_completeness"]["request"], false);
        assert_eq!(max["runDetails"]["metadata"]["buildkit_completeness"]["request"], true);
        let old = v0_2(&max);
        assert_eq!(old["invocation"]["configSource"]["entryPoint"], "D");
        assert_eq!(old["metadata"]["completeness"]["parameters"], true);
    }
}
