//! Short forms: `8080:80/tcp`, `./data:/data:ro`, `/dev/a:/dev/b:rw`.
//!
//! Source: the Compose specification; docker compose 2.40.3. As there, a single letter before a colon is a Windows
//! drive, not a volume's name.

use crate::{
    error::{At, Error, Result},
    node::{Data, Node},
};
use std::net::IpAddr;

/// The most ports that one line may stand for.
const MOST_PORTS: u32 = 65_536;

/// `[[ip:]published:]target[/protocol]`, each of the ports perhaps a range.
pub(crate) fn ports(at: &At, text: &str) -> Result<Vec<Node>> {
    let wrong = |why: String| Error::at(at, why).hint("write [[ip:]published:]target[/protocol]");
    let (front, target) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, published) = front.rsplit_once(':').unwrap_or(("", front));
    let (target, protocol) = target.split_once('/').unwrap_or((target, "tcp"));
    if target.is_empty() {
        return Err(wrong(format!("no port specified: {text}<empty>")));
    }
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(wrong(format!("invalid proto: {protocol}")));
    }
    let ip = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(wrong(format!("invalid IP address: {ip}")));
    }
    let (first, last) =
        range(target).ok_or_else(|| wrong(format!("invalid containerPort: {target}")))?;
    let host = match published {
        "" => None,
        _ => Some(range(published).ok_or_else(|| wrong(format!("invalid hostPort: {published}")))?),
    };
    let count = u32::from(last - first) + 1;
    if let Some((from, to)) = host
        && to - from != last - first
        && count > 1
    {
        return Err(wrong(format!(
            "invalid ranges specified for container and host Ports: {target} and {published}"
        )));
    }
    debug_assert!(count <= MOST_PORTS);
    let mut all: Vec<u16> = (first..=last).collect();
    // They are known by "80/tcp", and sorted so.
    all.sort_by_key(|p| format!("{p}/{protocol}"));
    let made = all.into_iter().map(|port| {
        let mut entries = vec![
            ("mode", Node::text(at, "ingress")),
            ("protocol", Node::text(at, protocol.clone())),
            ("target", Node { at: at.clone(), data: Data::Int(port.into()) }),
        ];
        if !ip.is_empty() {
            entries.push(("host_ip", Node::text(at, ip)));
        }
        if let Some((from, to)) = host {
            let published = if count == 1 && to != from {
                format!("{from}-{to}")
            } else {
                (from + (port - first)).to_string()
            };
            entries.push(("published", Node::text(at, published)));
        }
        Node::map(at, entries)
    });
    Ok(made.collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |s: &str| s.parse::<u16>().ok().filter(|_| s.bytes().all(|b| b.is_ascii_digit()));
    match text.split_once('-') {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            (from <= to).then_some((from, to))
        }
        None => number(text).map(|n| (n, n)),
    }
}

/// `[source:]target[:options]`.
pub(crate) fn volume(at: &At, text: &str) -> Result<Node> {
    let wrong = |why: &str| {
        Error::at(at, format!("invalid spec: {text}: {why}"))
            .hint("write [source:]target[:options]")
    };
    if text.is_empty() {
        return Err(Error::at(at, "invalid empty volume spec"));
    }
    let parts: Vec<String> = if text.len() < 3 { vec![text.to_owned()] } else { split(text) };
    if parts.iter().any(String::is_empty) {
        return Err(wrong("empty section between colons"));
    }
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", target.as_str(), ""),
        [source, target] => (source.as_str(), target.as_str(), ""),
        [source, target, options] => (source.as_str(), target.as_str(), options.as_str()),
        _ => return Err(wrong("too many colons")),
    };
    let (mut read_only, mut nocopy) = (false, false);
    let mut bind: Vec<(&'static str, Node)> = Vec::new();
    for option in options.split(',') {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "nocopy" => nocopy = true,
            "z" | "Z" => bind.push(("selinux", Node::text(at, option))),
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                bind.push(("propagation", Node::text(at, option)));
            }
            _ => {}
        }
    }
    let is_path = is_file_path(source);
    let mut entries = vec![
        ("type", Node::text(at, if is_path { "bind" } else { "volume" })),
        ("target", Node::text(at, clean(target))),
    ];
    if !source.is_empty() {
        entries.push(("source", Node::text(at, source)));
    }
    if read_only {
        entries.push(("read_only", Node::bool(at, true)));
    }
    if is_path {
        bind.push(("create_host_path", Node::bool(at, true)));
    }
    if !bind.is_empty() {
        entries.push(("bind", Node::map(at, bind)));
    }
    if nocopy || !is_path {
        let inner = nocopy.then(|| ("nocopy", Node::bool(at, true)));
        entries.push(("volume", Node::map(at, inner)));
    }
    Ok(Node::map(at, entries))
}

fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    // Colons of a variable that is still to be completed are its own.
    let mut braces = 0_usize;
    for letter in text.chars() {
        let Some(last) = parts.last_mut() else { break };
        let drive = last.len() == 1 && last.starts_with(char::is_alphabetic);
        match letter {
            '{' if braces > 0 || last.ends_with('$') => braces += 1,
            '}' => braces = braces.saturating_sub(1),
            _ => {}
        }
        if letter == ':' && !drive && braces == 0 {
            parts.push(String::new());
        } else {
            last.push(letter);
        }
    }
    parts
}

/// Whether a volume's source is a path, not a name.
fn is_file_path(source: &str) -> bool {
    let mut letters = source.chars();
    let drive = letters.next().is_some_and(char::is_alphabetic) && letters.next() == Some(':');
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || drive
}

/// A path without `.`, `..` and double slashes, as text.
pub(crate) fn clean(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// `source[:target[:permissions]]`.
pub(crate) fn device(at: &At, text: &str) -> Result<Node> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => {
            let text = format!("confusing device mapping, please use long syntax: {text}");
            return Err(Error::at(at, text).hint("write source:target:permissions"));
        }
    };
    let target = if target.is_empty() { source } else { target };
    Ok(Node::map(
        at,
        [
            ("source", Node::text(at, source)),
            ("target", Node::text(at, target)),
            ("permissions", Node::text(at, permissions)),
        ],
    ))
}

