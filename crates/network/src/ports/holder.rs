//! Who holds a port: of this machine, for the text of an error; of a container, for those who look at its network.
//!
//! Source: proc(5), `/proc/net/tcp` and the like: local address, state and inode of each socket.

use crate::Protocol;
use std::fs;

/// `LISTEN` of TCP; UDP sockets that are bound have `CLOSE`.
const LISTENING: &str = "0A";

/// Name and pid of a process that has the port, as far as that can be seen.
pub(super) fn find(protocol: Protocol, port: u16) -> Option<String> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let (pid, name) = holder("thread-self", pids, protocol, port)?;
    Some(format!("process {name} with pid {pid}"))
}

/// The process among `pids` that listens on a port of the network which process `of` is in, with its name.
pub fn listener(of: i32, pids: &[i32], protocol: Protocol, port: u16) -> Option<(i32, String)> {
    holder(&of.to_string(), pids.iter().copied(), protocol, port)
}

fn holder(
    of: &str,
    mut pids: impl Iterator<Item = i32>,
    protocol: Protocol,
    port: u16,
) -> Option<(i32, String)> {
    let inodes: Vec<String> = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    }
    .iter()
    .filter_map(|table| fs::read_to_string(format!("/proc/{of}/net/{table}")).ok())
    .flat_map(|text| sockets(&text, protocol, port))
    .map(|inode| format!("socket:[{inode}]"))
    .collect();
    if inodes.is_empty() {
        return None;
    }
    pids.find_map(|pid| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        open.any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|to| inodes.iter().any(|i| to.as_os_str() == i.as_str()))
        })
        .then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim_end().to_owned())
        })
    })
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
        let (own, port) = (std::process::id() as i32, listener.local_addr().unwrap().port());
        assert_eq!(super::listener(own, &[1, own], Protocol::Tcp, port).unwrap().0, own);
        assert_eq!(super::listener(own, &[own], Protocol::Udp, port), None);
    }
}
