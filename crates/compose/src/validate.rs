//! Holds a merged file to the tables: unknown keys, wrong types, missing keys, each with its place and a hint.

use crate::{
    error::{Error, Result, meant, suggest},
    node::{Data, Node, Path, wrong},
    shape::{Record, Shape},
    tables,
};

/// Checks a whole file.
pub(crate) fn project(node: &Node) -> Result<()> {
    record(node, &tables::PROJECT, &mut Path::default())
}

fn record(node: &Node, of: &'static Record, path: &mut Path) -> Result<()> {
    let Some(map) = node.as_map() else { return mistyped(node, path, "mapping") };
    for (key, value) in map {
        let Some(field) = of.field(key) else {
            if of.open && key.starts_with("x-") {
                continue;
            }
            return unknown(value, key, of, path);
        };
        path.push(key);
        shape(value, &field.shape, path)?;
        path.pop();
    }
    for name in of.required {
        if !map.contains_key(*name) {
            return wrong(node, path, &format!("missing property '{name}'"));
        }
    }
    Ok(())
}

fn unknown(value: &Node, key: &str, of: &'static Record, path: &Path) -> Result<()> {
    let text = format!("{} additional properties '{key}' not allowed", path.text());
    let mut hint = suggest(key, of.fields.iter().map(|f| f.name));
    let at_top = std::ptr::eq(of, &raw const tables::PROJECT);
    if at_top && (tables::SERVICE.field(key).is_some() || value.get("image").is_some()) {
        hint = "services stand below \"services:\"; is it indented too little?".into();
    } else if std::ptr::eq(of, &raw const tables::SERVICE)
        && meant(key, of.fields.iter().map(|f| f.name)).is_none()
        && value.as_map().is_some()
    {
        hint = "if it is a service, it is indented too much".into();
    }
    Err(Error::at(&value.at, text.trim_start()).hint(hint))
}

fn mistyped<T>(node: &Node, path: &Path, want: &str) -> Result<T> {
    Err(Error::at(&node.at, format!("{} must be a {want}", path.text()).trim_start())
        .hint(format!("it is a {}", node.kind())))
}

/// What a shape takes, in words.
fn wanted(of: &Shape) -> &'static str {
    match of {
        Shape::Text | Shape::Choice(_) | Shape::Policy | Shape::Span => "string",
        Shape::Lax | Shape::Number | Shape::Real | Shape::Size | Shape::Mode => "number or string",
        Shape::Flag => "boolean or string",
        Shape::Bool => "boolean",
        Shape::Whole(..) | Shape::Count => "integer or string",
        Shape::Command => "array, null or string",
        Shape::Test | Shape::OneOrMore => "array or string",
        Shape::Texts | Shape::Words | Shape::Laxes | Shape::Each(_) => "array",
        Shape::Environment | Shape::Pairs | Shape::Hosts | Shape::Ssh => "array or mapping",
        Shape::Options | Shape::Named(_) | Shape::Of(_) => "mapping",
        Shape::External => "boolean, mapping or string",
        Shape::Ulimit(_) => "integer, mapping or string",
        Shape::Maybe(inner) => wanted(inner),
        Shape::Short(short, long) => match (wanted(short), wanted(long)) {
            ("string", "array") => "array or string",
            ("string", "mapping") => "mapping or string",
            ("array", "mapping") => "array or mapping",
            ("number or string", "mapping") => "mapping, number or string",
            (_, long) => long,
        },
        Shape::Any => "value",
    }
}

