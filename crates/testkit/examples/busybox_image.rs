//! Writes the busybox image as a docker-archive to standard output: `... | docker load`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(testkit::image::busybox())
}
