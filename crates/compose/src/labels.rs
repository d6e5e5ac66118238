//! Labels by which docker compose knows what belongs to a project, and the version we answer to.

/// The project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service.
pub const SERVICE: &str = "com.docker.compose.service";
/// The hash of what was asked for.
pub const HASH: &str = "com.docker.compose.config-hash";
/// The number of a container among those of its service.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// The key of a volume.
pub const VOLUME: &str = "com.docker.compose.volume";
/// The key of a network.
pub const NETWORK: &str = "com.docker.compose.network";
/// The project's folder.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The project's files.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// `--env-file`.
pub const ENV_FILE: &str = "com.docker.compose.project.environment_file";
/// Whether a container was made by `run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// The part of a one-off container's name.
pub const SLUG: &str = "com.docker.compose.slug";
/// The image a container was made of.
pub const IMAGE: &str = "com.docker.compose.image";
/// What a service depends on.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// The version of the tool.
pub const VERSION: &str = "com.docker.compose.version";
/// The container that one was made to replace.
pub const REPLACE: &str = "com.docker.compose.replace";
/// How an image was built.
pub const BUILDER: &str = "com.docker.compose.image.builder";

/// The docker compose whose containers ours are like.
pub const OUR_VERSION: &str = "2.40.3";
