//! Bounds on what a build may be handed. Each has its unit in the name.

use std::time::Duration;

/// Size of a Dockerfile and of a `.dockerignore`.
pub const DOCKERFILE_BYTES: u64 = 8 << 20;
/// Length of one physical line of a Dockerfile (bufio.MaxScanTokenSize, which Docker's parser stops at).
pub const LINE_BYTES: usize = 65_535;
/// Instructions in a Dockerfile.
pub const INSTRUCTIONS: usize = 100_000;
/// `/etc/passwd` and `/etc/group` of an image, read for `--chown`.
pub const PASSWD_BYTES: u64 = 16 << 20;
/// What `ADD URL` or a remote context may download.
pub const DOWNLOAD_BYTES: u64 = 10 << 30;
/// How long a server may take to send the next bytes.
pub const DOWNLOAD_IDLE: Duration = Duration::from_secs(60);
/// How long one download may take altogether.
pub const DOWNLOAD_TOTAL: Duration = Duration::from_secs(3600);
/// Redirects that a download follows.
pub const REDIRECTS: u32 = 10;
/// Output of stages that are not being shown yet, in messages.
pub const PENDING_MESSAGES: usize = 256;
