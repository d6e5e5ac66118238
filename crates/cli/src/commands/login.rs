//! `login`: has a registry check credentials, and keeps them.

use crate::{
    client::Query,
    command::{Command, Count},
    credentials::{self, Credentials},
    error::{Fail, Result},
    flags::{Flag, Given, Kind, Words, flag, short},
    term::Hidden,
    ui::Ui,
};
use std::io::{self, IsTerminal, Read, Write};

const FLAGS: &[Flag] = &[
    short('p', "password", Kind::Text, "Password or Personal Access Token (PAT)"),
    flag(
        "password-stdin",
        Kind::Bool,
        "Take the Password or Personal Access Token (PAT) from stdin",
    ),
    short('u', "username", Kind::Text, "Username"),
];

pub(crate) const LOGIN: Command = Command {
    names: &["login"],
    usage: "[SERVER]",
    about: "Authenticate to a registry",
    count: Count::AtMost(1),
    words: Words::Anywhere,
    flags: &[FLAGS],
    run,
};

/// Bytes of a password on standard input.
const MOST: u64 = 1 << 20;

fn run(ui: &mut Ui, given: &Given) -> Result<()> {
    let server = given.words.first().map_or("", String::as_str);
    let key = credentials::key_of_server(server);
    let username = given.text_or_empty("username");
    let password = password(ui, given, &username)?;
    let known = if username.is_empty() && password.is_empty() {
        credentials::stored(&ui.config, &key)?
    } else {
        None
    };
    let asked = match known {
        Some(known) => {
            let name = &known.username;
            writeln!(ui.out, "Authenticating with existing credentials... [Username: {name}]")?;
            ui.out.flush()?;
            known
        }
        None => prompt(ui, username, password)?,
    };
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    #[derive(Default)]
    struct Reply {
        status: String,
        identity_token: String,
    }
    let reply: Reply = ui.client()?.post_json("/auth", &Query::new(), &asked.login(&key))?;
    let mut kept = asked;
    if !reply.identity_token.is_empty() {
        kept.password.clear();
        kept.identity_token = reply.identity_token;
    }
    if credentials::store(&ui.config, &key, &kept)? {
        writeln!(
            ui.err,
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            ui.config.file().display()
        )?;
    }
    Ok(writeln!(ui.out, "{}", reply.status)?)
}

fn password(ui: &mut Ui, given: &Given, username: &str) -> Result<String> {
    let password = given.text_or_empty("password");
    if !password.is_empty() {
        let text = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.";
        writeln!(ui.err, "{text}")?;
        if given.is("password-stdin") {
            return Err(Fail::new("--password and --password-stdin are mutually exclusive"));
        }
    }
    if !given.is("password-stdin") {
        return Ok(password);
    }
    if username.is_empty() {
        return Err(Fail::new("Must provide --username with --password-stdin"));
    }
    let mut text = String::new();
    io::stdin().lock().take(MOST).read_to_string(&mut text)?;
    let password = text.trim_end_matches('\n').trim_end_matches('\r').to_owned();
    if password.is_empty() { Err(Fail::new("password is empty")) } else { Ok(password) }
}

fn prompt(ui: &mut Ui, username: String, password: String) -> Result<Credentials> {
    let mut asked = Credentials { username, password, ..Credentials::default() };
    let missing = asked.username.is_empty() || asked.password.is_empty();
    if missing && !io::stdin().is_terminal() {
        return Err(Fail::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    if asked.username.is_empty() {
        write!(ui.out, "Username: ")?;
        ui.out.flush()?;
        io::stdin().read_line(&mut asked.username)?;
        asked.username = asked.username.trim().to_owned();
        if asked.username.is_empty() {
            return Err(Fail::new("username is required"));
        }
    }
    if asked.password.is_empty() {
        write!(ui.out, "Password: ")?;
        ui.out.flush()?;
        {
            let _hidden = Hidden::enter()?;
            io::stdin().read_line(&mut asked.password)?;
        }
        writeln!(ui.out)?;
        asked.password = asked.password.trim_end_matches(['\n', '\r']).to_owned();
        if asked.password.is_empty() {
            return Err(Fail::new("password is required"));
        }
    }
    Ok(asked)
}
