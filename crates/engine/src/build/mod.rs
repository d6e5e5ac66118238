//! The builder: `POST /build` over the crate `build`, whose host is the engine.

mod request;

pub use request::BuildRequest;
