//! bridge (stub)
use super::{Driver, Plane};
use crate::Config;
use base::{Error, Result};
/// The driver `bridge`.
#[derive(Debug)]
pub struct Bridge;
impl Driver for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }
    fn open(&self, _: &Config) -> Result<Box<dyn Plane>> {
        Err(Error::not_implemented("bridge networks"))
    }
}
