//! The forward protocol, message mode: `[tag, time, record, option]`.
//!
//! Source: the Fluentd forward protocol specification, version 1.

use crate::{
    Record, Transport, msgpack,
    net::{self, Link},
};
use fetch::Trust;
use logging::{Config, drivers::fluentd::Settings};
use std::time::{Duration, Instant};

/// The pause between tries grows by half each time, up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An acknowledgement is some dozens of bytes.
const LONGEST_ACK: usize = 4096;

struct Fluentd {
    settings: Settings,
    tag: String,
    /// What every record bears.
    fixed: Vec<(String, String)>,
    link: Option<(Link, Instant)>,
}

pub(crate) fn open(config: &Config) -> Result<Box<dyn Transport>, String> {
    let settings = Settings::parse(&config.options).map_err(|e| e.chain())?;
    let mut fixed = vec![
        ("container_id".to_owned(), config.origin.id.clone()),
        ("container_name".to_owned(), format!("/{}", config.origin.name)),
    ];
    fixed.extend(config.attrs.clone());
    let mut fluentd = Fluentd { settings, tag: config.tag.clone(), fixed, link: None };
    if !fluentd.settings.asynchronous {
        fluentd.link = Some(fluentd.connect()?);
    }
    Ok(Box::new(fluentd))
}

impl Fluentd {
    fn connect(&self) -> Result<(Link, Instant), String> {
        let link = net::connect(&self.settings.address, &Trust::default())?;
        link.set_timeouts(self.settings.read_timeout, self.settings.write_timeout);
        Ok((link, Instant::now()))
    }

    fn encode(&self, record: &Record, chunk: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(record.line.len() + 512);
        msgpack::list(&mut out, 4);
        msgpack::text(&mut out, self.tag.as_bytes());
        let seconds = record.at.unix();
        if self.settings.precise {
            let short = u32::try_from(seconds).unwrap_or_default();
            msgpack::event_time(&mut out, short, record.at.subsec_nanos());
        } else {
            msgpack::integer(&mut out, seconds);
        }
        let parts = if record.partial.is_some() { 4 } else { 0 };
        msgpack::map(&mut out, self.fixed.len() + 2 + parts);
        let mut pair = |key: &str, value: &[u8]| {
            msgpack::text(&mut out, key.as_bytes());
            msgpack::text(&mut out, value);
        };
        for (key, value) in &self.fixed {
            pair(key, value.as_bytes());
        }
        pair("source", record.stream.as_str().as_bytes());
        pair("log", &record.line);
        if let Some(partial) = &record.partial {
            pair("partial_message", b"true");
            pair("partial_id", partial.id.as_bytes());
            pair("partial_ordinal", partial.ordinal.to_string().as_bytes());
            pair("partial_last", partial.last.to_string().as_bytes());
        }
        // Options; Docker sends them when there are none, too.
        msgpack::map(&mut out, usize::from(chunk.is_some()));
        if let Some(chunk) = chunk {
            msgpack::text(&mut out, b"chunk");
            msgpack::text(&mut out, chunk.as_bytes());
        }
        out
    }

    fn attempt(&mut self, bytes: &[u8], chunk: Option<&str>) -> Result<(), String> {
        let stale = |since: &Instant| {
            self.settings.asynchronous
                && self.settings.reconnect.is_some_and(|limit| since.elapsed() >= limit)
        };
        let kept = self.link.take().filter(|(l, since)| !stale(since) && !l.is_closed());
        let (mut link, since) = match kept {
            Some(link) => link,
            None => self.connect()?,
        };
        link.send(bytes).map_err(|e| e.to_string())?;
        if let Some(chunk) = chunk {
            let got = acknowledged(&mut link)?;
            if got != chunk {
                return Err(format!("acknowledgement of {got} instead of {chunk}"));
            }
        }
        self.link = Some((link, since));
        Ok(())
    }
}

fn acknowledged(link: &mut Link) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut part = [0; 512];
    loop {
        match link.read(&mut part).map_err(|e| e.to_string())? {
            0 => return Err("the receiver hung up before it acknowledged".into()),
            read => bytes.extend_from_slice(&part[..read]),
        }
        if let Some(id) = msgpack::ack(&bytes) {
            return Ok(id);
        }
        if bytes.len() > LONGEST_ACK {
            return Err("the receiver's answer is no acknowledgement".into());
        }
    }
}

impl Transport for Fluentd {
    fn send(&mut self, record: &Record) -> Result<(), String> {
        let chunk = if self.settings.acknowledged {
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(|e| e.to_string())?;
            Some(id.iter().map(|b| format!("{b:02x}")).collect::<String>())
        } else {
            None
        };
        let bytes = self.encode(record, chunk.as_deref());
        let mut wait = self.settings.retry_wait;
        let mut tries = 0;
        loop {
            match self.attempt(&bytes, chunk.as_deref()) {
                Ok(()) => return Ok(()),
                Err(why) if tries >= self.settings.retries => return Err(why),
                Err(_) => {}
            }
            tries += 1;
            std::thread::sleep(wait);
            wait = wait.mul_f64(1.5).min(LONGEST_WAIT);
        }
    }
}
