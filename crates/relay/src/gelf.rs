//! GELF 1.1: compressed datagrams, in chunks where they are long, or a stream of messages that end in zero.
//!
//! Source: the GELF page of Graylog's documentation.

use crate::{
    Record, Transport,
    net::{self, Link},
};
use fetch::Trust;
use flate2::{
    Compression as Level,
    write::{GzEncoder, ZlibEncoder},
};
use logging::{
    Address, Config, Stream,
    drivers::gelf::{Compression, Settings},
};
use serde_json::{Map, Value};
use std::io::{self, Write as _};

/// Bytes of a datagram that pass every ordinary network in one piece.
const DATAGRAM: usize = 1420;
const CHUNK_HEAD: usize = 12;
/// More chunks than that are refused by receivers.
const MOST_CHUNKS: usize = 128;

struct Gelf {
    settings: Settings,
    host: String,
    extra: Map<String, Value>,
    link: Option<Link>,
}

pub(crate) fn open(config: &Config) -> Result<Box<dyn Transport>, String> {
    let settings = Settings::parse(&config.options).map_err(|e| e.chain())?;
    let origin = &config.origin;
    let mut extra = Map::new();
    for (key, value) in [
        ("_command", &origin.command),
        ("_container_id", &origin.id),
        ("_container_name", &origin.name),
        ("_created", &origin.created),
        ("_image_id", &origin.image_id),
        ("_image_name", &origin.image_name),
        ("_tag", &config.tag),
    ] {
        extra.insert(key.into(), value.as_str().into());
    }
    for (key, value) in &config.attrs {
        let key = if key.starts_with('_') { key.clone() } else { format!("_{key}") };
        extra.insert(key, value.as_str().into());
    }
    let link = net::connect(&settings.address, &Trust::default())
        .map_err(|why| format!("gelf: cannot connect to GELF endpoint: {why}"))?;
    Ok(Box::new(Gelf { settings, host: origin.host.clone(), extra, link: Some(link) }))
}

impl Gelf {
    fn message(&self, record: &Record) -> Vec<u8> {
        let mut message = Map::new();
        message.insert("version".into(), "1.1".into());
        message.insert("host".into(), self.host.as_str().into());
        message.insert("short_message".into(), String::from_utf8_lossy(&record.line).into());
        let millis = record.at.unix_nanos() / 1_000_000;
        message.insert("timestamp".into(), (millis as f64 / 1000.0).into());
        let level = if record.stream == Stream::Stderr { 3 } else { 6 };
        message.insert("level".into(), level.into());
        message.extend(self.extra.clone());
        Value::from(message).to_string().into_bytes()
    }

    fn compressed(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let level = Level::new(self.settings.level);
        match self.settings.compression {
            Compression::None => Ok(message.to_vec()),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(message)?;
                encoder.finish()
            }
            Compression::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(message)?;
                encoder.finish()
            }
        }
    }

    fn datagrams(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Err("not connected".into()) };
        let mut send = |bytes: &[u8]| match link.send(bytes) {
            // The answer to an earlier datagram: nobody listened. This one was not sent for that.
            Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => link.send(bytes),
            other => other,
        };
        if bytes.len() <= DATAGRAM {
            return send(bytes).map_err(|e| e.to_string());
        }
        let parts: Vec<&[u8]> = bytes.chunks(DATAGRAM - CHUNK_HEAD).collect();
        let count = u8::try_from(parts.len()).ok().filter(|n| usize::from(*n) <= MOST_CHUNKS);
        let count = count.ok_or_else(|| format!("message of {} bytes is too long", bytes.len()))?;
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| e.to_string())?;
        for (number, part) in (0..count).zip(parts) {
            let whole = [&[0x1e, 0x0f][..], &id, &[number, count], part].concat();
            send(&whole).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn stream(&mut self, mut message: Vec<u8>) -> Result<(), String> {
        message.push(0);
        let mut last = String::new();
        for again in 0..=self.settings.reconnects {
            if again > 0 {
                std::thread::sleep(self.settings.delay);
            }
            let link = match self.link.take().filter(|l| !l.is_closed()) {
                Some(link) => Ok(link),
                None => net::connect(&self.settings.address, &Trust::default()),
            };
            match link.and_then(|mut l| l.send(&message).map(|()| l).map_err(|e| e.to_string())) {
                Ok(link) => {
                    self.link = Some(link);
                    return Ok(());
                }
                Err(err) => last = err,
            }
        }
        Err(last)
    }
}

impl Transport for Gelf {
    fn send(&mut self, record: &Record) -> Result<(), String> {
        // A message without text is refused by receivers.
        if record.line.is_empty() {
            return Ok(());
        }
        let message = self.message(record);
        if matches!(self.settings.address, Address::Tcp(_)) {
            return self.stream(message);
        }
        let bytes = self.compressed(&message).map_err(|e| e.to_string())?;
        self.datagrams(&bytes)
    }
}
