//! Runs a program with a time limit and keeps what it printed.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long one command may take before it is killed and the test fails: generous, because it only
/// bounds a hang on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// What a program printed and how it ended.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; 128+n for a signal; `None` when it had to be killed at the limit.
    pub code: Option<i32>,
    /// Standard output, lossily as UTF-8.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Standard output as bytes.
    pub bytes: Vec<u8>,
}

impl Output {
    /// The trimmed output of a command that must succeed.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.code(0)
    }

    /// The trimmed output of a command that must end with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn code(&self, code: i32) -> &str {
        assert!(self.code == Some(code), "wanted exit code {code}\n{}", self.describe());
        self.stdout.trim_end()
    }

    /// The trimmed error text of a command that must end with `code`, which is not 0.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn fails(&self, code: i32) -> &str {
        self.code(code);
        self.stderr.trim_end()
    }

    /// Asserts that it failed with `code` and that its error text holds every one of `parts`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn fails_with(&self, code: i32, parts: &[&str]) {
        self.code(code);
        for part in parts {
            assert!(self.stderr.contains(part), "wanted {part:?} in stderr\n{}", self.describe());
        }
    }

    /// The lines of the output of a command that must succeed.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        self.ok().lines().collect()
    }

    /// The output of a command that must succeed, as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(self.ok()) {
            Ok(value) => value,
            Err(e) => panic!("not JSON: {e}\n{}", self.describe()),
        }
    }

    /// Everything, for a failure message.
    pub fn describe(&self) -> String {
        let mut text = format!("$ {}\n", self.line);
        match self.code {
            Some(code) => _ = writeln!(text, "exit code {code}"),
            None => _ = writeln!(text, "killed after {LIMIT:?}"),
        }
        for (name, part) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let cut: String = part.chars().take(4000).collect();
            _ = writeln!(text, "{name}: {}", cut.trim_end());
        }
        text
    }
}

/// Runs `command` to its end with `stdin` on its standard input.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn run(command: &mut Command, stdin: &[u8]) -> Output {
    run_for(command, stdin, LIMIT)
}

/// As [`run`], with a limit of its own.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn run_for(command: &mut Command, stdin: &[u8], limit: Duration) -> Output {
    command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = line_of(command);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => panic!("start {line}: {e}"),
    };
    let writer = child.stdin.take().map(|mut pipe| {
        let bytes = stdin.to_vec();
        thread::spawn(move || _ = pipe.write_all(&bytes))
    });
    let (done, waiting) = mpsc::channel();
    let stdout = reader(child.stdout.take(), done.clone());
    let stderr = reader(child.stderr.take(), done);
    let deadline = Instant::now() + limit;
    // Both pipes must have ended; then the program has, or is about to.
    let ended = (0..2)
        .all(|_| waiting.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok());
    let code = if ended { exit_code(&mut child) } else { None };
    if !ended {
        _ = child.kill();
        _ = child.wait();
    }
    if let Some(writer) = writer {
        _ = writer.join();
    }
    let bytes = stdout.join().unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    Output {
        line,
        code,
        stdout: String::from_utf8_lossy(&bytes).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
        bytes,
    }
}

/// The exit code of an ended child, 128+n for a signal.
pub fn exit_code(child: &mut Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    let status = child.wait().ok()?;
    status.code().or_else(|| status.signal().map(|s| 128 + s))
}

fn reader(
    pipe: Option<impl Read + Send + 'static>,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            _ = pipe.read_to_end(&mut bytes);
        }
        _ = done.send(());
        bytes
    })
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        line.push(' ');
        if arg.is_empty() || arg.contains([' ', '\n', '"', '$']) {
            _ = write!(line, "{arg:?}");
        } else {
            line.push_str(&arg);
        }
    }
    line
}