fn shape(node: &Node, of: &'static Shape, path: &mut Path) -> Result<()> {
    let is_scalar = !matches!(node.data, Data::Null | Data::List(_) | Data::Map(_));
    let is_number = matches!(node.data, Data::Int(_) | Data::Float(_));
    let is_text = matches!(node.data, Data::Text(_));
    let fits = match of {
        Shape::Any => return Ok(()),
        Shape::Maybe(inner) => {
            return if node.is_null() { Ok(()) } else { shape(node, inner, path) };
        }
        Shape::Text | Shape::Span => is_text,
        Shape::Choice(all) => {
            if let Data::Text(text) = &node.data
                && !all.contains(&text.as_str())
            {
                let list = all.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", ");
                return wrong(node, path, &format!("value must be one of {list}"))
                    .map_err(|e: Error| e.hint(suggest(text, all.iter().copied())));
            }
            is_text
        }
        Shape::Policy => {
            if let Data::Text(text) = &node.data {
                policy(node, text, path)?;
            }
            is_text
        }
        Shape::Lax => is_scalar,
        Shape::Number | Shape::Real | Shape::Size | Shape::Mode => is_number || is_text,
        Shape::Flag => is_text || matches!(node.data, Data::Bool(_)),
        Shape::Bool => matches!(node.data, Data::Bool(_)),
        Shape::Whole(least, most) => {
            if let Data::Int(number) = node.data {
                let bound = if number < *least {
                    Some(("greater", least))
                } else if number > *most {
                    Some(("less", most))
                } else {
                    None
                };
                if let Some((word, bound)) = bound {
                    return wrong(node, path, &format!("must be {word} than or equal to {bound}"));
                }
            }
            is_text || matches!(node.data, Data::Int(_)) || whole(node)
        }
        Shape::Count => is_text || matches!(node.data, Data::Int(_)),
        Shape::Command => node.is_null() || is_text || strings(node, path)?,
        Shape::Test | Shape::OneOrMore => is_text || strings(node, path)?,
        Shape::Texts => distinct(node, path)? && strings(node, path)?,
        Shape::Words => strings(node, path)?,
        Shape::Laxes => {
            distinct(node, path)?;
            items(node, path, "string or number", |n| n.scalar().is_some())?
        }
        Shape::Environment | Shape::Pairs | Shape::Ssh => match &node.data {
            Data::Map(map) => {
                for (key, value) in map {
                    if matches!(value.data, Data::List(_) | Data::Map(_)) {
                        let path = path.next(key);
                        return mistyped(value, &path, "boolean, null, number or string");
                    }
                }
                true
            }
            _ => strings(node, path)?,
        },
        Shape::Hosts => match &node.data {
            Data::Map(map) => {
                for (key, value) in map {
                    if !matches!(value.data, Data::Text(_) | Data::List(_)) {
                        return mistyped(value, &path.next(key), "array or string");
                    }
                }
                true
            }
            _ => strings(node, path)?,
        },
        Shape::Options => match &node.data {
            Data::Map(map) => {
                for (key, value) in map {
                    if matches!(value.data, Data::List(_) | Data::Map(_)) {
                        return mistyped(value, &path.next(key), "number or string");
                    }
                }
                true
            }
            _ => false,
        },
        Shape::External => is_text || matches!(node.data, Data::Bool(_) | Data::Map(_)),
        Shape::Ulimit(record_of) => match &node.data {
            Data::Map(_) => return record(node, record_of, path),
            _ => is_text || matches!(node.data, Data::Int(_)),
        },
        Shape::Each(inner) => {
            let Some(list) = node.as_list() else { return mistyped(node, path, "array") };
            for (at, item) in list.iter().enumerate() {
                path.push(&at.to_string());
                shape(item, inner, path)?;
                path.pop();
            }
            true
        }
        Shape::Named(inner) => {
            let Some(map) = node.as_map() else { return mistyped(node, path, "mapping") };
            for (key, value) in map {
                name(value, key, path)?;
                path.push(key);
                shape(value, inner, path)?;
                path.pop();
            }
            true
        }
        Shape::Of(record_of) => return record(node, record_of, path),
        Shape::Short(short, long) => {
            return match (&node.data, long) {
                (Data::Map(_), Shape::Of(_) | Shape::Named(_))
                | (Data::List(_), Shape::Each(_)) => shape(node, long, path),
                (Data::Map(_) | Data::Null, _) => mistyped(node, path, wanted(of)),
                (Data::List(_), _) if matches!(short, Shape::Texts) => shape(node, short, path),
                (Data::List(_), _) => mistyped(node, path, wanted(of)),
                _ if matches!(short, Shape::Texts) => mistyped(node, path, wanted(of)),
                _ => shape(node, short, path).map_err(|_| {
                    mistyped::<()>(node, path, wanted(of)).err().unwrap_or_else(|| Error::new(""))
                }),
            };
        }
    };
    if fits { Ok(()) } else { mistyped(node, path, wanted(of)) }
}

/// A whole number written with a point.
fn whole(node: &Node) -> bool {
    matches!(node.data, Data::Float(number) if number.fract() == 0.0)
}

/// Names of services, networks and so on.
fn name(value: &Node, name: &str, path: &Path) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !name.is_empty() && name.bytes().all(fits) {
        return Ok(());
    }
    let text = format!("{} additional properties '{name}' not allowed", path.text());
    Err(Error::at(&value.at, text).hint("a name is made of letters, digits, '.', '_' and '-'"))
}

fn strings(node: &Node, path: &Path) -> Result<bool> {
    items(node, path, "string", |n| n.as_str().is_some())
}

fn items(node: &Node, path: &Path, want: &str, fits: impl Fn(&Node) -> bool) -> Result<bool> {
    let Some(list) = node.as_list() else { return Ok(false) };
    for (at, item) in list.iter().enumerate() {
        if !fits(item) {
            let path = path.next(&at.to_string());
            let err: Result<bool> = mistyped(item, &path, want);
            return match item.scalar() {
                Some(text) => err.map_err(|e| e.hint(format!("write \"{text}\" in quotes"))),
                None => err,
            };
        }
    }
    Ok(true)
}

fn distinct(node: &Node, path: &Path) -> Result<bool> {
    let Some(list) = node.as_list() else { return Ok(false) };
    for (at, item) in list.iter().enumerate() {
        if let Some(first) = list[..at].iter().position(|i| i == item) {
            return wrong(item, path, &format!("items at {first} and {at} are equal"));
        }
    }
    Ok(true)
}

fn policy(node: &Node, text: &str, path: &Path) -> Result<()> {
    const WORDS: &[&str] =
        &["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    if WORDS.iter().any(|w| text.contains(w)) || text.starts_with("every_") {
        return Ok(());
    }
    wrong(node, path, "does not match a pull policy")
        .map_err(|e: Error| e.hint(suggest(text, WORDS.iter().copied())))
}
