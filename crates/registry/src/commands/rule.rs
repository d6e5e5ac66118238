//! `gantry registry rule`

use super::{database, say};
use crate::{
    auth::{Actions, check_rule},
    config::Config,
    meta::RuleRow,
};
use base::{Error, Result, Timestamp};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Rule {
    /// Set what somebody may do in repositories
    Set(Set),
    /// Take a rule away
    Rm(Which),
    /// List rules
    Ls,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    which: Which,
    /// pull, push, delete, joined by commas; or *
    actions: Actions,
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// A user, @users (everybody who logs in) or @anonymous (everybody)
    who: String,
    /// A repository, PREFIX/** or **
    pattern: String,
}

pub(super) fn run(command: Rule, config: &Config) -> Result<ExitCode> {
    let database = database(config)?;
    match command {
        Rule::Set(Set { which: Which { who, pattern }, actions }) => {
            check_rule(&who, &pattern)?;
            if !who.starts_with('@') && database.read_now(|tx| tx.user(&who))?.is_none() {
                return Err(Error::not_found(format!("no such user: {who}: add it first")));
            }
            let rule = RuleRow { who, pattern, actions: actions.bits() };
            database.write_now(move |tx| tx.set_rule(&rule, Timestamp::now()))?;
        }
        Rule::Rm(Which { who, pattern }) => {
            let told = format!("no such rule: {who} {pattern}");
            if !database.write_now(move |tx| tx.remove_rule(&who, &pattern))? {
                return Err(Error::not_found(told));
            }
        }
        Rule::Ls => {
            for rule in database.read_now(|tx| tx.rules())? {
                let actions = Actions::from_bits(rule.actions);
                say(&format!("{}\t{}\t{actions}", rule.who, rule.pattern))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
