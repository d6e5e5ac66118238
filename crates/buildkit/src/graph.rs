//! LLB: a definition as it comes over the wire, checked, in an order in which it can be done.
//!
//! Invariants: the digest of a vertex is that of its bytes, so a graph cannot have a cycle; every input is
//! there and comes before whoever needs it; sizes are bounded.

use crate::{
    failure::Place,
    proto::{control, pb},
};
use base::{Digest, Error, Result};
use prost::Message as _;
use std::{collections::HashMap, sync::Arc};

/// Vertices of one definition.
const VERTICES: usize = 20_000;
/// Inputs of one vertex, and mounts or actions in it.
const PARTS: usize = 5_000;

/// A definition that can be solved.
#[derive(Debug)]
pub(crate) struct Graph {
    /// In an order in which they can be done.
    pub(crate) vertices: Vec<Arc<Vertex>>,
    /// What is wanted: digest and index of the output. Nothing is an empty state.
    pub(crate) target: Option<(String, i64)>,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Vertex {
    /// Digest of its bytes.
    pub(crate) digest: String,
    /// What is done.
    pub(crate) op: pb::Op,
    /// What is known about it.
    pub(crate) meta: pb::OpMetadata,
    /// Where it is written.
    pub(crate) sources: Vec<Place>,
}

/// Reads a definition, as the solver does before anything is done of it; gives the number of its operations.
///
/// # Errors
/// `Invalid` for bytes that are no definition, or a malformed or oversized one.
pub fn check_definition(bytes: &[u8]) -> Result<usize> {
    let definition = pb::Definition::decode(bytes)
        .map_err(|e| Error::invalid("cannot read the definition").caused_by(e))?;
    Graph::read(&definition).map(|graph| graph.vertices.len())
}

impl Graph {
    /// Reads a definition.
    ///
    /// # Errors
    /// `Invalid` for a malformed or oversized one.
    pub(crate) fn read(definition: &pb::Definition) -> Result<Self> {
        if definition.def.len() > VERTICES {
            return Err(Error::invalid(format!(
                "the definition has more than {VERTICES} operations"
            )));
        }
        let mut ops: HashMap<String, pb::Op> = HashMap::new();
        let mut last = None;
        for bytes in &definition.def {
            let op = pb::Op::decode(bytes.as_slice()).map_err(|e| {
                Error::invalid("cannot read an operation of the definition").caused_by(e)
            })?;
            check(&op)?;
            let digest = Digest::sha256(bytes).to_string();
            last = Some(digest.clone());
            ops.insert(digest, op);
        }
        let Some(last) = last else { return Ok(Self { vertices: Vec::new(), target: None }) };
        let head = &ops[&last];
        let target = match (&head.op, head.inputs.as_slice()) {
            (None, [input]) => (input.digest.clone(), input.index),
            (None, _) => {
                return Err(Error::invalid("the definition's last operation has no single input"));
            }
            (Some(_), _) => (last.clone(), 0),
        };
        let order = order(&ops, &target.0)?;
        let vertices = order.into_iter().map(|digest| {
            let op = ops.remove(&digest).unwrap_or_default();
            let meta = definition.metadata.get(&digest).cloned().unwrap_or_default();
            let sources = places(definition.source.as_ref(), &digest);
            Arc::new(Vertex { digest, op, meta, sources })
        });
        Ok(Self { vertices: vertices.collect(), target: Some(target) })
    }
}

fn check(op: &pb::Op) -> Result<()> {
    let parts = match &op.op {
        Some(pb::op::Op::Exec(exec)) => exec.mounts.len(),
        Some(pb::op::Op::File(file)) => file.actions.len(),
        Some(pb::op::Op::Merge(merge)) => merge.inputs.len(),
        _ => 0,
    };
    if op.inputs.len().max(parts) > PARTS {
        return Err(Error::invalid(format!("an operation has more than {PARTS} inputs or parts")));
    }
    let outputs: Vec<i64> = match &op.op {
        Some(pb::op::Op::Exec(exec)) => exec.mounts.iter().map(|m| m.output).collect(),
        Some(pb::op::Op::File(file)) => file.actions.iter().map(|a| a.output).collect(),
        _ => Vec::new(),
    };
    // Outputs are counted from 0 without gaps, -1 is none.
    let most = i64::try_from(outputs.len()).unwrap_or(i64::MAX);
    match outputs.iter().find(|output| **output < -1 || **output >= most) {
        Some(output) => Err(Error::invalid(format!("an operation has no output {output}"))),
        None => Ok(()),
    }
}

/// Digests that `target` needs, itself last, inputs first; without recursion.
fn order(ops: &HashMap<String, pb::Op>, target: &str) -> Result<Vec<String>> {
    let mut order = Vec::new();
    let mut state: HashMap<&str, bool> = HashMap::new();
    let mut open: Vec<(&str, bool)> = vec![(target, false)];
    while let Some((digest, entered)) = open.pop() {
        if entered {
            state.insert(digest, true);
            order.push(digest.to_owned());
            continue;
        }
        if state.contains_key(digest) {
            continue;
        }
        let op = ops
            .get(digest)
            .ok_or_else(|| Error::invalid(format!("invalid missing input digest {digest}")))?;
        if op.op.is_none() {
            return Err(Error::invalid(format!("the operation {digest} says nothing to do")));
        }
        state.insert(digest, false);
        open.push((digest, true));
        for input in &op.inputs {
            if input.index < 0 {
                return Err(Error::invalid(format!("an input of {digest} has a negative index")));
            }
            open.push((&input.digest, false));
        }
    }
    Ok(order)
}

fn places(source: Option<&pb::Source>, digest: &str) -> Vec<Place> {
    let Some(source) = source else { return Vec::new() };
    let Some(found) = source.locations.get(digest) else { return Vec::new() };
    let place = |location: &pb::Location| {
        let index = usize::try_from(location.source_index).ok()?;
        let info = source.infos.get(index)?.clone();
        let info = pb::SourceInfo { definition: None, ..info };
        Some(Place { info, ranges: location.ranges.clone() })
    };
    found.locations.iter().filter_map(place).collect()
}

impl Vertex {
    /// What clients call it.
    pub(crate) fn name(&self) -> String {
        if let Some(name) = self.meta.description.get("llb.customname") {
            return name.clone();
        }
        match &self.op.op {
            Some(pb::op::Op::Source(source)) => source.identifier.clone(),
            Some(pb::op::Op::Exec(exec)) => {
                exec.meta.as_ref().map(|m| m.args.join(" ")).unwrap_or_default()
            }
            Some(pb::op::Op::File(file)) => {
                let names = file.actions.iter().map(|a| match &a.action {
                    Some(pb::file_action::Action::Copy(c)) => format!("copy {} {}", c.src, c.dest),
                    Some(pb::file_action::Action::Mkfile(f)) => format!("mkfile {}", f.path),
                    Some(pb::file_action::Action::Mkdir(d)) => format!("mkdir {}", d.path),
                    Some(pb::file_action::Action::Rm(r)) => format!("rm {}", r.path),
                    Some(pb::file_action::Action::Symlink(s)) => {
                        format!("symlink {} {}", s.oldpath, s.newpath)
                    }
                    None => String::new(),
                });
                names.collect::<Vec<_>>().join(", ")
            }
            Some(pb::op::Op::Build(_)) => "build".into(),
            Some(pb::op::Op::Merge(_)) => "merge".into(),
            Some(pb::op::Op::Diff(_)) => "diff".into(),
            None => String::new(),
        }
    }

