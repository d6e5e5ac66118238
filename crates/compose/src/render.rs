//! Values as JSON and YAML, byte for byte as docker compose prints them: keys in the tables' order, users' keys
//! sorted, strings quoted where it quotes them.

use crate::{
    scalar,
    shape::{Record, Zero},
    tables,
    value::{Fields, Value},
};
use std::{cmp::Ordering, collections::BTreeMap};

/// Compact JSON, as Go's encoder writes it (`<`, `>` and `&` are escaped).
pub(crate) fn json(value: &Value) -> String {
    let mut out = String::new();
    json_value(value, &mut out);
    out
}

fn json_value(value: &Value, out: &mut String) {
    if let Some(path) = plain_env_file(value) {
        return json_text(path, out);
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) => out.push_str(&scalar::go_float(*value)),
        Value::Real(value) => out.push_str(&scalar::json_float(*value)),
        Value::Text(text) => json_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json_value(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                json_text(key, out);
                out.push(':');
                json_value(value, out);
            }
            out.push('}');
        }
        Value::Fields(fields) => json_fields(fields, out),
    }
}

/// The path of an `env_file` that has to be there.
fn plain_env_file(value: &Value) -> Option<&str> {
    let fields = value.as_fields()?;
    let is_plain = std::ptr::eq(fields.of, &raw const tables::ENV_FILE) && fields.flag("required");
    is_plain.then(|| fields.text("path"))
}

fn json_fields(fields: &Fields, out: &mut String) {
    json_record(fields.of, Some(fields), out);
}

fn json_record(of: &'static Record, fields: Option<&Fields>, out: &mut String) {
    let capital = std::ptr::eq(of, &raw const tables::WEIGHT)
        || std::ptr::eq(of, &raw const tables::THROTTLE);
    out.push('{');
    let mut first = true;
    for field in of.fields {
        let value = fields.and_then(|f| f.get(field.name));
        if value.is_none() && !matches!(field.zero, Zero::Null | Zero::Braces) {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        let mut name = field.name.to_owned();
        if capital {
            name[..1].make_ascii_uppercase();
        }
        json_text(&name, out);
        out.push(':');
        match (value, &field.shape) {
            (Some(value), _) => json_value(value, out),
            (None, crate::shape::Shape::Of(inner)) => json_record(inner, None, out),
            (None, _) => out.push_str("null"),
        }
    }
    out.push('}');
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// JSON with two spaces for each level.
pub(crate) fn indented(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut letters = compact.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    while let Some(letter) = letters.next() {
        if in_text {
            out.push(letter);
            in_text = escaped || letter != '"';
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            '"' => {
                in_text = true;
                out.push(letter);
            }
            '{' | '[' => {
                out.push(letter);
                if let Some(close) = letters.next_if(|c| *c == '}' || *c == ']') {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(letter),
        }
    }
    out
}

/// YAML as `docker compose config` prints it.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Fields(_) | Value::Map(_) if !value.is_zero() => {
            yaml_block(value, 0, true, &mut out);
        }
        _ => {
            yaml_value(value, 0, &mut out);
            let text = out.trim_start().to_owned();
            out = text;
        }
    }
    out
}

fn yaml_entries(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Map(map) => sorted(map),
        Value::Fields(fields) => {
            let known = fields.of.fields.iter();
            let mut all: Vec<(String, &Value)> =
                known.filter_map(|f| Some((f.name.to_owned(), fields.get(f.name)?))).collect();
            all.extend(sorted(&fields.extra));
            all
        }
        _ => Vec::new(),
    }
}

fn sorted(map: &BTreeMap<String, Value>) -> Vec<(String, &Value)> {
    let mut all: Vec<(String, &Value)> = map.iter().map(|(k, v)| (k.clone(), v)).collect();
    all.sort_by(|(a, _), (b, _)| natural(a, b));
    all
}

