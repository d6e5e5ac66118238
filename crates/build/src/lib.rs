//! Dockerfile to image.

pub mod args;
pub mod dockerfile;
pub mod draft;
pub mod expand;
pub mod go;
pub mod limits;
