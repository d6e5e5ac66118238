//! A plugin of Docker's first kind, as a test wants it: it listens on a socket, keeps what it was asked, and answers
//! as it is told, or badly; and plugins that are programs of their own.

use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// An answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A document, with 200.
    Good(Value),
    /// A document, with another status.
    Bad(u16, Value),
    /// Something that is no document.
    Text(String),
    /// None, with the connection left open.
    Never,
    /// None, with the connection closed.
    Closed,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self::Good(value)
    }
}

type Judge = dyn Fn(&str, &Value) -> Answer + Send + Sync;

#[derive(Default)]
struct Kept {
    asked: Mutex<Vec<(String, Value)>>,
    /// Connections of those who wait in vain.
    silent: Mutex<Vec<UnixStream>>,
    over: AtomicBool,
}

/// A plugin that listens. It ends, with its socket, when this goes.
pub struct Plugin {
    socket: PathBuf,
    kept: Arc<Kept>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("socket", &self.socket).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plugin {
    /// Listens on `NAME.sock` in `dir`; `judge` gets the method and the document, `Plugin.Activate` too.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn start(
        dir: &Path,
        name: &str,
        judge: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let socket = dir.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&socket).expect("the folder takes a socket");
        let (kept, judge) = (Arc::new(Kept::default()), Arc::new(judge) as Arc<Judge>);
        let own = Arc::clone(&kept);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.over.load(Ordering::SeqCst) {
                    return;
                }
                let (kept, judge) = (Arc::clone(&own), Arc::clone(&judge));
                // Plugins are asked several things at once.
                thread::spawn(move || _ = serve(stream, &kept, &*judge));
            }
        });
        Self { socket, kept, thread: Some(thread) }
    }

    /// All that it was asked until now, oldest first.
    pub fn asked(&self) -> Vec<(String, Value)> {
        lock(&self.kept.asked).clone()
    }

    /// The documents that came with one method, oldest first.
    pub fn asked_for(&self, method: &str) -> Vec<Value> {
        let all = self.asked();
        all.into_iter().filter(|(asked, _)| asked == method).map(|(_, shown)| shown).collect()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kept.over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        _ = UnixStream::connect(&self.socket);
        _ = std::fs::remove_file(&self.socket);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
        lock(&self.kept.silent).clear();
    }
}

fn serve(stream: UnixStream, kept: &Kept, judge: &Judge) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
            length = n.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    lock(&kept.asked).push((method.clone(), body.clone()));
    let (status, text) = match judge(&method, &body) {
        Answer::Good(value) => (200, value.to_string()),
        Answer::Bad(status, value) => (status, value.to_string()),
        Answer::Text(text) => (200, text),
        Answer::Closed => return Ok(()),
        Answer::Never => {
            lock(&kept.silent).push(stream);
            return Ok(());
        }
    };
    let head = format!("HTTP/1.1 {status} Told\r\nContent-Length: {}\r\n\r\n", text.len());
    (&stream).write_all(&[head.as_bytes(), text.as_bytes()].concat())
}

/// A program that runs until this goes.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(path: &Path, arguments: &[&OsStr]) -> Self {
        Self(Command::new(path).args(arguments).spawn().expect("the program starts"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