/// A mapping, each entry on its own line; the first one is where we are when `indented_first` is false.
fn yaml_block(value: &Value, depth: usize, indented_first: bool, out: &mut String) {
    for (at, (key, value)) in yaml_entries(value).into_iter().enumerate() {
        if at > 0 || indented_first {
            out.push_str(&" ".repeat(depth));
        }
        yaml_text(&key, depth, true, out);
        out.push(':');
        yaml_value(value, depth, out);
    }
}

/// What stands behind a key or a dash, and the end of its line.
fn yaml_value(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str(" null\n"),
        Value::Bool(value) => out.push_str(&format!(" {value}\n")),
        Value::Int(value) => out.push_str(&format!(" {value}\n")),
        Value::Float(value) => out.push_str(&format!(" {}\n", scalar::go_float(*value))),
        Value::Real(value) => out.push_str(&format!(" {}\n", scalar::yaml_float(*value))),
        Value::Text(text) => {
            out.push(' ');
            yaml_text(text, depth, false, out);
            out.push('\n');
        }
        Value::List(items) if items.is_empty() => out.push_str(" []\n"),
        Value::List(items) => {
            out.push('\n');
            yaml_list(items, depth + 2, out);
        }
        Value::Map(_) | Value::Fields(_) if yaml_entries(value).is_empty() => {
            out.push_str(" {}\n");
        }
        Value::Map(_) | Value::Fields(_) => {
            out.push('\n');
            yaml_block(value, depth + 2, true, out);
        }
    }
}

fn yaml_list(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        out.push_str(&" ".repeat(depth));
        out.push('-');
        if let Some(path) = plain_env_file(item) {
            yaml_value(&Value::Text(path.to_owned()), depth, out);
            continue;
        }
        match item {
            Value::Map(_) | Value::Fields(_) if !yaml_entries(item).is_empty() => {
                out.push(' ');
                yaml_block(item, depth + 2, false, out);
            }
            Value::List(inner) if !inner.is_empty() => {
                let mut below = String::new();
                yaml_list(inner, depth + 2, &mut below);
                out.push(' ');
                out.push_str(below.trim_start_matches(' '));
            }
            _ => yaml_value(item, depth, out),
        }
    }
}

fn yaml_text(text: &str, depth: usize, is_key: bool, out: &mut String) {
    let facts = Facts::of(text);
    if text.contains('\n') {
        if is_key || !facts.block {
            return double_quoted(text, out);
        }
        return literal(text, depth, out);
    }
    if scalar::is_ambiguous(text) {
        return double_quoted(text, out);
    }
    if facts.plain {
        out.push_str(text);
    } else if facts.single {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
    } else {
        double_quoted(text, out);
    }
}

fn literal(text: &str, depth: usize, out: &mut String) {
    out.push('|');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text == "\n" || text.ends_with("\n\n") {
        out.push('+');
    }
    let body = text.strip_suffix('\n').unwrap_or(text);
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&" ".repeat(depth + 2));
            out.push_str(line);
        }
    }
}

fn double_quoted(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        let code = u32::from(letter);
        match letter {
            '\0' => out.push_str("\\0"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\x1b' => out.push_str("\\e"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            _ if printable(letter) => out.push(letter),
            _ if code <= 0xff => out.push_str(&format!("\\x{code:02X}")),
            _ if code <= 0xffff => out.push_str(&format!("\\u{code:04X}")),
            _ => out.push_str(&format!("\\U{code:08X}")),
        }
    }
    out.push('"');
}

fn printable(letter: char) -> bool {
    let code = u32::from(letter);
    letter == '\n'
        || (0x20..=0x7e).contains(&code)
        || (0xa0..=0xd7ff).contains(&code)
        || (0xe000..=0xfffd).contains(&code) && code != 0xfeff
}

/// Which ways of writing a string are open to it.
struct Facts {
    plain: bool,
    single: bool,
    block: bool,
}

