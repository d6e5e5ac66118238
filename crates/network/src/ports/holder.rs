//! Who holds a port of this machine, for the text of an error.
//!
//! Source: proc(5), `/proc/net/tcp` and the like: local address, state and inode of each socket.

use crate::Protocol;
use std::fs;

/// `LISTEN` of TCP; UDP sockets that are bound have `CLOSE`.
const LISTENING: &str = "0A";

/// Name and pid of a process that has the port, as far as that can be seen.
pub(super) fn find(protocol: Protocol, port: u16) -> Option<String> {
    let inodes: Vec<String> = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    }
    .iter()
    .filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok())
    .flat_map(|text| sockets(&text, protocol, port))
    .map(|inode| format!("socket:[{inode}]"))
    .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
            open.any(|fd| {
                fs::read_link(fd.path())
                    .is_ok_and(|to| inodes.iter().any(|i| to.as_os_str() == i.as_str()))
            })
            .then(|| {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                format!("process {} with pid {pid}", name.trim_end())
            })
        })
        .next()
}

/// Inodes of the sockets in a table that have the port.
fn sockets(table: &str, protocol: Protocol, port: u16) -> Vec<u64> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
            let open = protocol != Protocol::Tcp || *state == LISTENING;
            (open && local.ends_with(&wanted)).then(|| inode.parse().ok()).flatten()
        })
        .filter(|inode| *inode != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            \x20  1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n\
            \x20  broken";
        assert_eq!(sockets(table, Protocol::Tcp, 8080), [4711]);
        assert_eq!(sockets(table, Protocol::Udp, 8080), [4711, 4712]);
        assert!(sockets(table, Protocol::Tcp, 80).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = find(Protocol::Tcp, listener.local_addr().unwrap().port()).unwrap();
        assert!(found.ends_with(&format!("pid {}", std::process::id())), "{found}");
    }
}
