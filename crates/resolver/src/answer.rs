//! What becomes of a query.
//!
//! Names of the container's networks are answered here: addresses with a short life, because containers come
//! and go; nothing at once for types that they do not have (an asker that tries IPv6 first does not wait);
//! names for addresses. Everything else is forwarded.

use crate::{
    Zone,
    message::{self, Code, Query, Transport, kind},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Seconds that an address may be remembered.
const TTL: u32 = 5;

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this back.
    Answer(Vec<u8>),
    /// Ask the servers of the settings.
    Forward,
    /// Nothing: it is no query.
    Ignore,
}

/// Decides about one query. `turn` grows with each, so that several addresses take turns at being the first.
pub fn answer(bytes: &[u8], zone: &Zone, transport: Transport, turn: usize) -> Verdict {
    let query = match Query::read(bytes) {
        Ok(query) => query,
        Err(Some(code)) => return Verdict::Answer(message::header(bytes, code)),
        Err(None) => return Verdict::Ignore,
    };
    if query.edns.is_some_and(|edns| edns.version != 0) {
        return Verdict::Answer(query.nothing(Code::Fine, transport));
    }
    let local = match &query.name {
        Some(name) if query.is_internet() => own(&query, name, zone, transport, turn),
        _ => None,
    };
    if let Some(answer) = local {
        return Verdict::Answer(answer);
    }
    let single = query.name.as_ref().is_some_and(|name| !name.contains('.'));
    let asks_address = matches!(query.kind, kind::A | kind::AAAA);
    let kept = single && asks_address && zone.settings.keep_single_labels;
    if zone.settings.servers.is_empty() || kept {
        return Verdict::Answer(query.nothing(Code::NoSuchName, transport));
    }
    Verdict::Forward
}

/// An answer without records, for a query that could not be dealt with.
pub fn refusal(bytes: &[u8], code: Code, transport: Transport) -> Vec<u8> {
    match Query::read(bytes) {
        Ok(query) => query.nothing(code, transport),
        Err(_) => message::header(bytes, code),
    }
}

fn own(
    query: &Query<'_>,
    name: &str,
    zone: &Zone,
    transport: Transport,
    turn: usize,
) -> Option<Vec<u8>> {
    if query.kind == kind::PTR {
        let owner = zone.owner(reversed(name)?)?;
        return Some(query.pointer(&owner, TTL, transport));
    }
    let all = zone.addresses(name)?;
    let wanted = |address: &&IpAddr| match query.kind {
        kind::A => address.is_ipv4(),
        kind::AAAA => address.is_ipv6(),
        kind::ANY => true,
        _ => false,
    };
    let mut found: Vec<IpAddr> = all.iter().filter(wanted).copied().collect();
    if !found.is_empty() {
        let first = turn % found.len();
        found.rotate_left(first);
    }
    Some(query.addresses(&found, TTL, transport))
}

