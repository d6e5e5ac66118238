//! Messages: reading a query, writing an answer.
//!
//! Only what a server of few names needs: the header, one question, the OPT record; answers of addresses and
//! pointers. Everything else passes through as bytes.

use std::net::IpAddr;

/// Length of the header.
const HEADER: usize = 12;
/// Longest name in bytes, and longest part of one.
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;
/// Bytes of an answer over UDP to an asker that says nothing.
const PLAIN_UDP: usize = 512;
/// Bytes of an answer over UDP that no network splits.
const MOST_UDP: usize = 1232;
/// Bytes of an answer over TCP.
const MOST_TCP: usize = 65_535;
/// Records of a query that are looked through for its OPT record.
const RECORDS_MAX: usize = 16;

/// Types of records.
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// A name for an address.
    pub const PTR: u16 = 12;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS.
    pub const OPT: u16 = 41;
    /// All that there is.
    pub const ANY: u16 = 255;
}

/// The class of everything.
const INTERNET: u16 = 1;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What an answer says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Here it is, or there is none of this type.
    Fine = 0,
    /// The query makes no sense.
    Malformed = 1,
    /// No server could tell.
    Failed = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// No query but something else.
    NotImplemented = 4,
    /// Too much at once.
    Refused = 5,
}

/// What the asker says about EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Bytes of an answer that it takes.
    pub size: u16,
    /// The version; only 0 exists.
    pub version: u8,
}

/// A query that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    bytes: &'a [u8],
    /// Where the question ends.
    end: usize,
    /// The name in small letters, without the last dot; `None` when it is no text.
    pub name: Option<String>,
    /// Type of records asked for.
    pub kind: u16,
    /// Class.
    pub class: u16,
    /// EDNS.
    pub edns: Option<Edns>,
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl<'a> Query<'a> {
    /// Reads a query.
    ///
    /// # Errors
    /// The code to refuse it with; `None` for what deserves no answer, because it is shorter than a header
    /// or an answer itself.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Option<Code>> {
        let flags = short(bytes, 2).filter(|_| bytes.len() >= HEADER).ok_or(None)?;
        if flags & 0x8000 != 0 {
            return Err(None);
        }
        if flags & 0x7800 != 0 {
            return Err(Some(Code::NotImplemented));
        }
        let malformed = Some(Code::Malformed);
        let counts = [4, 6, 8, 10].map(|at| short(bytes, at).unwrap_or(0));
        if counts[0] != 1 {
            return Err(malformed);
        }
        let (name, at) = name(bytes).ok_or(malformed)?;
        let kind = short(bytes, at).ok_or(malformed)?;
        let class = short(bytes, at + 2).ok_or(malformed)?;
        let end = at + 4;
        let records = counts[1..].iter().map(|n| usize::from(*n)).sum::<usize>();
        let edns = edns(bytes, end, records).ok_or(malformed)?;
        Ok(Self { bytes, end, name, kind, class, edns })
    }

    /// The query's id.
    pub fn id(&self) -> u16 {
        short(self.bytes, 0).unwrap_or(0)
    }

    /// Whether it asks about the Internet, like everybody.
    pub fn is_internet(&self) -> bool {
        matches!(self.class, INTERNET | 255)
    }

    /// Bytes of an answer that the asker takes.
    fn room(&self, transport: Transport) -> usize {
        match (transport, self.edns) {
            (Transport::Tcp, _) => MOST_TCP,
            (Transport::Udp, None) => PLAIN_UDP,
            (Transport::Udp, Some(edns)) => usize::from(edns.size).clamp(PLAIN_UDP, MOST_UDP),
        }
    }

    /// An answer with these addresses, each of the type asked for; cut short when there is no room.
    pub(crate) fn addresses(&self, all: &[IpAddr], ttl: u32, transport: Transport) -> Vec<u8> {
        let records = all.iter().map(|address| match address {
            IpAddr::V4(address) => (kind::A, address.octets().to_vec()),
            IpAddr::V6(address) => (kind::AAAA, address.octets().to_vec()),
        });
        self.write(Code::Fine, records, ttl, transport)
    }

    /// An answer with one name.
    pub(crate) fn pointer(&self, name: &str, ttl: u32, transport: Transport) -> Vec<u8> {
        let mut data = Vec::new();
        for label in name.split('.') {
            let label = &label.as_bytes()[..label.len().min(LABEL_MAX)];
            data.push(label.len() as u8);
            data.extend(label);
        }
        data.push(0);
        match data.len() > NAME_MAX {
            true => self.write(Code::Failed, [], ttl, transport),
            false => self.write(Code::Fine, [(kind::PTR, data)], ttl, transport),
        }
    }

    /// An answer without records.
    pub fn nothing(&self, code: Code, transport: Transport) -> Vec<u8> {
        self.write(code, [], 0, transport)
    }

    fn write(
        &self,
        code: Code,
        records: impl IntoIterator<Item = (u16, Vec<u8>)>,
        ttl: u32,
        transport: Transport,
    ) -> Vec<u8> {
        const OPT_BYTES: usize = 11;
        let mut out = header(self.bytes, code);
        out[4..6].copy_from_slice(&1_u16.to_be_bytes());
        out.extend(&self.bytes[HEADER..self.end]);
        let room = self.room(transport) - if self.edns.is_some() { OPT_BYTES } else { 0 };
        let mut count = 0_u16;
        for (kind, data) in records {
            if out.len() + 12 + data.len() > room || count == u16::MAX {
                out[2] |= 0x02;
                break;
            }
            // The name is that of the question.
            out.extend([0xc0, HEADER as u8]);
            out.extend(kind.to_be_bytes());
            out.extend(INTERNET.to_be_bytes());
            out.extend(ttl.to_be_bytes());
            out.extend((data.len() as u16).to_be_bytes());
            out.extend(data);
            count += 1;
        }
        out[6..8].copy_from_slice(&count.to_be_bytes());
        if let Some(edns) = self.edns {
            // Of versions that do not exist the asker is told so (BADVERS, whose upper bits go here).
            let extended = u8::from(edns.version != 0);
            out.push(0);
            out.extend(kind::OPT.to_be_bytes());
            out.extend((MOST_UDP as u16).to_be_bytes());
            out.extend([extended, 0, 0, 0, 0, 0]);
            out[10..12].copy_from_slice(&1_u16.to_be_bytes());
        }
        out
    }
}

