//! The commands: one file each, one line each in [`COMMANDS`].

mod attach;
mod build;
mod build_explain;
mod container_prune;
mod create;
mod df;
mod events;
pub(crate) mod exec;
mod history;
mod image_prune;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logout;
pub(crate) mod logs;
mod manifest_inspect;
mod network_connect;
mod network_create;
mod network_ls;
mod network_prune;
mod network_rm;
mod pause;
mod port;
pub(crate) mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
pub(crate) mod run;
mod save;
mod search;
mod start;
mod stop;
mod system_prune;
mod tag;
mod top;
mod unpause;
mod version;
mod volume_clone;
mod volume_create;
mod volume_export;
mod volume_import;
mod volume_ls;
mod volume_prune;
mod volume_rename;
mod volume_rm;
mod wait;

use crate::command::Command;

/// All commands.
pub(crate) static COMMANDS: &[&Command] = &[
    &run::RUN,
    &exec::EXEC,
    &ps::PS,
    &build::BUILD,
    &build_explain::BUILD_EXPLAIN,
    &pull::PULL,
    &push::PUSH,
    &images::IMAGES,
    &login::LOGIN,
    &logout::LOGOUT,
    &search::SEARCH,
    &version::VERSION,
    &info::INFO,
    &attach::ATTACH,
    &create::CREATE,
    &events::EVENTS,
    &history::HISTORY,
    &import::IMPORT,
    &inspect::INSPECT,
    &inspect::CONTAINER_INSPECT,
    &inspect::IMAGE_INSPECT,
    &kill::KILL,
    &load::LOAD,
    &logs::LOGS,
    &pause::PAUSE,
    &port::PORT,
    &rename::RENAME,
    &restart::RESTART,
    &rm::RM,
    &rmi::RMI,
    &save::SAVE,
    &start::START,
    &stop::STOP,
    &tag::TAG,
    &top::TOP,
    &unpause::UNPAUSE,
    &wait::WAIT,
    &manifest_inspect::MANIFEST_INSPECT,
    &inspect::NETWORK_INSPECT,
    &network_connect::NETWORK_CONNECT,
    &network_connect::NETWORK_DISCONNECT,
    &network_create::NETWORK_CREATE,
    &network_ls::NETWORK_LS,
    &network_prune::NETWORK_PRUNE,
    &network_rm::NETWORK_RM,
    &container_prune::CONTAINER_PRUNE,
    &image_prune::IMAGE_PRUNE,
    &df::DF,
    &volume_create::VOLUME_CREATE,
    &volume_clone::VOLUME_CLONE,
    &volume_clone::VOLUME_SNAPSHOT,
    &volume_export::VOLUME_EXPORT,
    &volume_import::VOLUME_IMPORT,
    &inspect::VOLUME_INSPECT,
    &volume_ls::VOLUME_LS,
    &volume_prune::VOLUME_PRUNE,
    &volume_rename::VOLUME_RENAME,
    &volume_rm::VOLUME_RM,
    &system_prune::SYSTEM_PRUNE,
];

/// Words that hold commands together.
pub(crate) static GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("compose", "Define and run projects of several containers"),
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("manifest", "Look at manifests and manifest lists in registries"),
    ("network", "Manage networks"),
    ("system", "Manage the engine"),
    ("volume", "Manage volumes"),
];
