//! systemd's journal, native protocol: a datagram of fields, or a sealed file of them where it is too long.
//!
//! Source: systemd's page "Native Journal Protocol".

use crate::{Record, Transport, net};
use logging::{Config, Stream};
use rustix::{
    fs::{MemfdFlags, SealFlags},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};
use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    mem::MaybeUninit,
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    path::{Path, PathBuf},
};

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

struct Journald {
    path: PathBuf,
    socket: UnixDatagram,
    /// The fields that every record bears, encoded.
    fixed: Vec<u8>,
    epoch: String,
    ordinal: u64,
}

pub(crate) fn open(config: &Config, path: &Path) -> Result<Box<dyn Transport>, String> {
    let socket =
        net::datagram(path).map_err(|_| "journald is not enabled on this host".to_owned())?;
    let origin = &config.origin;
    let mut fixed = Vec::new();
    let short: String = origin.id.chars().take(12).collect();
    for (key, value) in [
        ("CONTAINER_ID", &short),
        ("CONTAINER_ID_FULL", &origin.id),
        ("CONTAINER_NAME", &origin.name),
        ("CONTAINER_TAG", &config.tag),
        ("IMAGE_NAME", &origin.image_name),
        ("SYSLOG_IDENTIFIER", &config.tag),
    ] {
        field(&mut fixed, key, value.as_bytes());
    }
    for (key, value) in &config.attrs {
        let key = field_name(key);
        if !key.is_empty() {
            field(&mut fixed, &key, value.as_bytes());
        }
    }
    let epoch = format!("{:x}", base::Timestamp::now().unix_nanos());
    Ok(Box::new(Journald { path: path.to_owned(), socket, fixed, epoch, ordinal: 0 }))
}

/// Upper case letters, digits and underscores, the first no underscore.
fn field_name(text: &str) -> String {
    let all: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    all.trim_start_matches('_').to_owned()
}

fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Journald {
    fn deliver(&self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send(entry) {
            Ok(_) => Ok(()),
            Err(err)
                if matches!(Errno::from_io_error(&err), Some(Errno::MSGSIZE | Errno::NOBUFS)) =>
            {
                self.deliver_file(entry)
            }
            Err(err) => Err(err),
        }
    }

    fn deliver_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(rustix::fs::memfd_create("gantry-journal", flags)?);
        file.write_all(entry)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        message.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(&[])],
            &mut message,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

impl Transport for Journald {
    fn send(&mut self, record: &Record) -> Result<(), String> {
        self.ordinal += 1;
        let mut entry = self.fixed.clone();
        field(&mut entry, "MESSAGE", &record.line);
        let priority = if record.stream == Stream::Stderr { b"3" } else { b"6" };
        field(&mut entry, "PRIORITY", priority);
        field(&mut entry, "SYSLOG_TIMESTAMP", record.at.to_string().as_bytes());
        field(&mut entry, "CONTAINER_LOG_EPOCH", self.epoch.as_bytes());
        field(&mut entry, "CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes());
        if let Some(partial) = &record.partial {
            field(&mut entry, "CONTAINER_PARTIAL_ID", partial.id.as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_ORDINAL", partial.ordinal.to_string().as_bytes());
            field(&mut entry, "CONTAINER_PARTIAL_LAST", partial.last.to_string().as_bytes());
            if !partial.last {
                field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
        if self.deliver(&entry).is_ok() {
            return Ok(());
        }
        // The journal was started anew: its socket is another one.
        self.socket = net::datagram(&self.path).map_err(|e| e.to_string())?;
        self.deliver(&entry).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    use std::io::{IoSliceMut, Read as _, Seek as _};

    /// One entry, however it came.
    fn receive(socket: &UnixDatagram) -> (Vec<u8>, bool) {
        let mut bytes = vec![0; 1 << 20];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let got =
            rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::empty()).unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                let mut file = File::from(fds.into_iter().next().unwrap());
                let mut text = Vec::new();
                file.rewind().unwrap();
                file.read_to_end(&mut text).unwrap();
                return (text, true);
            }
        }
        bytes.truncate(got.bytes);
        (bytes, false)
    }

    #[test]
    fn entries_have_dockers_fields_and_come_whole_at_any_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut config = Config { driver: "journald".into(), tag: "t".into(), ..Config::default() };
        config.origin.id = "0123456789abcdef".into();
        config.origin.name = "c".into();
        config.attrs.insert("com.app-x".into(), "two\nlines".into());
        let mut journald = open(&config, &path).unwrap();
        let record = |line: &[u8], stream| Record {
            stream,
            at: Timestamp::from_unix(1_700_000_000, 0),
            line: line.to_vec(),
            partial: None,
        };
        journald.send(&record(b"oops", Stream::Stderr)).unwrap();
        let (entry, in_file) = receive(&journal);
        let text = String::from_utf8(entry).unwrap();
        assert!(!in_file);
        for want in [
            "CONTAINER_ID=0123456789ab\n",
            "CONTAINER_ID_FULL=0123456789abcdef\n",
            "CONTAINER_NAME=c\n",
            "CONTAINER_TAG=t\n",
            "SYSLOG_IDENTIFIER=t\n",
            "COM_APP_X\n\u{9}\0\0\0\0\0\0\0two\nlines\n",
            "MESSAGE=oops\n",
            "PRIORITY=3\n",
            "SYSLOG_TIMESTAMP=2023-11-14T22:13:20Z\n",
            "CONTAINER_LOG_ORDINAL=1\n",
        ] {
            assert!(text.contains(want), "{want:?} in {text:?}");
        }
        config.attrs.insert("big".into(), "x".repeat(600_000));
        let mut journald = open(&config, &path).unwrap();
        journald.send(&record(b"hello", Stream::Stdout)).unwrap();
        let (entry, in_file) = receive(&journal);
        assert!(in_file && entry.len() > 600_000);
        // The journal is started anew.
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        let journal = UnixDatagram::bind(&path).unwrap();
        journald.send(&record(b"again", Stream::Stdout)).unwrap();
        assert!(String::from_utf8(receive(&journal).0).unwrap().contains("MESSAGE=again\n"));
    }
}