/// The header of an answer: same id, same wish for recursion, no counts.
pub(crate) fn header(query: &[u8], code: Code) -> Vec<u8> {
    let mut out = vec![0; HEADER];
    let given = query.len().min(4);
    out[..given].copy_from_slice(&query[..given]);
    // Answer, recursion available; opcode and "recursion desired" stay.
    out[2] = 0x80 | (out[2] & 0x79);
    out[3] = 0x80 | code as u8;
    out
}

/// The name of the question, and where it ends.
fn name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let (mut at, mut text) = (HEADER, Vec::new());
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A question comes first, so there is nothing to point at.
        if length > LABEL_MAX || at + length - HEADER > NAME_MAX {
            return None;
        }
        if !text.is_empty() {
            text.push(b'.');
        }
        let label = bytes.get(at..at + length)?;
        // A dot inside a part would look like two parts.
        text.extend(label.iter().map(|b| if *b == b'.' { 0xff } else { b.to_ascii_lowercase() }));
        at += length;
    }
    Some((String::from_utf8(text).ok(), at))
}

/// The OPT record among `records`; `None` when they cannot be read.
fn edns(bytes: &[u8], mut at: usize, records: usize) -> Option<Option<Edns>> {
    if records > RECORDS_MAX {
        return None;
    }
    let mut found = None;
    for _ in 0..records {
        at = skip_name(bytes, at)?;
        let (kind, class) = (short(bytes, at)?, short(bytes, at + 2)?);
        let version = *bytes.get(at + 5)?;
        let length = usize::from(short(bytes, at + 8)?);
        at += 10 + length;
        if at > bytes.len() {
            return None;
        }
        if kind == kind::OPT {
            found = Some(Edns { size: class, version });
        }
    }
    Some(found)
}

fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some(at + 1),
            // What it points at need not be looked at.
            192.. => return Some(at + 2),
            64.. => return None,
            _ => at += 1 + length,
        }
        if at - begin > NAME_MAX {
            return None;
        }
    }
}

/// Whether an answer of a server belongs to the query that was forwarded: id and question are the same.
pub fn reply_matches(query: &[u8], reply: &[u8]) -> bool {
    let Ok(read) = Query::read(query) else { return false };
    let is_reply = reply.len() >= HEADER && reply[2] & 0x80 != 0 && reply[..2] == query[..2];
    // Some servers leave the question out when they refuse.
    let bare = short(reply, 4) == Some(0);
    let same = reply
        .get(HEADER..read.end)
        .is_some_and(|question| question.eq_ignore_ascii_case(&query[HEADER..read.end]));
    is_reply && (same || bare)
}

