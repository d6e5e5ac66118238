//! A YAML file into trees of [`Node`]: documents, anchors, merge keys, `!reset` and `!override`.
//!
//! Flow: `saphyr-parser` gives events with places; [`documents`] puts them together. What `!reset` and `!override`
//! stand at is noted, to be taken from what the file is merged into.
//! Invariants: a file has at most [`MOST_BYTES`], a tree [`MOST_NODES`] (aliases counted each time) and
//! [`MOST_DEPTH`] levels; a key stands once in a mapping.
//! Source: YAML 1.2 and its merge keys; the Compose specification on `!reset` and `!override`.

use crate::{
    error::{At, Error, Result},
    node::{Data, Map, Node, Path},
    scalar::{self, Plain},
};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// The longest file.
const MOST_BYTES: usize = 8 << 20;
/// The most values of one file.
const MOST_NODES: usize = 200_000;
/// How deep values may lie in each other.
const MOST_DEPTH: usize = 64;

/// One document and what it says of the ones before it.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Node,
    /// What is taken away from what this is merged into.
    pub reset: Vec<Path>,
}

/// Reads all documents of a file.
pub(crate) fn documents(file: &Arc<str>, text: &str) -> Result<Vec<Document>> {
    if text.len() > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(Error::new(format!("{file}: the file is longer than {most} MiB")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader =
        Reader { file, events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    let mut out = Vec::new();
    loop {
        let (event, _) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(out),
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                let mut made = reader.value(event, span, 0)?;
                let mut reset = Vec::new();
                if made.strip(&mut Path::default(), &mut reset) {
                    out.push(Document { root: made.node(), reset });
                }
            }
            _ => {}
        }
    }
}

/// A value with its tag, before tags have done their work.
#[derive(Clone, Debug)]
struct Made {
    at: At,
    mark: Mark,
    data: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    None,
    Reset,
    Override,
}

#[derive(Clone, Debug)]
enum Shape {
    Leaf(Data),
    List(Vec<Made>),
    Map(Vec<(String, Made)>),
}

impl Made {
    /// Notes what is reset or overridden below; false when nothing of this stays.
    fn strip(&mut self, path: &mut Path, reset: &mut Vec<Path>) -> bool {
        match self.mark {
            Mark::Reset => {
                reset.push(path.clone());
                return false;
            }
            Mark::Override => {
                reset.push(path.clone());
                return true;
            }
            Mark::None => {}
        }
        let mut below = |key: &str, value: &mut Self| {
            path.push(key);
            let stays = value.strip(path, reset);
            path.pop();
            stays
        };
        match &mut self.data {
            Shape::Leaf(_) => {}
            Shape::List(items) => {
                let mut at = 0;
                items.retain_mut(|item| {
                    at += 1;
                    below(&(at - 1).to_string(), item)
                });
            }
            Shape::Map(entries) => entries.retain_mut(|(key, value)| below(key, value)),
        }
        true
    }

    fn node(self) -> Node {
        let data = match self.data {
            Shape::Leaf(data) => data,
            Shape::List(items) => Data::List(items.into_iter().map(Self::node).collect()),
            Shape::Map(entries) => {
                Data::Map(entries.into_iter().map(|(k, v)| (k, v.node())).collect::<Map>())
            }
        };
        Node { at: self.at, data }
    }

    fn size(&self) -> usize {
        1 + match &self.data {
            Shape::Leaf(_) => 0,
            Shape::List(items) => items.iter().map(Self::size).sum(),
            Shape::Map(entries) => entries.iter().map(|(_, v)| v.size()).sum(),
        }
    }
}

struct Reader<'a> {
    file: &'a Arc<str>,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Made>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn at(&self, mark: Marker) -> At {
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        At { file: self.file.clone(), line: small(mark.line()), column: small(mark.col() + 1) }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(err)) => {
                let at = self.at(*err.marker());
                Err(Error::at(&at, format!("failed to parse {}: yaml: {}", self.file, err.info())))
            }
            None => Err(Error::new(format!("{}: the file ends early", self.file))),
        }
    }

    fn count(&mut self, more: usize, at: &At) -> Result<()> {
        self.nodes += more;
        if self.nodes > MOST_NODES {
            return Err(Error::at(at, format!("more than {MOST_NODES} values in one file"))
                .hint("aliases count each time they are used"));
        }
        Ok(())
    }

    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Made> {
        let at = self.at(span.start);
        if depth > MOST_DEPTH {
            return Err(Error::at(&at, format!("more than {MOST_DEPTH} levels of nesting")));
        }
        match event {
            Event::Alias(id) => {
                let Some(made) = self.anchors.get(&id).cloned() else {
                    return Err(Error::at(
                        &at,
                        "cycle detected: an alias stands within its anchor",
                    ));
                };
                self.count(made.size(), &at)?;
                Ok(made)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, &at)?;
                let data = Shape::Leaf(leaf(text, style, tag.as_deref()));
                Ok(self.keep(anchor, Made { at, mark: mark(tag.as_deref()), data }))
            }
            Event::SequenceStart(anchor, tag) => {
                self.count(1, &at)?;
                let mut items = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break;
                    }
                    items.push(self.value(event, span, depth + 1)?);
                }
                let data = Shape::List(items);
                Ok(self.keep(anchor, Made { at, mark: mark(tag.as_deref()), data }))
            }
            Event::MappingStart(anchor, tag) => {
                self.count(1, &at)?;
                let data = Shape::Map(self.mapping(depth)?);
                Ok(self.keep(anchor, Made { at, mark: mark(tag.as_deref()), data }))
            }
            _ => Err(Error::at(&at, "a value is missing")),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(String, Made)>> {
        let mut entries: Vec<(String, Made)> = Vec::new();
        let mut places: HashMap<String, u32> = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.value(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let mut value = self.value(event, span, depth + 1)?;
            let name = match key.data {
                Shape::Leaf(Data::Text(name)) => name,
                Shape::Leaf(Data::Null) => "null".into(),
                Shape::Leaf(data) => {
                    let node = Node { at: key.at.clone(), data };
                    let text = node.scalar().unwrap_or_default();
                    return Err(Error::at(&key.at, format!("non-string key {text:?}"))
                        .hint(format!("write \"{text}\" in quotes")));
                }
                Shape::List(_) | Shape::Map(_) => {
                    return Err(Error::at(&key.at, "a mapping's key has to be a string"));
                }
            };
            if name == "<<" {
                merged.push(value);
                continue;
            }
            if let Some(line) = places.insert(name.clone(), key.at.line) {
                return Err(Error::at(
                    &key.at,
                    format!("mapping key {name:?} already defined at line {line}"),
                ));
            }
            value.at = key.at;
            entries.push((name, value));
        }
        for source in merged {
            merge(&mut entries, source)?;
        }
        Ok(entries)
    }

    fn keep(&mut self, anchor: usize, made: Made) -> Made {
        if anchor != 0 {
            self.anchors.insert(anchor, made.clone());
        }
        made
    }
}

