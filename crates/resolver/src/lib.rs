//! Names on user-defined networks: what the server at 127.0.0.11 knows, and what it answers.
//!
//! Flow: the daemon writes one [`Table`] per network and one [`Settings`] per container as files; the
//! container's server reads them ([`Zone`]) and lets [`answer()`] decide about each query: answer, or forward
//! the bytes as they are to the servers of the settings.
//! Invariants: everything here is pure; every parser is total and bounded, because what it reads comes from
//! programs inside containers; no answer is longer than the asker takes.
//! Source: RFC 1035 (messages), RFC 6891 (EDNS), RFC 7766 (TCP), Moby `daemon/libnetwork/resolver.go` (which
//! names there are).
//! Not here: sockets (crate `shim`), who is on which network (crate `network`).

mod answer;
mod message;
mod table;

pub use answer::{Verdict, answer, refusal};
pub use message::{Code, Edns, Query, Transport, kind, reply_matches, truncated};
pub use table::{ADDRESS, SETTINGS_FILE, Server, Settings, Table, Zone};
