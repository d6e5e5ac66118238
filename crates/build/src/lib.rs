//! Dockerfiles and how they become images.
//!
//! Flow: [`dockerfile`] parses; [`solve`] runs the needed stages at once, each instruction changing a
//! [`draft`] and leaving work; the work is named by content ([`graph`]), looked for in the cache, and else done
//! through a [`host`]; [`copy`] moves files, [`download`] fetches them; [`output`] tells the client in
//! docker's words.
//!
//! Invariants: parsing and drafting are pure; cache keys are made of content, never of time; nothing here
//! knows HTTP, the store or how a container runs.
//! Not here: unpacking contexts, tags, records of builds (engine); BuildKit's protocol (a later front of
//! the same graph).

pub mod args;
pub mod copy;
pub mod dockerfile;
pub mod download;
pub mod draft;
pub mod expand;
pub mod go;
pub mod graph;
pub mod host;
pub mod ignore;
pub mod limits;
pub mod lint;
pub mod output;
pub mod solve;
