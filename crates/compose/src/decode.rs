//! The canonical tree into [`Value`]s, by the tables: casts, units, command lines.

use crate::{
    canonical,
    error::{Error, Result},
    node::{Data, Node, Path, wrong},
    shape::{Record, Shape, Zero},
    short,
    value::{Fields, Value},
};
use std::collections::BTreeMap;

/// Decodes a mapping with known keys.
pub(crate) fn record(node: &Node, of: &'static Record, path: &mut Path) -> Result<Fields> {
    let mut fields = Fields::new(of, &node.at);
    let Some(map) = node.as_map() else {
        return if node.is_null() { Ok(fields) } else { wrong(node, path, "must be a mapping") };
    };
    for (key, value) in map {
        let Some(field) = of.field(key) else {
            if key.starts_with("x-") {
                fields.extra.insert(key.clone(), any(value));
            }
            continue;
        };
        if field.zero == Zero::Drop || value.is_null() && !matches!(field.shape, Shape::Any) {
            continue;
        }
        path.push(key);
        let made = shape(value, &field.shape, path)?;
        path.pop();
        // What is left out when it says nothing is not kept either.
        let nothing = match field.shape {
            Shape::Size => made.as_str() == Some("0"),
            Shape::Span => made.as_str() == Some("0s"),
            _ => made.is_zero(),
        };
        if !nothing || matches!(field.zero, Zero::Keep | Zero::Null | Zero::Always) {
            fields.set.insert(field.name, made);
        }
    }
    for field in of.fields {
        if field.zero == Zero::Always && !fields.set.contains_key(field.name) {
            let nothing = match field.shape {
                Shape::Flag | Shape::Bool => Value::Bool(false),
                Shape::Whole(..) => Value::Int(0),
                Shape::Size => Value::Text("0".into()),
                _ => Value::Text(String::new()),
            };
            fields.set.insert(field.name, nothing);
        }
    }
    Ok(fields)
}

/// A value without a type, as it is.
pub(crate) fn any(node: &Node) -> Value {
    match &node.data {
        Data::Null => Value::Null,
        Data::Bool(value) => Value::Bool(*value),
        Data::Int(value) => Value::Int(*value),
        Data::Float(value) => Value::Float(*value),
        Data::Text(text) => Value::Text(text.clone()),
        Data::List(items) => Value::List(items.iter().map(any).collect()),
        Data::Map(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), any(v))).collect()),
    }
}

fn invalid<T>(node: &Node, path: &Path, why: &str, hint: &str) -> Result<T> {
    wrong(node, path, why).map_err(|e: Error| e.hint(hint))
}