/// The same answer without records, marked as cut short, when it is too long for who asked.
pub fn truncated(query: &[u8], reply: &[u8]) -> Option<Vec<u8>> {
    let read = Query::read(query).ok()?;
    if reply.len() <= read.room(Transport::Udp).max(PLAIN_UDP) {
        return None;
    }
    let mut out = read.nothing(Code::Fine, Transport::Udp);
    out[2] |= 0x02;
    out[3] = reply.get(3).copied().unwrap_or(0x80);
    Some(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query as a program sends it.
    pub(crate) fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
        for label in name.split('.').filter(|l| !l.is_empty()) {
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
        }
        out.push(0);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        if let Some(size) = edns {
            out.extend([0, 0, 41]);
            out.extend(size.to_be_bytes());
            out.extend([0, 0, 0, 0, 0, 0]);
        }
        out
    }

    #[test]
    fn a_query_is_read() {
        let bytes = query("Web.Net", kind::AAAA, Some(4096));
        let read = Query::read(&bytes).unwrap();
        assert_eq!((read.name.as_deref(), read.kind), (Some("web.net"), kind::AAAA));
        assert_eq!(read.edns, Some(Edns { size: 4096, version: 0 }));
        assert_eq!((read.id(), read.is_internet()), (0x1234, true));
        let root = query("", kind::ANY, None);
        assert_eq!(Query::read(&root).unwrap().name.as_deref(), Some(""));
    }

    #[test]
    fn what_makes_no_sense_is_told_apart_from_what_deserves_no_answer() {
        let good = query("a", kind::A, None);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Query::read(&bytes).map(|q| q.kind)
        };
        assert_eq!(Query::read(&good[..11]).map(drop), Err(None));
        assert_eq!(changed(2, 0x80), Err(None));
        assert_eq!(changed(2, 0x28), Err(Some(Code::NotImplemented)));
        assert_eq!(changed(5, 2), Err(Some(Code::Malformed)));
        assert_eq!(changed(12, 0xc0), Err(Some(Code::Malformed)));
        assert_eq!(changed(12, 60), Err(Some(Code::Malformed)));
        assert_eq!(changed(11, 9), Err(Some(Code::Malformed)));
        assert_eq!(Query::read(&good[..good.len() - 1]).map(drop), Err(Some(Code::Malformed)));
        let long = query(&["a".repeat(63).as_str(); 5].join("."), kind::A, None);
        assert_eq!(Query::read(&long).map(drop), Err(Some(Code::Malformed)));
    }

    #[test]
    fn an_answer_fits_into_what_the_asker_takes() {
        let many: Vec<IpAddr> = (0..200).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        for (edns, transport, most, cut) in [
            (None, Transport::Udp, 512, true),
            (Some(1400), Transport::Udp, 1232, true),
            (Some(100), Transport::Udp, 512, true),
            (None, Transport::Tcp, 65_535, false),
        ] {
            let bytes = query("a", kind::A, edns);
            let answer = Query::read(&bytes).unwrap().addresses(&many, 5, transport);
            assert!(answer.len() <= most, "{edns:?} {}", answer.len());
            assert_eq!(answer[2] & 2 != 0, cut);
            assert!(reply_matches(&bytes, &answer));
        }
    }

    #[test]
    fn answers_of_others_are_known_by_their_question() {
        let bytes = query("a.b", kind::A, None);
        let read = Query::read(&bytes).unwrap();
        let mut reply = read.nothing(Code::NoSuchName, Transport::Udp);
        assert!(reply_matches(&bytes, &reply));
        reply[0] ^= 1;
        assert!(!reply_matches(&bytes, &reply));
        let other = query("a.c", kind::A, None);
        let foreign = Query::read(&other).unwrap().nothing(Code::Fine, Transport::Udp);
        assert!(!reply_matches(&bytes, &foreign) && !reply_matches(&bytes, &bytes));
        let long = [read.nothing(Code::Fine, Transport::Udp), vec![0; 600]].concat();
        let cut = truncated(&bytes, &long).unwrap();
        assert!(cut.len() < 100 && cut[2] & 2 != 0);
        assert_eq!(truncated(&bytes, &long[..100]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(read) = Query::read(&bytes) {
                let answer = read.nothing(Code::Fine, Transport::Udp);
                prop_assert!(answer.len() <= 1232);
                prop_assert!(Query::read(&answer).is_err());
                reply_matches(&bytes, &answer);
            }
            reply_matches(&bytes, &bytes);
            let _ = truncated(&bytes, &bytes);
        }

        #[test]
        fn no_change_of_a_good_query_is_too_odd(
            at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..50,
        ) {
            let mut bytes = query("web.front", kind::A, Some(1232));
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut % 8));
            let _ = Query::read(&bytes).map(|q| q.addresses(&[IpAddr::from([1, 2, 3, 4])], 5, Transport::Udp));
        }
    }
}
