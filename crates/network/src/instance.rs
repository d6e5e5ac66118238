//! One daemon per name: two that own the same bridge or table would take each other's rules away, for ever.
//!
//! A name is held by a socket in the abstract namespace of the network namespace that the rules belong to,
//! so it is free again the moment its holder is gone, however it went.
//! Source: unix(7), "Abstract sockets".

use base::{Error, Kind, Result};
use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

/// A name that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim(#[allow(dead_code, reason = "held for its lifetime")] UnixListener);

impl Claim {
    /// Holds `name` in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `Conflict` when another daemon has it; tells its process id.
    pub(crate) fn take(name: &str) -> Result<Self> {
        let tried = |e| Error::io(format!("cannot claim the network name {name}"), e);
        let address =
            SocketAddr::from_abstract_name(format!("gantry/network/{name}")).map_err(tried)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self(listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = UnixStream::connect_addr(&address)
                    .and_then(|stream| sys::fdpass::peer_pid(&stream));
                let holder = holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "the network name {name} is in use by another gantry daemon{holder}: stop it, or choose another --bridge"
                    ),
                ))
            }
            Err(error) => Err(tried(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn a_name_has_one_holder_per_network_namespace_and_is_free_when_that_is_gone() {
        let (one, two) = (sys::netns::create().unwrap(), sys::netns::create().unwrap());
        let take = |at: &std::os::fd::OwnedFd| {
            sys::netns::within(at.as_fd(), || Claim::take("br0")).unwrap()
        };
        let held = take(&one).unwrap();
        let error = take(&one).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        take(&two).unwrap();
        drop(held);
        take(&one).unwrap();
    }
}
