//! `-p` and `--expose`: ports, ranges, addresses.
//!
//! Source: docker/go-connections `nat` (forms and errors).

use crate::error::{Fail, Result};
use api::model::{Empty, PortBinding};
use std::collections::BTreeMap;

/// Published and exposed ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ports {
    pub exposed: BTreeMap<String, Empty>,
    pub bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

impl Ports {
    /// Reads `[[ip:][host[-host]]:]port[-port][/proto]` and `--expose port[-port][/proto]`.
    pub(crate) fn parse(publish: &[String], expose: &[String]) -> Result<Self> {
        let mut ports = Self::default();
        for text in publish {
            ports.publish(text)?;
        }
        for text in expose {
            if text.contains(':') {
                return Err(Fail::new(format!("invalid port format for --expose: {text}")));
            }
            let (range, proto) = protocol(text)?;
            let (from, to) = range_of(range)
                .ok_or_else(|| Fail::new(format!("invalid range format for --expose: {text}")))?;
            for port in from..=to {
                ports.exposed.insert(format!("{port}/{proto}"), Empty {});
            }
        }
        Ok(ports)
    }

    fn publish(&mut self, text: &str) -> Result<()> {
        if text.contains('=') {
            return self.publish_long(text);
        }
        let (rest, proto) = protocol(text)?;
        let (ip, host, container) = split(rest);
        let ip = ip.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(ip);
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Fail::new(format!("invalid IP address: {ip}")));
        }
        if container.is_empty() {
            return Err(Fail::new(format!("no port specified: {text}<empty>")));
        }
        let (from, to) = range_of(container)
            .ok_or_else(|| Fail::new(format!("invalid containerPort: {container}")))?;
        let hosts = if host.is_empty() {
            None
        } else {
            Some(range_of(host).ok_or_else(|| Fail::new(format!("invalid hostPort: {host}")))?)
        };
        // A range of host ports for one container port leaves the choice to the engine.
        let many = |(a, b): (u16, u16)| u32::from(b) - u32::from(a);
        if let Some(hosts) = hosts
            && many(hosts) != many((from, to))
            && from != to
        {
            let text = format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            );
            return Err(Fail::new(text));
        }
        for port in from..=to {
            let host_port = match hosts {
                None => String::new(),
                Some((first, last)) if from == to && first != last => format!("{first}-{last}"),
                Some((first, _)) => (first + (port - from)).to_string(),
            };
            self.bind(port, &proto, ip, host_port);
        }
        Ok(())
    }

    fn publish_long(&mut self, text: &str) -> Result<()> {
        let (mut target, mut published, mut proto) = (None, String::new(), "tcp".to_owned());
        for field in super::values::csv(text)? {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| Fail::new(format!("invalid field {field:?}")))?;
            let bad =
                || Fail::new(format!("invalid {key} port ({value}): value must be an integer"));
            match key {
                "protocol" if matches!(value, "tcp" | "udp" | "sctp") => {
                    value.clone_into(&mut proto);
                }
                "target" => target = Some(value.parse::<u16>().map_err(|_| bad())?),
                "published" => value.clone_into(&mut published),
                "mode" if matches!(value, "host" | "ingress") => {}
                _ => return Err(Fail::new(format!("invalid field key {key}"))),
            }
        }
        let target = target.ok_or_else(|| Fail::new("missing mandatory field \"target\""))?;
        self.bind(target, &proto, "", published);
        Ok(())
    }

    fn bind(&mut self, port: u16, proto: &str, ip: &str, host_port: String) {
        let key = format!("{port}/{proto}");
        self.exposed.insert(key.clone(), Empty {});
        let binding = PortBinding { host_ip: ip.to_owned(), host_port };
        self.bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
}

fn protocol(text: &str) -> Result<(&str, String)> {
    let (rest, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let lower = proto.to_ascii_lowercase();
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Fail::new(format!("invalid proto: {proto}")));
    }
    Ok((rest, lower))
}

/// Address, host port, container port; an IPv6 address may be bare.
fn split(text: &str) -> (&str, &str, &str) {
    match text.rsplit_once(':') {
        None => ("", "", text),
        Some((front, container)) => match front.rsplit_once(':') {
            None => ("", front, container),
            Some((ip, host)) => (ip, host, container),
        },
    }
}

fn range_of(text: &str) -> Option<(u16, u16)> {
    let port = |t: &str| {
        (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok()).flatten()
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (port(from)?, port(to)?);
    (from <= to).then_some((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(publish: &[&str]) -> Result<Vec<String>> {
        let list: Vec<String> = publish.iter().map(|p| (*p).to_owned()).collect();
        let ports = Ports::parse(&list, &[])?;
        Ok(ports
            .bindings
            .iter()
            .flat_map(|(port, list)| {
                list.iter().flatten().map(move |b| format!("{}:{}->{port}", b.host_ip, b.host_port))
            })
            .collect())
    }

    #[test]
    fn ports_are_read_in_all_forms() {
        for (text, want) in [
            ("80", vec![":->80/tcp"]),
            ("8080:80", vec![":8080->80/tcp"]),
            ("127.0.0.1:8080:80/udp", vec!["127.0.0.1:8080->80/udp"]),
            ("127.0.0.1::80", vec!["127.0.0.1:->80/tcp"]),
            ("[::1]:8080:80", vec!["::1:8080->80/tcp"]),
            ("::1:8080:80", vec!["::1:8080->80/tcp"]),
            ("8000-8001:80-81", vec![":8000->80/tcp", ":8001->81/tcp"]),
            ("8000-8009:80", vec![":8000-8009->80/tcp"]),
            ("80-81", vec![":->80/tcp", ":->81/tcp"]),
            ("target=80,published=8080,protocol=udp", vec![":8080->80/udp"]),
        ] {
            assert_eq!(check(&[text]).unwrap(), want, "{text}");
        }
        assert_eq!(check(&["1.1.1.1:1:80", "2:80"]).unwrap().len(), 2);
    }

    #[test]
    fn wrong_ports_are_refused() {
        for (text, want) in [
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("x:80", "invalid hostPort: x"),
            ("80/foo", "invalid proto: foo"),
            ("1.2.3:80:80", "invalid IP address: 1.2.3"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        ] {
            assert_eq!(check(&[text]).unwrap_err().message, want);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[0-9a-z:./\\[\\]=,-]{0,20}") {
            let _ = Ports::parse(std::slice::from_ref(&text), std::slice::from_ref(&text));
        }
    }
}