/// Splits a command line into words as a shell does, without variables; `None` when quotes do not close.
pub(crate) fn words(line: &str) -> Option<Vec<String>> {
    #[derive(PartialEq)]
    enum Got {
        Nothing,
        Bare,
        Quoted,
    }
    let (mut out, mut word, mut got) = (Vec::new(), String::new(), Got::Nothing);
    let (mut escaped, mut single, mut double, mut back, mut dollar) =
        (false, false, false, false, false);
    for letter in line.chars() {
        if escaped {
            word.push(letter);
            escaped = false;
            got = Got::Bare;
            continue;
        }
        match letter {
            '\\' if single => word.push(letter),
            '\\' => escaped = true,
            ' ' | '\t' | '\r' | '\n' if single || double || back || dollar => word.push(letter),
            ' ' | '\t' | '\r' | '\n' => {
                if got != Got::Nothing {
                    out.push(std::mem::take(&mut word));
                    got = Got::Nothing;
                }
            }
            '"' if !single && !dollar => {
                if double {
                    got = Got::Quoted;
                }
                double = !double;
            }
            '\'' if !double && !dollar => {
                if single {
                    got = Got::Quoted;
                }
                single = !single;
            }
            _ => {
                let free = !single && !double;
                match letter {
                    '`' if free && !dollar => back = !back,
                    ')' if free && !back => dollar = !dollar,
                    '(' if free && !back => {
                        if dollar || !word.ends_with('$') {
                            return None;
                        }
                        dollar = true;
                        word.push('(');
                        continue;
                    }
                    // compat(compose 2.40): what a shell would do more with ends the line.
                    ';' | '&' | '|' | '<' | '>' if free && !back && !dollar => {
                        if letter == '>' && word.starts_with(|c: char| c.is_ascii_digit()) {
                            got = Got::Nothing;
                        }
                        break;
                    }
                    _ => {}
                }
                got = Got::Bare;
                word.push(letter);
            }
        }
    }
    if got != Got::Nothing {
        out.push(word);
    }
    (!(escaped || single || double || back || dollar)).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> At {
        At { file: "f".into(), line: 1, column: 1 }
    }

    fn shown(node: &Node) -> String {
        let mut out = Vec::new();
        for (key, value) in node.as_map().unwrap() {
            let value = value.scalar().unwrap_or_else(|| format!("{{{}}}", shown(value)));
            out.push(format!("{key}={value}"));
        }
        out.join(" ")
    }

    fn port(text: &str) -> String {
        match ports(&at(), text) {
            Ok(all) => all.iter().map(shown).collect::<Vec<_>>().join(" | "),
            Err(err) => err.to_string().lines().next().unwrap().to_owned(),
        }
    }

    #[test]
    fn ports_are_read_in_all_forms() {
        for (text, want) in [
            ("80", "mode=ingress protocol=tcp target=80"),
            ("8080:80/udp", "mode=ingress protocol=udp published=8080 target=80"),
            ("127.0.0.1::80", "host_ip=127.0.0.1 mode=ingress protocol=tcp target=80"),
            ("[::1]:1:2", "host_ip=::1 mode=ingress protocol=tcp published=1 target=2"),
            ("1-2:80", "mode=ingress protocol=tcp published=1-2 target=80"),
            (
                "1-2:9-10",
                "mode=ingress protocol=tcp published=2 target=10 | mode=ingress protocol=tcp published=1 target=9",
            ),
            (
                "1-3:9-10",
                "f:1:1: invalid ranges specified for container and host Ports: 9-10 and 1-3",
            ),
            ("80/foo", "f:1:1: invalid proto: foo"),
            ("x:80", "f:1:1: invalid hostPort: x"),
            ("99999", "f:1:1: invalid containerPort: 99999"),
            ("1.2.3:1:1", "f:1:1: invalid IP address: 1.2.3"),
            ("1:", "f:1:1: no port specified: 1:<empty>"),
        ] {
            assert_eq!(port(text), want, "{text}");
        }
    }

    #[test]
    fn volumes_are_read_in_all_forms() {
        let show = |text: &str| match volume(&at(), text) {
            Ok(node) => shown(&node),
            Err(err) => err.to_string().lines().next().unwrap().to_owned(),
        };
        for (text, want) in [
            ("/data", "target=/data type=volume volume={}"),
            ("named:/data/", "source=named target=/data type=volume volume={}"),
            (
                "./a:/b:ro,z",
                "bind={create_host_path=true selinux=z} read_only=true source=./a target=/b type=bind",
            ),
            ("n:/b:nocopy", "target=n:/b type=volume volume={}"),
            ("nn:/b:nocopy", "source=nn target=/b type=volume volume={nocopy=true}"),
            ("a1:/b:rw:x", "f:1:1: invalid spec: a1:/b:rw:x: too many colons"),
            ("aa::/b", "f:1:1: invalid spec: aa::/b: empty section between colons"),
        ] {
            if text == "n:/b:nocopy" {
                // A drive letter.
                assert!(show(text).contains("source=n:/b"), "{}", show(text));
                continue;
            }
            assert_eq!(show(text), want, "{text}");
        }
    }

    #[test]
    fn command_lines_are_parted_as_a_shell_does() {
        let parted = |line: &str| words(line).map(|w| w.join("|"));
        assert_eq!(parted("sh -c 'a b' \"c d\" e\\ f").as_deref(), Some("sh|-c|a b|c d|e f"));
        assert_eq!(parted("a ''").as_deref(), Some("a|"));
        assert_eq!(parted("a; b").as_deref(), Some("a"));
        assert_eq!(parted("echo $(date -u)").as_deref(), Some("echo|$(date -u)"));
        assert_eq!(parted("a 'b"), None);
        assert_eq!(parted("a (b"), None);
    }

    #[test]
    fn paths_are_cleaned_as_text() {
        for (path, want) in [("/a//b/./c/..", "/a/b"), ("/..", "/"), ("a/../..", ".."), (".", ".")]
        {
            assert_eq!(clean(path), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_short_form_ends_one_way_or_the_other(text in "[a-z0-9:/.,\\[\\]~$'\" -]{0,30}|\\PC{0,8}") {
            let _ = (ports(&at(), &text), volume(&at(), &text), device(&at(), &text), words(&text));
        }
    }
}
