//! Telling the service manager how far we are: sd_notify(3) by its datagram socket.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

/// Sends `state` (`READY=1`, `STOPPING=1`, `RELOADING=1`) to `$NOTIFY_SOCKET`, if there is one.
pub(crate) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(err) = send(path.to_string_lossy().as_ref(), state) {
        tracing::warn!(err = err.to_string(), "cannot notify the service manager");
    }
}

fn send(path: &str, state: &str) -> std::io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(Path::new(path))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_at_both_kinds_of_address() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let named = UnixDatagram::bind(&path).unwrap();
        let name = format!("gantry-notify-{}", std::process::id());
        let hidden =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut buffer = [0; 32];
        send(path.to_str().unwrap(), "READY=1").unwrap();
        assert_eq!(named.recv(&mut buffer).unwrap(), 7);
        send(&format!("@{name}"), "STOPPING=1").unwrap();
        assert_eq!(hidden.recv(&mut buffer).unwrap(), 10);
        assert!(send("/nonexistent/x", "READY=1").is_err());
    }
}