impl Facts {
    fn of(text: &str) -> Self {
        let letters: Vec<char> = text.chars().collect();
        let blank = |c: Option<&char>| c.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut tabs, mut breaks) = (false, false, false);
        let (mut space_break, mut break_space) = (false, false);
        for (at, letter) in letters.iter().enumerate() {
            let followed = blank(letters.get(at + 1));
            let before = at.checked_sub(1).and_then(|p| letters.get(p));
            let preceded = at == 0 || blank(before);
            match letter {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"'
                | '%' | '@' | '`'
                    if at == 0 =>
                {
                    indicators = true;
                }
                '?' | '-' if at == 0 && followed => indicators = true,
                ':' if followed => indicators = true,
                '#' if preceded => indicators = true,
                _ => {}
            }
            match letter {
                '\t' => tabs = true,
                '\n' => {
                    breaks = true;
                    space_break |= before == Some(&' ');
                }
                ' ' => break_space |= before == Some(&'\n'),
                c if !printable(*c) => special = true,
                _ => {}
            }
        }
        let edge = |c: Option<&char>| matches!(c, Some(' ' | '\n'));
        let edges = edge(letters.first()) || edge(letters.last());
        let odd = space_break || tabs || special;
        Self {
            plain: !(edges || break_space || odd || breaks || indicators),
            single: !(break_space || odd),
            block: letters.last() != Some(&' ') && !space_break && !special,
        }
    }
}

/// The order of keys: letters behind other characters, numbers by their value.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    if natural_less(a, b) {
        Ordering::Less
    } else if natural_less(b, a) {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

fn natural_less(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut digits = false;
    for i in 0..a.len().min(b.len()) {
        if a[i] == b[i] {
            digits = a[i].is_numeric();
            continue;
        }
        match (a[i].is_alphabetic(), b[i].is_alphabetic()) {
            (true, true) => return a[i] < b[i],
            (false, false) => {}
            (is_letter, other) => return if digits { is_letter } else { other },
        }
        let lead = (a[i] == '0' || b[i] == '0')
            && a[..i].iter().rev().take_while(|c| c.is_numeric()).any(|c| *c != '0');
        let number = |of: &[char]| {
            let run = of[i..].iter().take_while(|c| c.is_numeric());
            run.fold((i64::from(lead), i), |(n, end), c| {
                let digit = c.to_digit(10).map_or(0, i64::from);
                (n.wrapping_mul(10).wrapping_add(digit), end + 1)
            })
        };
        let ((an, ai), (bn, bi)) = (number(&a), number(&b));
        if an != bn {
            return an < bn;
        }
        if ai != bi {
            return ai < bi;
        }
        return a[i] < b[i];
    }
    a.len() < b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = String::new();
        yaml_text(text, 0, false, &mut out);
        out
    }

    #[test]
    fn strings_are_quoted_where_compose_quotes_them() {
        for (text, want) in [
            ("a b", "a b"),
            ("", "\"\""),
            ("yes", "\"yes\""),
            ("80", "\"80\""),
            ("a: b", "'a: b'"),
            ("a:b", "a:b"),
            ("it's", "it's"),
            ("'q", "'''q'"),
            ("- x", "'- x'"),
            ("-x", "-x"),
            (" x", "' x'"),
            ("a\tb", "\"a\\tb\""),
            ("a\nb", "|-\n  a\n  b"),
            ("a\nb\n", "|\n  a\n  b"),
            ("a #b", "'a #b'"),
            ("*", "'*'"),
            ("é😀", "\"é\\U0001F600\""),
        ] {
            assert_eq!(written(text), want, "{text:?}");
        }
    }

    #[test]
    fn keys_are_in_their_natural_order() {
        let mut keys = ["b10", "b9", "a", "_x", "B", "a-b", "ab", "x1y", "x01y"];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(keys, ["_x", "B", "a", "a-b", "ab", "b9", "b10", "x1y", "x01y"]);
    }

    #[test]
    fn json_is_indented_without_touching_strings() {
        assert_eq!(
            indented("{\"a\":{},\"b\":[1,\"x,{\\\"\"]}"),
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"x,{\\\"\"\n  ]\n}"
        );
    }
}
