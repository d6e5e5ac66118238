//! Every command: a row each.

use super::{Cx, arguments::Given, create, exec, lifecycle, show, stats, update};
use crate::container::Step;

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// Its name.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) args: &'static str,
    /// What it does.
    pub(super) help: &'static str,
    /// Options with a value, `long|short`.
    pub(super) values: &'static [&'static str],
    /// Options without.
    pub(super) switches: &'static [&'static str],
    /// Does it; gives the exit code.
    pub(super) run: fn(&Cx, &Given) -> Step<i32>,
}

/// The command called `name`.
pub(super) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name)
}

/// All of them.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "create",
        args: "ID",
        help: "Make a container from a bundle; its program waits for start",
        values: &["bundle|b", "console-socket", "pid-file", "preserve-fds"],
        switches: &["no-pivot", "no-new-keyring"],
        run: create::create,
    },
    Command {
        name: "start",
        args: "ID",
        help: "Run the program of a created container",
        values: &[],
        switches: &[],
        run: lifecycle::start,
    },
    Command {
        name: "run",
        args: "ID",
        help: "Create and start, and wait for the end unless detached",
        values: &["bundle|b", "console-socket", "pid-file", "preserve-fds"],
        switches: &["no-pivot", "no-new-keyring", "detach|d", "keep", "no-subreaper"],
        run: create::run,
    },
    Command {
        name: "state",
        args: "ID",
        help: "Show the state of a container",
        values: &[],
        switches: &[],
        run: show::state,
    },
    Command {
        name: "kill",
        args: "ID [SIGNAL]",
        help: "Signal the first process (default TERM), or all of them",
        values: &[],
        switches: &["all|a"],
        run: lifecycle::kill,
    },
    Command {
        name: "delete",
        args: "ID",
        help: "Remove what is left of a container",
        values: &[],
        switches: &["force|f"],
        run: lifecycle::delete,
    },
    Command {
        name: "exec",
        args: "ID [COMMAND...]",
        help: "Run a further process in a container",
        values: &[
            "process|p",
            "pid-file",
            "console-socket",
            "cwd",
            "env|e",
            "user|u",
            "additional-gids|g",
            "cap|c",
            "preserve-fds",
            "process-label",
            "apparmor",
            "cgroup",
        ],
        switches: &["detach|d", "tty|t", "no-new-privs", "ignore-paused", "no-subreaper"],
        run: exec::exec,
    },
    Command {
        name: "pause",
        args: "ID",
        help: "Freeze a container",
        values: &[],
        switches: &[],
        run: lifecycle::pause,
    },
    Command {
        name: "resume",
        args: "ID",
        help: "Thaw a container",
        values: &[],
        switches: &[],
        run: lifecycle::resume,
    },
    Command {
        name: "update",
        args: "ID",
        help: "Change the limits of a container",
        values: &[
            "resources|r",
            "memory",
            "memory-reservation",
            "memory-swap",
            "kernel-memory",
            "kernel-memory-tcp",
            "cpu-period",
            "cpu-quota",
            "cpu-burst",
            "cpu-share",
            "cpu-shares",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "cpuset-cpus",
            "cpuset-mems",
            "blkio-weight",
            "pids-limit",
        ],
        switches: &[],
        run: update::update,
    },
    Command {
        name: "ps",
        args: "ID",
        help: "Show the processes of a container",
        values: &["format|f"],
        switches: &[],
        run: show::ps,
    },
    Command {
        name: "list",
        args: "",
        help: "Show all containers below the root",
        values: &["format|f"],
        switches: &["quiet|q"],
        run: show::list,
    },
    Command {
        name: "events",
        args: "ID",
        help: "Show what a container uses, again and again, and when memory ran out",
        values: &["interval"],
        switches: &["stats"],
        run: stats::events,
    },
    Command {
        name: "features",
        args: "",
        help: "Show what this runtime can do",
        values: &[],
        switches: &[],
        run: show::features,
    },
    Command {
        name: "spec",
        args: "",
        help: "Write a config.json to begin with",
        values: &["bundle|b"],
        switches: &["rootless"],
        run: show::spec,
    },
];