fn shape(node: &Node, of: &'static Shape, path: &mut Path) -> Result<Value> {
    let text = || node.scalar().unwrap_or_default();
    Ok(match of {
        Shape::Any => any(node),
        Shape::Maybe(inner) | Shape::Short(_, inner) => return shape(node, inner, path),
        Shape::Text | Shape::Choice(_) | Shape::Policy | Shape::Lax => Value::Text(text()),
        Shape::Flag | Shape::Bool => Value::Bool(flag(node, path)?),
        Shape::External => match &node.data {
            Data::Map(_) => Value::Bool(true),
            _ => Value::Bool(flag(node, path)?),
        },
        Shape::Whole(least, most) => {
            let number = number(node, path)?;
            if number < *least || number > *most {
                let (word, bound) =
                    if number < *least { ("greater", least) } else { ("less", most) };
                return wrong(node, path, &format!("must be {word} than or equal to {bound}"));
            }
            Value::Int(number)
        }
        Shape::Number => Value::Int(number(node, path)?),
        Shape::Real => match text().parse::<f32>() {
            Ok(number) if number.is_finite() => Value::Real(number),
            _ => return invalid(node, path, "is not a number", "write for example 0.5"),
        },
        Shape::Size => match size(node) {
            Some(bytes) => Value::Text(bytes.to_string()),
            None => return invalid(node, path, "is not a size", "write for example 64m or 1.5g"),
        },
        Shape::Span => match span(&text()) {
            Some(nanos) => Value::Text(go_duration(nanos)),
            None => return invalid(node, path, "is not a duration", "write for example 1m30s"),
        },
        Shape::Command => match &node.data {
            Data::Text(line) => match short::words(line) {
                Some(words) => Value::List(words.into_iter().map(Value::Text).collect()),
                None => {
                    let why = "invalid command line string";
                    return invalid(node, path, why, "close its quotes, or write it as a list");
                }
            },
            _ => texts(node),
        },
        Shape::Test => match &node.data {
            Data::Text(line) => {
                Value::List(vec![Value::Text("CMD-SHELL".into()), Value::Text(line.clone())])
            }
            _ => texts(node),
        },
        Shape::Texts | Shape::Words | Shape::Laxes | Shape::OneOrMore => texts(node),
        Shape::Environment => {
            let mut out = BTreeMap::new();
            for (key, value) in canonical::pairs(node) {
                if key.ends_with(char::is_whitespace) {
                    let why =
                        format!("environment variable {key} is declared with a trailing space");
                    return Err(Error::at(&node.at, why));
                }
                out.insert(key, value.map_or(Value::Null, Value::Text));
            }
            Value::Map(out)
        }
        Shape::Pairs | Shape::Options => {
            let pairs = canonical::pairs(node).into_iter();
            Value::Map(pairs.map(|(k, v)| (k, Value::Text(v.unwrap_or_default()))).collect())
        }
        Shape::Hosts => hosts(node, path)?,
        Shape::Mode => {
            let mode = match &node.data {
                Data::Text(text) => i64::from_str_radix(text.trim_start_matches("0o"), 8).ok(),
                _ => number(node, path).ok(),
            };
            match mode {
                Some(mode) => Value::Text(format!("0{mode:o}")),
                None => return invalid(node, path, "is not a mode", "write for example 0440"),
            }
        }
        Shape::Count => match text().to_lowercase().as_str() {
            "all" => Value::Int(-1),
            other => match other.parse() {
                Ok(count) => Value::Int(count),
                Err(_) => {
                    return invalid(
                        node,
                        path,
                        "is not a number of devices",
                        "write a number or all",
                    );
                }
            },
        },
        Shape::Ssh => {
            let mut keys = Vec::new();
            for (id, file) in canonical::pairs(node) {
                keys.push(Value::Text(match file {
                    Some(file) if !file.is_empty() => format!("{id}: {file}"),
                    _ => id,
                }));
            }
            Value::List(keys)
        }
        Shape::Ulimit(record_of) => match &node.data {
            Data::Map(_) => Value::Fields(record(node, record_of, path)?),
            _ => Value::Int(number(node, path)?),
        },
        Shape::Each(inner) => {
            let mut out = Vec::new();
            for (at, item) in node.as_list().unwrap_or_default().iter().enumerate() {
                path.push(&at.to_string());
                out.push(shape(item, inner, path)?);
                path.pop();
            }
            Value::List(out)
        }
        Shape::Named(inner) => {
            let mut out = BTreeMap::new();
            for (key, value) in node.as_map().into_iter().flatten() {
                path.push(key);
                let made = if value.is_null() { Value::Null } else { shape(value, inner, path)? };
                path.pop();
                out.insert(key.clone(), made);
            }
            Value::Map(out)
        }
        Shape::Of(record_of) => Value::Fields(record(node, record_of, path)?),
    })
}

fn texts(node: &Node) -> Value {
    match &node.data {
        Data::List(items) => {
            Value::List(items.iter().filter_map(Node::scalar).map(Value::Text).collect())
        }
        _ => Value::List(node.scalar().into_iter().map(Value::Text).collect()),
    }
}