    /// As clients see it before it begins.
    pub(crate) fn shown(&self) -> control::Vertex {
        control::Vertex {
            digest: self.digest.clone(),
            inputs: self.op.inputs.iter().map(|i| i.digest.clone()).collect(),
            name: self.name(),
            progress_group: self.meta.progress_group.clone(),
            ..control::Vertex::default()
        }
    }
}

/// A definition in the making: what a front end says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    ops: Vec<(String, Vec<u8>, Vec<String>)>,
    known: HashMap<String, usize>,
    metadata: HashMap<String, pb::OpMetadata>,
    locations: HashMap<String, Vec<pb::Range>>,
    info: Option<pb::SourceInfo>,
}

/// An output of an operation in a [`Draft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) digest: String,
    pub(crate) index: i64,
}

impl Node {
    /// As an input of another operation.
    pub(crate) fn input(&self) -> pb::Input {
        pb::Input { digest: self.digest.clone(), index: self.index }
    }
}

impl Draft {
    /// A definition whose steps are written in `info`.
    pub(crate) fn of(info: pb::SourceInfo) -> Self {
        Self { info: Some(info), ..Self::default() }
    }

    /// Adds an operation; one that is there already stays as it is.
    pub(crate) fn add(
        &mut self,
        op: &pb::Op,
        meta: pb::OpMetadata,
        lines: Option<(usize, usize)>,
    ) -> Node {
        let bytes = op.encode_to_vec();
        let digest = Digest::sha256(&bytes).to_string();
        if let Some((first, last)) = lines {
            let position = |line: usize| {
                Some(pb::Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
            };
            let range = pb::Range { start: position(first), end: position(last) };
            self.locations.entry(digest.clone()).or_default().push(range);
        }
        if !self.known.contains_key(&digest) {
            self.known.insert(digest.clone(), self.ops.len());
            let inputs = op.inputs.iter().map(|i| i.digest.clone()).collect();
            self.ops.push((digest.clone(), bytes, inputs));
            self.metadata.insert(digest.clone(), meta);
        }
        Node { digest, index: 0 }
    }

    /// Takes over an operation of another definition, with all that it needs.
    pub(crate) fn adopt(&mut self, other: &Self, node: &Node) -> Node {
        for (digest, bytes, inputs) in &other.ops {
            if !self.known.contains_key(digest) {
                self.known.insert(digest.clone(), self.ops.len());
                self.ops.push((digest.clone(), bytes.clone(), inputs.clone()));
                if let Some(meta) = other.metadata.get(digest) {
                    self.metadata.insert(digest.clone(), meta.clone());
                }
            }
        }
        node.clone()
    }

    /// Takes over a definition that a client gave; nothing when it is an empty state.
    ///
    /// # Errors
    /// As [`Graph::read`].
    pub(crate) fn include(&mut self, definition: &pb::Definition) -> Result<Option<Node>> {
        let graph = Graph::read(definition)?;
        let bytes: HashMap<String, &Vec<u8>> =
            definition.def.iter().map(|b| (Digest::sha256(b).to_string(), b)).collect();
        for vertex in &graph.vertices {
            if let (false, Some(bytes)) =
                (self.known.contains_key(&vertex.digest), bytes.get(&vertex.digest))
            {
                self.known.insert(vertex.digest.clone(), self.ops.len());
                let inputs = vertex.op.inputs.iter().map(|i| i.digest.clone()).collect();
                self.ops.push((vertex.digest.clone(), (*bytes).clone(), inputs));
                self.metadata.insert(vertex.digest.clone(), vertex.meta.clone());
            }
        }
        Ok(graph.target.map(|(digest, index)| Node { digest, index }))
    }

    /// The definition of `target`, with what it needs and nothing else.
    pub(crate) fn definition(&self, target: &Node) -> pb::Definition {
        let mut wanted = vec![false; self.ops.len()];
        let mut open = vec![target.digest.as_str()];
        while let Some(digest) = open.pop() {
            let Some(at) = self.known.get(digest) else { continue };
            if !std::mem::replace(&mut wanted[*at], true) {
                open.extend(self.ops[*at].2.iter().map(String::as_str));
            }
        }
        let mut definition = pb::Definition::default();
        let mut locations = std::collections::BTreeMap::new();
        for ((digest, bytes, _), wanted) in self.ops.iter().zip(wanted) {
            if !wanted {
                continue;
            }
            definition.def.push(bytes.clone());
            if let Some(meta) = self.metadata.get(digest) {
                definition.metadata.insert(digest.clone(), meta.clone());
            }
            if let Some(ranges) = self.locations.get(digest) {
                let location = pb::Location { source_index: 0, ranges: ranges.clone() };
                locations.insert(digest.clone(), pb::Locations { locations: vec![location] });
            }
        }
        let head = pb::Op { inputs: vec![target.input()], ..pb::Op::default() };
        definition.def.push(head.encode_to_vec());
        definition.source =
            self.info.clone().map(|info| pb::Source { locations, infos: vec![info] });
        definition
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(identifier: &str) -> pb::Op {
        let source = pb::SourceOp { identifier: identifier.into(), ..Default::default() };
        pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() }
    }

    #[test]
    fn a_definition_holds_what_its_target_needs_inputs_first() {
        let mut draft = Draft::default();
        let base = draft.add(&source("docker-image://a"), pb::OpMetadata::default(), None);
        draft.add(&source("docker-image://unused"), pb::OpMetadata::default(), None);
        let merge = pb::MergeOp { inputs: vec![pb::MergeInput { input: 0 }] };
        let merge = pb::Op {
            inputs: vec![base.input()],
            op: Some(pb::op::Op::Merge(merge)),
            ..Default::default()
        };
        let top = draft.add(&merge, pb::OpMetadata::default(), None);
        let graph = Graph::read(&draft.definition(&top)).unwrap();
        let digests: Vec<&str> = graph.vertices.iter().map(|v| v.digest.as_str()).collect();
        assert_eq!(digests, [base.digest.as_str(), top.digest.as_str()]);
        assert_eq!(graph.target, Some((top.digest, 0)));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let why = |def: Vec<Vec<u8>>| {
            let definition = pb::Definition { def, ..Default::default() };
            Graph::read(&definition).map(|_| ()).unwrap_err().chain()
        };
        assert!(why(vec![vec![0xff; 9]]).contains("cannot read an operation"));
        let input = pb::Input { digest: "sha256:0".into(), index: 0 };
        let dangling = pb::Op { inputs: vec![input.clone()], ..Default::default() };
        assert!(why(vec![dangling.encode_to_vec()]).contains("missing input"));
        let two = pb::Op { inputs: vec![input.clone(), input.clone()], ..Default::default() };
        assert!(why(vec![two.encode_to_vec()]).contains("no single input"));
        let mut many = source("docker-image://a");
        many.inputs = vec![input; PARTS + 1];
        assert!(why(vec![many.encode_to_vec()]).contains("more than"));
        assert!(why(vec![Vec::new(); VERTICES + 1]).contains("more than"));
    }

    #[test]
    fn a_long_chain_is_ordered_without_recursion() {
        let mut draft = Draft::default();
        let mut top = draft.add(&source("docker-image://a"), pb::OpMetadata::default(), None);
        for _ in 0..VERTICES - 2 {
            let merge = pb::MergeOp { inputs: vec![pb::MergeInput { input: 0 }] };
            let op = pb::Op {
                inputs: vec![top.input()],
                op: Some(pb::op::Op::Merge(merge)),
                ..Default::default()
            };
            top = draft.add(&op, pb::OpMetadata::default(), None);
        }
        assert_eq!(Graph::read(&draft.definition(&top)).unwrap().vertices.len(), VERTICES - 1);
    }
}
