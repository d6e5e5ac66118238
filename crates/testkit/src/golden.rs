//! Recorded answers of a real dockerd, and what another engine's answer differs in.
//!
//! Values such as ids and times differ between runs, so the comparison is of shape: every key that
//! dockerd has must be there with the same type, `null`, `[]` and `{}` are three things, and words that
//! do not depend on the run must be equal. Recorded answers are normalised first: ids, times, paths
//! and addresses become `<id>`, `<time>`, `<path>`, `<address>`.

use serde_json::Value;

/// Differences between a recorded answer and ours, one line each, `path: what`.
///
/// Both sides are normalised. Keys that only we have are reported as well: an unknown key breaks no
/// client, but it has to be on the list of deliberate differences.
pub fn differences(recorded: &Value, ours: &Value) -> Vec<String> {
    let mut out = Vec::new();
    compare("", recorded, ours, &mut out);
    out
}

fn compare(path: &str, recorded: &Value, ours: &Value, out: &mut Vec<String>) {
    match (recorded, ours) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in a {
                let path = format!("{path}.{key}");
                match b.get(key) {
                    Some(other) => compare(&path, value, other, out),
                    None => out.push(format!("{path}: missing, dockerd has {}", brief(value))),
                }
            }
            for (key, value) in b {
                if !a.contains_key(key) {
                    out.push(format!("{path}.{key}: only ours, {}", brief(value)));
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if a.len() != b.len() {
                out.push(format!("{path}: {} entries, dockerd has {}", b.len(), a.len()));
            }
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{n}]"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{path}: {}, dockerd has {}", brief(b), brief(a))),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 120 {
        text
    } else {
        format!("{}...", text.chars().take(120).collect::<String>())
    }
}

/// Replaces what differs from run to run by words in angle brackets.
pub fn normalise(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let old = std::mem::take(map);
            for (key, mut value) in old {
                normalise(&mut value);
                if let ("Binds" | "Mounts", Value::Array(list)) = (key.as_str(), &mut value) {
                    list.sort_by_cached_key(place);
                }
                if is_time_key(&key) && value.is_number() {
                    value = Value::String("<time>".into());
                }
                map.insert(normal_text(&key), value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(normalise),
        Value::String(text) => *text = normal_text(text),
        _ => {}
    }
}

/// The place of a mount. dockerd and its command line hold mounts in maps, so their order says nothing.
fn place(mount: &Value) -> String {
    let text = mount["Destination"].as_str().map(str::to_owned);
    text.unwrap_or_else(|| mount.to_string())
}

fn is_time_key(key: &str) -> bool {
    matches!(key, "Created" | "time" | "timeNano" | "LastTagTime" | "Pid")
}

/// One text with ids, times, paths and addresses replaced.
pub fn normal_text(text: &str) -> String {
    if is_time(text) && !text.starts_with("0001-01-01") {
        return "<time>".into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let word: &str = &rest[..rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len())];
        if word.len() == 64 || (word.len() == 12 && word.bytes().any(|b| b.is_ascii_digit())) {
            out.push_str("<id>");
            rest = &rest[word.len()..];
        } else {
            let take = word.len().max(rest.chars().next().map_or(0, char::len_utf8));
            out.push_str(&rest[..take]);
            rest = &rest[take..];
        }
    }
    normal_addresses(&normal_paths(&out))
}

fn is_time(text: &str) -> bool {
    let b = text.as_bytes();
    b.len() >= 20
        && b[4] == b'-'
        && b[7] == b'-'
        && b[10] == b'T'
        && b[13] == b':'
        && b[..4].iter().all(u8::is_ascii_digit)
}

fn normal_paths(text: &str) -> String {
    match text.find("/gtk-") {
        None => text.to_owned(),
        Some(at) => {
            let start = text[..at].rfind(['=', ':', ' ', '"']).map_or(0, |n| n + 1);
            let end = text[at + 1..].find('/').map_or(text.len(), |n| at + 1 + n);
            format!("{}<path>{}", &text[..start], normal_paths(&text[end..]))
        }
    }
}

/// Addresses of a test's bridge (10.200. to 10.203.) and MAC addresses made of them.
fn normal_addresses(text: &str) -> String {
    let is_mac = text.len() == 17 && text.split(':').count() == 6;
    if is_mac {
        return "<mac>".into();
    }
    for prefix in ["10.200.", "10.201.", "10.202.", "10.203."] {
        if let Some(at) = text.find(prefix) {
            let end = text[at..]
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .map_or(text.len(), |n| at + n);
            return format!("{}<address>{}", &text[..at], normal_addresses(&text[end..]));
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn null_and_empty_are_three_things() {
        let found = differences(
            &json!({"a": null, "b": [], "c": {}}),
            &json!({"a": [], "b": {}, "c": null}),
        );
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(differences(&json!({"a": 1}), &json!({"a": 1})).is_empty());
    }

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        let id = "0123456789ab".repeat(6)[..64].to_owned();
        let mut value = json!({
            "Id": id, "Created": "2024-01-01T00:00:00.1Z", "FinishedAt": "0001-01-01T00:00:00Z",
            "Path": format!("/tmp/gtk-aBc/root/containers/{id}/x"), "IPAddress": "10.200.3.2",
            "Mac": "02:42:0a:c8:03:02",
        });
        normalise(&mut value);
        assert_eq!(
            value,
            json!({
                "Id": "<id>", "Created": "<time>", "FinishedAt": "0001-01-01T00:00:00Z",
                "Path": "<path>/root/containers/<id>/x", "IPAddress": "<address>", "Mac": "<mac>",
            })
        );
    }
}