/// The address in `4.3.2.1.in-addr.arpa` or in thirty-two digits before `ip6.arpa`.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<u8> = rest.split('.').map(|p| p.parse().ok()).collect::<Option<_>>()?;
        let [d, c, b, a] = parts[..] else { return None };
        return Some(Ipv4Addr::new(a, b, c, d).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut bits = 0_u128;
    let mut count = 0;
    for digit in rest.split('.') {
        let value = u128::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
        bits |= value.checked_shl(4 * count)?;
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Server, Settings, Table, message::tests::query};

    fn zone(change: impl FnOnce(&mut Settings)) -> Zone {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut table = Table { network: "net".into(), ..Table::default() };
        table.add(&["web".into(), "www".into()], &[ip("10.0.0.2")]);
        table.add(&["web2".into(), "www".into()], &[ip("10.0.0.3"), ip("fd00::3")]);
        let mut settings = Settings {
            servers: vec![Server { address: ip("192.0.2.1"), from_host: false }],
            ..Settings::default()
        };
        change(&mut settings);
        Zone::new(settings, vec![table])
    }

    /// Code and records of the answer, the records as the last bytes of each.
    fn ask(zone: &Zone, name: &str, kind: u16, turn: usize) -> Option<(u8, Vec<String>)> {
        let Verdict::Answer(bytes) = answer(&query(name, kind, None), zone, Transport::Udp, turn)
        else {
            return None;
        };
        let mut at = query(name, kind, None).len();
        let mut records = Vec::new();
        for _ in 0..bytes[7] {
            let length = usize::from(bytes[at + 11]);
            let data = &bytes[at + 12..at + 12 + length];
            records.push(match length {
                4 => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
                16 => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
                _ => String::from_utf8_lossy(data).into_owned(),
            });
            at += 12 + length;
        }
        assert_eq!(at, bytes.len());
        Some((bytes[3] & 15, records))
    }

    fn fine(records: &[&str]) -> Option<(u8, Vec<String>)> {
        Some((0, records.iter().map(|r| (*r).to_owned()).collect()))
    }

    #[test]
    fn names_of_the_network_are_answered_and_take_turns() {
        let zone = zone(|_| {});
        assert_eq!(ask(&zone, "WEB", kind::A, 0), fine(&["10.0.0.2"]));
        assert_eq!(ask(&zone, "web.net", kind::A, 0), fine(&["10.0.0.2"]));
        assert_eq!(ask(&zone, "www", kind::A, 0), fine(&["10.0.0.2", "10.0.0.3"]));
        assert_eq!(ask(&zone, "www", kind::A, 1), fine(&["10.0.0.3", "10.0.0.2"]));
        assert_eq!(ask(&zone, "www", kind::AAAA, 0), fine(&["fd00::3"]));
        assert_eq!(ask(&zone, "web2", kind::ANY, 0), fine(&["10.0.0.3", "fd00::3"]));
        // At once and empty, not forwarded: nobody else knows better.
        assert_eq!(ask(&zone, "web", kind::AAAA, 0), fine(&[]));
        assert_eq!(ask(&zone, "web", 15, 0), fine(&[]));
    }

    #[test]
    fn addresses_have_names() {
        let zone = zone(|_| {});
        assert_eq!(ask(&zone, "2.0.0.10.in-addr.arpa", kind::PTR, 0), fine(&["\x03web\x03net\0"]));
        let v6 = format!("3.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(ask(&zone, &v6, kind::PTR, 0), fine(&["\x04web2\x03net\0"]));
        for unknown in ["9.0.0.10.in-addr.arpa", "0.10.in-addr.arpa", "x.ip6.arpa", "ip6.arpa"] {
            assert_eq!(ask(&zone, unknown, kind::PTR, 0), None, "{unknown}");
        }
    }

    #[test]
    fn others_are_forwarded_unless_there_is_nowhere_to() {
        assert_eq!(ask(&zone(|_| {}), "example.com", kind::A, 0), None);
        assert_eq!(ask(&zone(|_| {}), "other", kind::A, 0), None);
        let alone = zone(|s| s.servers.clear());
        assert_eq!(ask(&alone, "example.com", kind::A, 0), Some((3, vec![])));
        let dots = zone(|s| s.keep_single_labels = true);
        assert_eq!(ask(&dots, "other", kind::A, 0), Some((3, vec![])));
        assert_eq!(ask(&dots, "other", kind::PTR, 0), None);
        assert_eq!(ask(&dots, "example.com", kind::A, 0), None);
    }

    #[test]
    fn edns_is_answered_and_a_version_that_does_not_exist_refused() {
        let bytes = query("web", kind::A, Some(1400));
        let Verdict::Answer(answer1) = answer(&bytes, &zone(|_| {}), Transport::Udp, 0) else {
            panic!("forwarded");
        };
        assert_eq!(answer1[11], 1, "an OPT record");
        let mut odd = bytes;
        let version = odd.len() - 5;
        odd[version] = 1;
        let Verdict::Answer(answer2) = answer(&odd, &zone(|_| {}), Transport::Udp, 0) else {
            panic!("forwarded");
        };
        assert_eq!((answer2[7], answer2[answer2.len() - 6]), (0, 1), "BADVERS");
    }
}
