//! What a command works with: its outputs, the user's configuration, the engine.

use crate::{
    client::Client,
    config::Config,
    connect::Endpoint,
    error::{Fail, Result},
    flags::Given,
};
use std::io::{self, IsTerminal};

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Ui {
    pub program: &'static str,
    pub out: io::BufWriter<io::Stdout>,
    pub err: io::Stderr,
    pub config: Config,
    pub endpoint: Endpoint,
    client: Option<Client>,
}

impl Ui {
    pub(crate) fn new(program: &'static str, global: &Given) -> Result<Self> {
        let config = Config::load(global.text("config"))?;
        let endpoint = Endpoint::choose(global, &config)?;
        Ok(Self {
            program,
            out: io::BufWriter::with_capacity(64 * 1024, io::stdout()),
            err: io::stderr(),
            config,
            endpoint,
            client: None,
        })
    }

    /// The engine; asked for its API version on first use.
    pub(crate) fn client(&mut self) -> Result<&Client> {
        if self.client.is_none() {
            let headers = self.config.http_headers.clone();
            self.client = Some(Client::connect(self.endpoint.clone(), headers)?);
        }
        self.client.as_ref().ok_or_else(|| Fail::new("no connection"))
    }

    /// Whether standard output is a terminal.
    pub(crate) fn out_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Does `deed` to each name; all are tried, each failure is printed, and one makes the command fail.
    pub(crate) fn each(
        &mut self,
        names: &[String],
        mut deed: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<()> {
        let mut failed = Vec::new();
        for name in names {
            if let Err(fail) = deed(self, name) {
                failed.push(fail.message);
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Fail::new(failed.join("\n"))) }
    }

    /// Names what a prune removed; nothing is said of nothing.
    pub(crate) fn deleted(&mut self, title: &str, gone: &[String]) -> Result<()> {
        use std::io::Write;
        if !gone.is_empty() {
            writeln!(self.out, "Deleted {title}:\n{}\n", gone.join("\n"))?;
        }
        Ok(())
    }

    /// Asks for a yes; anything else is a no.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<bool> {
        use std::io::Write;
        write!(self.out, "{question} [y/N] ")?;
        self.out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