/// `<<`: what is not there already; of several the first counts.
fn merge(entries: &mut Vec<(String, Made)>, source: Made) -> Result<()> {
    let wrong =
        |at: &At| Err(Error::at(at, "map merge requires map or sequence of maps as the value"));
    match source.data {
        Shape::Map(more) => {
            for (key, value) in more {
                if !entries.iter().any(|(k, _)| *k == key) {
                    entries.push((key, value));
                }
            }
            Ok(())
        }
        Shape::List(items) => {
            for item in items {
                if !matches!(item.data, Shape::Map(_)) {
                    return wrong(&item.at);
                }
                merge(entries, item)?;
            }
            Ok(())
        }
        Shape::Leaf(_) => wrong(&source.at),
    }
}

fn mark(tag: Option<&Tag>) -> Mark {
    match tag {
        Some(tag) if tag.handle == "!" && tag.suffix == "reset" => Mark::Reset,
        Some(tag) if tag.handle == "!" && tag.suffix == "override" => Mark::Override,
        _ => Mark::None,
    }
}

fn leaf(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Data {
    let quoted = style != ScalarStyle::Plain;
    let core = tag.filter(|t| t.is_yaml_core_schema()).map(|t| t.suffix.as_str());
    let own = tag.is_some() && core.is_none() && mark(tag) == Mark::None;
    if core == Some("str") || own || quoted && core.is_none() {
        return Data::Text(text.into_owned());
    }
    match scalar::resolve(&text) {
        Plain::Null => Data::Null,
        Plain::Bool(value) => Data::Bool(value),
        Plain::Int(value) if core == Some("float") => Data::Float(value as f64),
        Plain::Int(value) => Data::Int(value),
        Plain::Float(value) => Data::Float(value),
        Plain::Text | Plain::Big => Data::Text(text.into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Document>> {
        documents(&"f.yaml".into(), text)
    }

    fn refused(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn values_know_their_lines() {
        let documents = read("a: 1\nb:\n  - x\n  - {c: [true]}\n").unwrap();
        let root = &documents[0].root;
        assert_eq!(root.place(&["b", "1", "c"]).to_string(), "f.yaml:4:6");
        assert_eq!(root.get("a").unwrap().data, Data::Int(1));
    }

    #[test]
    fn merge_keys_and_anchors_are_resolved() {
        let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\n";
        let root = read(text).unwrap().remove(0).root;
        let z = root.get("z").unwrap();
        let number = |k: &str| z.get(k).unwrap().data.clone();
        assert_eq!([number("a"), number("b"), number("c")], [0, 2, 4].map(Data::Int));
    }

    #[test]
    fn resets_are_noted_and_taken_out() {
        let document = read("a: {b: !reset null, c: !override [1]}\n").unwrap().remove(0);
        assert_eq!(document.reset, [Path::of(&["a", "b"]), Path::of(&["a", "c"])]);
        assert!(document.root.get("a").unwrap().get("b").is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_line() {
        assert!(
            refused("a: 1\na: 2\n").starts_with("f.yaml:2:1: mapping key \"a\" already defined")
        );
        assert!(refused("a: &a [*a]\n").contains("cycle"));
        assert!(refused("a: [\n").contains("f.yaml:"));
        assert!(refused("1: a\n").contains("non-string key"));
        assert!(refused("a: {<<: 1}\n").contains("map merge"));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let all = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{all}]\n"));
        }
        assert!(refused(&bomb).contains("values in one file"));
        let deep = format!("{}x{}", "[".repeat(100), "]".repeat(100));
        assert!(refused(&format!("a: {deep}")).contains("nesting"));
        assert!(read(&format!("a: {}", "[".repeat(100_000))).is_err());
        assert!(refused(&"x".repeat(MOST_BYTES + 1)).contains("longer than"));
    }
}
