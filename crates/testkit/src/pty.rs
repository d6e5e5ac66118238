//! A pseudo-terminal with a program on its other end, as a person at a keyboard would have.

use anyhow::{Context as _, Result};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long [`Pty::expect`] waits.
const LIMIT: Duration = Duration::from_secs(60);

/// A running program and our end of its terminal.
#[derive(Debug)]
pub struct Pty {
    master: File,
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Pty {
    /// Starts `command` in a session of its own with a terminal of `rows` by `columns`.
    ///
    /// # Errors
    /// No terminal is left, or `setsid` or the program cannot be started.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a terminal")?;
        grantpt(&master).context("grant the terminal")?;
        unlockpt(&master).context("unlock the terminal")?;
        let name = ptsname(&master, Vec::new()).context("name the terminal")?;
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(OsStr::from_bytes(name.to_bytes()))
            .context("open the terminal's other end")?;
        tcsetwinsize(&slave, winsize(rows, columns)).context("set the terminal's size")?;
        // `setsid --ctty` makes the terminal the controlling one without a fork hook of our own.
        let mut outer = Command::new("setsid");
        outer.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => outer.env(key, value),
                None => outer.env_remove(key),
            };
        }
        outer.env("TERM", "xterm");
        outer.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = outer.spawn().context("start setsid")?;
        drop(outer);
        let master = File::from(master);
        let mut reader = master.try_clone()?;
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buf) {
                if send.send(buf[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { master, child, output, seen: String::new() })
    }

    /// Types `text`.
    ///
    /// # Panics
    /// When the program is gone.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes keys");
    }

    /// Changes the window's size, as a person dragging its corner.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, winsize(rows, columns)).expect("the terminal takes a size");
    }

    /// Waits until the screen has shown `text` since the last call, and forgets all up to it.
    ///
    /// # Panics
    /// When it does not show up.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(e) => panic!("wanted {text:?} on the terminal ({e}), saw {:?}", self.seen),
            }
        }
    }

    /// Waits for the program's end: its exit code and what was shown since the last [`Pty::expect`].
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(mut self) -> (i32, String) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    _ = self.child.kill();
                    panic!("the program on the terminal did not end, saw {:?}", self.seen);
                }
            }
        }
        let code = crate::command::exit_code(&mut self.child).unwrap_or(-1);
        (code, std::mem::take(&mut self.seen))
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
