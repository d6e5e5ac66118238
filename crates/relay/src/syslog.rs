//! Lines for syslog, RFC 3164, RFC 5424, RFC 5425 (the frames under TLS).

use crate::{
    Record, Transport,
    net::{self, Link},
};
use chrono::{DateTime, Local, SecondsFormat};
use fetch::Trust;
use logging::{
    Address, Config, Stream,
    drivers::syslog::{Form, Settings},
};
use std::path::Path;

/// Where the C library's daemon listens on the systems that there are.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

struct Syslog {
    settings: Settings,
    trust: Trust,
    tag: String,
    host: String,
    link: Option<Link>,
}

pub(crate) fn open(config: &Config) -> Result<Box<dyn Transport>, String> {
    let settings = Settings::parse(&config.options).map_err(|e| e.chain())?;
    let trust = Trust {
        authorities: settings.authorities.iter().cloned().collect(),
        identity: settings.identity.clone(),
        anyone: settings.skip_verify,
    };
    let mut syslog = Syslog {
        settings,
        trust,
        tag: config.tag.clone(),
        host: config.origin.host.clone(),
        link: None,
    };
    syslog.link = Some(syslog.connect()?);
    Ok(Box::new(syslog))
}

impl Syslog {
    fn connect(&self) -> Result<Link, String> {
        match &self.settings.address {
            None => LOCAL
                .iter()
                .find_map(|path| either(Path::new(path), &self.trust).ok())
                .ok_or_else(|| "Unix syslog delivery error".to_owned()),
            Some(Address::Unix(path)) => either(path, &self.trust),
            Some(address) => net::connect(address, &self.trust),
        }
    }

    fn line(&self, record: &Record) -> Vec<u8> {
        let severity = if record.stream == Stream::Stderr { 3 } else { 6 };
        let priority = u32::from(self.settings.facility) * 8 + severity;
        let nanos = record.at.subsec_nanos();
        let at = DateTime::from_timestamp(record.at.unix(), nanos)
            .unwrap_or_default()
            .with_timezone(&Local);
        let (tag, host, pid) = (&self.tag, &self.host, std::process::id());
        let mut line = match self.settings.form {
            Form::Unix => format!("<{priority}>{} {tag}[{pid}]: ", at.format("%b %e %H:%M:%S")),
            Form::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: ", at.format("%b %e %H:%M:%S"))
            }
            Form::Rfc5424 | Form::Rfc5424Micro => {
                let exact = if self.settings.form == Form::Rfc5424 {
                    SecondsFormat::Secs
                } else {
                    SecondsFormat::Micros
                };
                let at = at.to_rfc3339_opts(exact, true);
                format!("<{priority}>1 {at} {host} {tag} {pid} {tag} - ")
            }
        }
        .into_bytes();
        line.extend_from_slice(&record.line);
        line.push(b'\n');
        let framed = matches!(self.settings.form, Form::Rfc5424 | Form::Rfc5424Micro)
            && matches!(self.settings.address, Some(Address::Tls(_)));
        if framed {
            let mut whole = format!("{} ", line.len()).into_bytes();
            whole.extend_from_slice(&line);
            return whole;
        }
        line
    }
}

/// A socket in the file system, of whichever kind it is.
fn either(path: &Path, trust: &Trust) -> Result<Link, String> {
    net::connect(&Address::UnixDatagram(path.to_path_buf()), trust)
        .or_else(|_| net::connect(&Address::Unix(path.to_path_buf()), trust))
}

impl Transport for Syslog {
    fn send(&mut self, record: &Record) -> Result<(), String> {
        let line = self.line(record);
        // Once more on a new connection, as Docker does.
        let mut last = String::new();
        for _ in 0..2 {
            let mut link = match self.link.take().filter(|l| !l.is_closed()) {
                Some(link) => link,
                None => self.connect()?,
            };
            match link.send(&line) {
                Ok(()) => {
                    self.link = Some(link);
                    return Ok(());
                }
                Err(err) => last = err.to_string(),
            }
        }
        Err(last)
    }
}
