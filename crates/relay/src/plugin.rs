//! Plugins for logs: entries through a pipe that the plugin reads.
//!
//! Flow: `LogDriver.StartLogging` tells of a named pipe beside the container's log and of the container; each record is a
//! message (protobuf) after its length; at the end the pipe is closed and `StopLogging` told. A plugin that dies closes
//! the pipe: it is told to start again, and what comes meanwhile is lost and counted.
//! Invariant: a pipe that is there when logging starts is of a relay that was killed; the plugin is told to stop first.
//! Source: Docker's page "Docker log driver plugins"; Moby `api/types/plugins/logdriver/entry.proto`.
//! Not here: `ReadLogs`; `docker logs` reads the copy.

use crate::{Record, Transport};
use ::plugin::Plugin;
use logging::{Config, drivers::plugin::KIND};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// A plugin may be starting: it is waited for that long.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a plugin that is gone is looked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often to look whether the plugin reads.
const LOOK: Duration = Duration::from_millis(5);

/// A plugin, asked from a thread that may wait.
struct Asked {
    plugin: Plugin,
    runtime: Runtime,
    limit: Duration,
}

impl Asked {
    fn new(config: &Config) -> Result<Self, String> {
        let told = config.plugin.clone().unwrap_or_default();
        let limit = Duration::from_secs(told.seconds);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            plugin: Plugin::new(&config.driver, told.folders.into(), limit),
            runtime: runtime.map_err(|e| format!("cannot wait for plugins: {e}"))?,
            limit,
        })
    }

    fn tell(&self, patience: Duration, method: &str, argument: &Value) -> Result<(), String> {
        let plugin = self.plugin.awaited(patience.min(self.limit));
        let asked = self.runtime.block_on(plugin.call::<Value>(method, argument));
        let answer = asked.map_err(|e| e.chain())?;
        match answer["Err"].as_str().filter(|e| !e.is_empty()) {
            Some(err) => Err(format!("{method}: {err}")),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let plugin = self.plugin.awaited(PATIENCE.min(self.limit));
        let implements = self.runtime.block_on(plugin.activate()).map_err(|e| e.chain())?;
        match implements.iter().any(|i| i == KIND) {
            true => Ok(()),
            false => Err(format!("plugin {:?} does not implement {KIND}", plugin.name())),
        }
    }
}

struct Pipe {
    asked: Asked,
    path: PathBuf,
    start: Value,
    file: Option<File>,
    /// When the plugin was told to start last.
    tried: Instant,
}

fn place(config: &Config) -> PathBuf {
    config.path.with_file_name("plugin.pipe")
}

fn stop(asked: &Asked, path: &Path) -> Result<(), String> {
    asked.tell(Duration::ZERO, "LogDriver.StopLogging", &json!({"File": path}))
}

pub(crate) fn open(config: &Config) -> Result<Box<dyn Transport>, String> {
    let failed = |why: String| format!("error looking up logging plugin {}: {why}", config.driver);
    let asked = Asked::new(config)?;
    asked.check().map_err(failed)?;
    let path = place(config);
    if path.exists() {
        // What it says does not matter: it may be another one than was told to start.
        let _ = stop(&asked, &path);
        std::fs::remove_file(&path)
            .map_err(|e| format!("cannot remove {}: {e}", path.display()))?;
    }
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0)
        .map_err(|e| format!("cannot make the pipe {}: {e}", path.display()))?;
    let start = json!({"File": path, "Info": info(config)});
    let mut pipe = Pipe { asked, path, start, file: None, tried: Instant::now() };
    pipe.start(PATIENCE).inspect_err(|_| _ = std::fs::remove_file(&pipe.path))?;
    Ok(Box::new(pipe))
}

/// The end: the pipe goes, and the plugin is told.
pub(crate) fn close(config: &Config) {
    let path = place(config);
    if let Ok(asked) = Asked::new(config) {
        // A plugin that is gone needs not be told.
        let _ = stop(&asked, &path);
    }
    let _ = std::fs::remove_file(path);
}

