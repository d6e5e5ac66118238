//! `gantry registry user`: passwords come from standard input, never from the command line.

use super::{database, say};
use crate::{auth, config::Config, meta::Database};
use base::{Error, Result, Timestamp};
use clap::{Args, Subcommand};
use std::{
    io::{BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

/// Bytes of a password, and of a htpasswd file.
const PASSWORD: u64 = 4096;
const HTPASSWD: u64 = 64 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add a user; the password is read from standard input
    Add(Name),
    /// Set a user's password, read from standard input; ends the user's logins
    Passwd(Name),
    /// Remove a user with rules and logins
    Rm(Name),
    /// List users
    Ls,
    /// Add the users of a htpasswd file (bcrypt); those that are there already get its password
    Import(File),
}

#[derive(Debug, Args)]
pub(super) struct Name {
    /// The user's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct File {
    /// A file with a line NAME:HASH for each user
    file: PathBuf,
}

pub(super) fn run(command: User, config: &Config) -> Result<ExitCode> {
    let database = database(config)?;
    match command {
        User::Add(Name { name }) => {
            if database.read_now(|tx| tx.user(&name))?.is_some() {
                return Err(Error::conflict(format!("there is a user {name} already")));
            }
            let hash = auth::hash_password(&password(&name)?)?;
            database.write_now(move |tx| tx.add_user(&name, &hash, Timestamp::now()))?;
        }
        User::Passwd(Name { name }) => {
            let hash = auth::hash_password(&password(&name)?)?;
            database.write_now(move |tx| tx.set_password(&name, &hash, Timestamp::now()))?;
        }
        User::Rm(Name { name }) => database.write_now(move |tx| tx.remove_user(&name))?,
        User::Ls => {
            for user in database.read_now(|tx| tx.users())? {
                say(&format!("{}\t{}", user.name, user.created))?;
            }
        }
        User::Import(File { file }) => return import(&database, &file),
    }
    Ok(ExitCode::SUCCESS)
}

/// The first line of standard input.
fn password(name: &str) -> Result<String> {
    let input = std::io::stdin();
    if input.is_terminal() {
        // Whoever types it sees it: pipe it in, or use a terminal that nobody else sees.
        let asked = write!(std::io::stderr(), "Password for {name} (shown as you type): ");
        asked.map_err(|e| Error::io("cannot ask for the password", e))?;
    }
    let mut line = String::new();
    input
        .lock()
        .take(PASSWORD)
        .read_line(&mut line)
        .map_err(|e| Error::io("cannot read the password", e))?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Error::invalid("the password is empty: give it on standard input"));
    }
    Ok(password.to_owned())
}

/// All users of the file or none.
fn import(database: &Database, path: &std::path::Path) -> Result<ExitCode> {
    let fail = |e| Error::io(format!("cannot read {}", path.display()), e);
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(HTPASSWD).read_to_string(&mut text))
        .map_err(fail)?;
    let users = parse(&text)
        .map_err(|(line, why)| Error::invalid(format!("{} line {line}: {why}", path.display())))?;
    let count = users.len();
    database.write_now(move |tx| {
        let now = Timestamp::now();
        for (name, hash) in users {
            match tx.user(&name)? {
                Some(_) => tx.set_password(&name, &hash, now)?,
                None => tx.add_user(&name, &hash, now)?,
            }
        }
        Ok(())
    })?;
    say(&format!("{count} users imported"))?;
    Ok(ExitCode::SUCCESS)
}

type Users = Vec<(String, String)>;

/// Names and hashes of a htpasswd file, or the first line that cannot be taken and why.
fn parse(text: &str) -> std::result::Result<Users, (usize, String)> {
    let mut users = Users::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, hash)) = line.split_once(':') else {
            return Err((at + 1, "want NAME:HASH".to_owned()));
        };
        if !auth::is_password_hash(hash) {
            return Err((
                at + 1,
                format!(
                    "the hash of {name} is not bcrypt, and weaker ones are not taken: make it with htpasswd -B"
                ),
            ));
        }
        users.push((name.to_owned(), hash.to_owned()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$05$vxzTEYhnFQKPYL6O35nz2uI1dXvKSZWzQJMFPiRHGW9FU9dQFGEBW";

    #[test]
    fn a_htpasswd_file_is_taken_whole_or_not_at_all() {
        let text = format!("# users\n\ncarol:{HASH}\r\nbob:{HASH}\n");
        assert_eq!(parse(&text).unwrap().len(), 2);
        for bad in ["carol", "carol:$apr1$x$y", "carol:{SHA}x", "carol:plain"] {
            assert_eq!(parse(&format!("bob:{HASH}\n{bad}")).unwrap_err().0, 2, "{bad}");
        }
    }
}
