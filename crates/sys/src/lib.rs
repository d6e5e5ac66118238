//! The kernel's edge: one call per function, descriptors that close themselves, errors that say what was
//! tried. The only crate with `unsafe` code; it is part of the static shim, so it depends on little.
#![allow(unsafe_code, reason = "this is the crate for it; each block says why it is sound")]

pub mod activation;
pub mod apparmor;
mod attribute;
pub mod caps;
pub mod cgroup;
pub mod conntrack;
pub mod dir;
pub mod epoll;
pub mod fdpass;
pub mod go_mode;
pub mod idmap;
pub mod mntns;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod overlay;
pub mod port;
pub mod process;
pub mod pty;
pub mod quota;
mod remove;
pub mod root;
pub mod seccomp;
pub mod selinux;
pub mod system;
