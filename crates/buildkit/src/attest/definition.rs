//! A definition as JSON, for provenance in full: the steps, and the files that they are written in.

use crate::{
    graph::{Graph, Vertex},
    proto::pb,
};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The steps, by short names.
pub(super) fn steps(graph: &Graph) -> Value {
    let names: HashMap<&str, String> = graph
        .vertices
        .iter()
        .enumerate()
        .map(|(at, v)| (v.digest.as_str(), format!("step{at}")))
        .collect();
    let step = |vertex: &Vertex| {
        let inputs: Vec<String> = vertex
            .op
            .inputs
            .iter()
            .map(|i| {
                let name = names.get(i.digest.as_str()).cloned().unwrap_or_default();
                format!("{name}:{}", i.index)
            })
            .collect();
        let mut told = json!({ "id": names[vertex.digest.as_str()], "op": op(&vertex.op) });
        if !inputs.is_empty() {
            told["inputs"] = inputs.into();
        }
        told
    };
    let mut all: Vec<Value> = graph.vertices.iter().map(|v| step(v)).collect();
    let mut mapping: Map<String, Value> =
        names.iter().map(|(digest, name)| ((*digest).to_owned(), name.clone().into())).collect();
    if let Some((target, index)) = &graph.target {
        let id = format!("step{}", all.len());
        let name = names.get(target.as_str()).cloned().unwrap_or_default();
        all.push(json!({
            "id": id, "op": { "Op": null }, "inputs": [format!("{name}:{index}")],
        }));
        mapping.insert("head".into(), id.into());
    }
    json!({ "llbDefinition": all, "digestMapping": mapping })
}

/// The files that the steps are written in.
pub(super) fn sources(definition: &pb::Definition) -> Option<Value> {
    let source = definition.source.as_ref()?;
    let infos: Vec<Value> = source
        .infos
        .iter()
        .map(|info| {
            json!({
                "filename": info.filename,
                "language": info.language,
                "data": base64::engine::general_purpose::STANDARD.encode(&info.data),
            })
        })
        .collect();
    Some(json!({ "infos": infos }))
}

fn op(op: &pb::Op) -> Value {
    let inner = match &op.op {
        Some(pb::op::Op::Source(source)) => {
            // A session is over when this is read.
            let attrs: Map<String, Value> = source
                .attrs
                .iter()
                .filter(|(key, _)| *key != "local.session" && *key != "local.unique")
                .map(|(k, v)| (k.clone(), v.clone().into()))
                .collect();
            json!({ "source": {
                "identifier": build::download::without_password(&source.identifier),
                "attrs": attrs,
            } })
        }
        Some(pb::op::Op::Exec(exec)) => json!({ "exec": self::exec(exec) }),
        Some(pb::op::Op::File(file)) => {
            json!({ "file": { "actions": file.actions.iter().map(action).collect::<Vec<_>>() } })
        }
        Some(pb::op::Op::Merge(merge)) => {
            let inputs: Vec<Value> =
                merge.inputs.iter().map(|i| json!({ "input": i.input })).collect();
            json!({ "merge": { "inputs": inputs } })
        }
        Some(pb::op::Op::Diff(diff)) => json!({ "diff": {
            "lower": { "input": diff.lower.as_ref().map(|l| l.input) },
            "upper": { "input": diff.upper.as_ref().map(|u| u.input) },
        } }),
        Some(pb::op::Op::Build(build)) => json!({ "build": { "attrs": build.attrs } }),
        None => Value::Null,
    };
    let mut told = json!({ "Op": inner });
    if let Some(platform) = &op.platform {
        let mut shown = json!({ "Architecture": platform.architecture, "OS": platform.os });
        if !platform.variant.is_empty() {
            shown["Variant"] = platform.variant.clone().into();
        }
        told["platform"] = shown;
    }
    told
}

fn exec(exec: &pb::ExecOp) -> Value {
    let meta = exec.meta.clone().unwrap_or_default();
    let mounts: Vec<Value> = exec
        .mounts
        .iter()
        .map(|m| {
            let mut told = json!({ "input": m.input, "dest": m.dest, "output": m.output });
            if !m.selector.is_empty() {
                told["selector"] = m.selector.clone().into();
            }
            if m.readonly {
                told["readonly"] = true.into();
            }
            if m.mount_type != 0 {
                told["mountType"] = m.mount_type.into();
            }
            if let Some(cache) = &m.cache_opt {
                told["cacheOpt"] = json!({ "ID": cache.id });
            }
            if let Some(secret) = &m.secret_opt {
                told["secretOpt"] = json!({ "ID": secret.id });
            }
            if let Some(agent) = &m.ssh_opt {
                told["SSHOpt"] = json!({ "ID": agent.id });
            }
            told
        })
        .collect();
    let mut told = json!({
        "meta": { "args": meta.args, "env": meta.env, "cwd": meta.cwd },
        "mounts": mounts,
    });
    if !meta.user.is_empty() {
        told["meta"]["user"] = meta.user.into();
    }
    if exec.network != 0 {
        told["network"] = exec.network.into();
    }
    if exec.security != 0 {
        told["security"] = exec.security.into();
    }
    told
}

fn action(action: &pb::FileAction) -> Value {
    let inner = match &action.action {
        Some(pb::file_action::Action::Copy(copy)) => json!({ "copy": {
            "src": copy.src, "dest": copy.dest,
            "includePatterns": copy.include_patterns, "excludePatterns": copy.exclude_patterns,
        } }),
        Some(pb::file_action::Action::Mkfile(make)) => json!({ "mkfile": {
            "path": make.path, "mode": make.mode,
            "data": base64::engine::general_purpose::STANDARD.encode(&make.data),
        } }),
        Some(pb::file_action::Action::Mkdir(make)) => json!({ "mkdir": {
            "path": make.path, "mode": make.mode, "makeParents": make.make_parents,
        } }),
        Some(pb::file_action::Action::Rm(rm)) => json!({ "rm": { "path": rm.path } }),
        Some(pb::file_action::Action::Symlink(link)) => {
            json!({ "symlink": { "oldpath": link.oldpath, "newpath": link.newpath } })
        }
        None => Value::Null,
    };
    json!({
        "input": action.input,
        "secondaryInput": action.secondary_input,
        "output": action.output,
        "Action": inner,
    })
}