fn flag(node: &Node, path: &Path) -> Result<bool> {
    match &node.data {
        Data::Bool(value) => Ok(*value),
        Data::Text(text) => match text.to_lowercase().as_str() {
            "true" | "y" | "yes" | "on" => Ok(true),
            "false" | "n" | "no" | "off" => Ok(false),
            _ => invalid(node, path, &format!("invalid boolean: {text}"), "write true or false"),
        },
        _ => invalid(node, path, "is not a boolean", "write true or false"),
    }
}

fn number(node: &Node, path: &Path) -> Result<i64> {
    let number = match &node.data {
        Data::Int(value) => Some(*value),
        Data::Float(value) if value.abs() < 9e15 => Some(value.trunc() as i64),
        Data::Text(text) => text.trim_start_matches('+').parse().ok(),
        _ => None,
    };
    match number {
        Some(number) => Ok(number),
        None => invalid(node, path, "is not a whole number", "write digits only"),
    }
}

/// Bytes: a number, or one with a unit.
fn size(node: &Node) -> Option<i64> {
    match &node.data {
        Data::Int(bytes) => Some(*bytes),
        Data::Float(bytes) => Some(bytes.trunc() as i64),
        Data::Text(text) if text == "-1" => Some(-1),
        Data::Text(text) => base::units::parse_bytes(text).ok(),
        _ => None,
    }
}

/// Nanoseconds; beside Go's units there are days and weeks.
pub(crate) fn span(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let unit_end =
            behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        total += whole.parse::<i128>().unwrap_or(0) * nanos;
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            total += fraction.parse::<i128>().ok()? * nanos / scale;
        }
        rest = behind;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A duration as Go prints it: `1h0m30s`, `1.5ms`.
pub(crate) fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let decimal = |value: u64, unit: u64| {
        let (whole, part) = (value / unit, value % unit);
        let width = unit.to_string().len() - 1;
        let fraction = format!("{part:0width$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    };
    if n == 0 {
        return "0s".into();
    }
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    if n < 1_000_000 {
        return format!("{sign}{}µs", decimal(n, 1_000));
    }
    if n < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(n, 1_000_000));
    }
    let (hours, minutes) = (n / 3_600_000_000_000, n / 60_000_000_000 % 60);
    let seconds = decimal(n % 60_000_000_000, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn hosts(node: &Node, path: &Path) -> Result<Value> {
    let mut found: Vec<(String, String)> = Vec::new();
    match &node.data {
        Data::Map(map) => {
            for (host, value) in map {
                match &value.data {
                    Data::List(items) => found
                        .extend(items.iter().filter_map(Node::scalar).map(|ip| (host.clone(), ip))),
                    _ => found.push((host.clone(), value.scalar().unwrap_or_default())),
                }
            }
        }
        _ => {
            for text in node.as_list().unwrap_or_default().iter().filter_map(Node::as_str) {
                let Some((host, ips)) = text.split_once('=').or_else(|| text.split_once(':'))
                else {
                    let why = format!("invalid additional host, missing IP: {text}");
                    return invalid(node, path, &why, "write host=ip");
                };
                found.extend(ips.split(',').map(|ip| (host.to_owned(), ip.to_owned())));
            }
        }
    }
    let mut out = Vec::new();
    for (host, ip) in found {
        if host.is_empty() || host.contains([':', '=']) {
            return invalid(node, path, &format!("bad host name '{host}'"), "write host=ip");
        }
        let bare = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(&ip);
        out.push(format!("{host}={bare}"));
    }
    out.sort();
    Ok(Value::List(out.into_iter().map(Value::Text).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, want) in [
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.5ms", "1.5ms"),
            ("100us", "100µs"),
            ("1d", "24h0m0s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("1m0.25s", "1m0.25s"),
            ("-2s", "-2s"),
        ] {
            assert_eq!(go_duration(span(text).unwrap()), want, "{text}");
        }
        for bad in ["", "1", "x", "1x", ".s", "1.2.3s", "99999999999999999999h"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
