//! Containers and their lives: brings the parts together and publishes events.
//!
//! The engine speaks the API's model types (newest version) as its own words; HTTP, versions and status
//! codes belong to `server`. Every request is a method of [`Engine`], kept in the room of its noun.
//!
//! Invariants: reads (`list`, `inspect`, `events`) never wait for a change; an event leaves after its
//! commit; whatever a failed or killed change made is undone by the saga or by the next start.

pub mod build;
pub mod config;
pub mod containers;
pub mod events;
pub mod images;
pub mod level;
pub mod metrics;
pub mod networks;
pub mod plugins;
pub mod runtimes;
pub mod saga;
mod selinux;
pub mod system;
pub mod verify;
pub mod volumes;

mod lifecycle;

pub use config::Config;
pub use lifecycle::Engine;
pub use storage::ChangeKind;