/// What a plugin is told of a container, in Docker's names.
fn info(config: &Config) -> Value {
    let (origin, told) = (&config.origin, config.plugin.clone().unwrap_or_default());
    json!({
        "Config": config.options.0,
        "ContainerID": origin.id,
        "ContainerName": format!("/{}", origin.name),
        "ContainerEntrypoint": told.entrypoint,
        "ContainerArgs": told.arguments,
        "ContainerImageID": origin.image_id,
        "ContainerImageName": origin.image_name,
        "ContainerCreated": origin.created,
        "ContainerEnv": told.environment,
        "ContainerLabels": told.labels,
        "LogPath": "",
        "DaemonName": "docker",
    })
}

impl Pipe {
    /// Tells the plugin to start and waits until it reads.
    fn start(&mut self, patience: Duration) -> Result<(), String> {
        self.tried = Instant::now();
        self.asked.tell(patience, "LogDriver.StartLogging", &self.start)?;
        let late = Instant::now() + self.asked.limit;
        loop {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::open(&self.path, flags, Mode::empty()) {
                Ok(file) => {
                    rustix::fs::fcntl_setfl(&file, OFlags::empty())
                        .map_err(|e| format!("cannot write to {}: {e}", self.path.display()))?;
                    self.file = Some(file.into());
                    return Ok(());
                }
                Err(rustix::io::Errno::NXIO) if Instant::now() < late => std::thread::sleep(LOOK),
                Err(rustix::io::Errno::NXIO) => {
                    return Err(format!("the plugin does not read {}", self.path.display()));
                }
                Err(e) => return Err(format!("cannot open {}: {e}", self.path.display())),
            }
        }
    }
}

impl Transport for Pipe {
    fn send(&mut self, record: &Record) -> Result<(), String> {
        let message = message(record);
        if let Some(file) = &mut self.file {
            match file.write_all(&message) {
                Ok(()) => return Ok(()),
                Err(_) => self.file = None,
            }
        } else if self.tried.elapsed() < AGAIN {
            return Err("the plugin is gone".into());
        }
        self.start(Duration::ZERO)?;
        match &mut self.file {
            Some(file) => file.write_all(&message).map_err(|e| {
                self.file = None;
                format!("cannot write to {}: {e}", self.path.display())
            }),
            None => Err("the plugin is gone".into()),
        }
    }
}

/// A record as `LogEntry`, after its length.
fn message(record: &Record) -> Vec<u8> {
    let mut out = vec![0; 4];
    bytes(&mut out, 1, record.stream.as_str().as_bytes());
    number(&mut out, 2, record.at.unix_nanos().cast_unsigned());
    bytes(&mut out, 3, &record.line);
    if let Some(partial) = &record.partial {
        number(&mut out, 4, 1);
        let mut inner = Vec::new();
        if partial.last {
            number(&mut inner, 1, 1);
        }
        bytes(&mut inner, 2, partial.id.as_bytes());
        number(&mut inner, 3, partial.ordinal.into());
        bytes(&mut out, 5, &inner);
    }
    // A record is a line of some kilobytes.
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Partial;
    use base::Timestamp;
    use logging::Stream;

    #[test]
    fn records_are_messages_after_their_length() {
        let mut record = Record {
            stream: Stream::Stderr,
            at: Timestamp::from_unix_nanos(300),
            line: b"hi".to_vec(),
            partial: None,
        };
        assert_eq!(message(&record), b"\x00\x00\x00\x0f\x0a\x06stderr\x10\xac\x02\x1a\x02hi");
        record.partial = Some(Partial { id: "x".into(), ordinal: 2, last: true });
        assert_eq!(message(&record)[19..], *b"\x20\x01\x2a\x07\x08\x01\x12\x01x\x18\x02");
    }
}
