//! Where the engine is: `-H`, `--context`, `GANTRY_HOST`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current
//! context, else a socket that is there.

use crate::{
    config::Config,
    error::{Fail, Result, text},
    flags::Given,
    tls::Tls,
};
use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
};

/// An engine's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp(String),
    Tls(String, Tls),
}

/// Sockets tried when nothing names one.
const SOCKETS: [&str; 2] = ["/run/gantry.sock", "/var/run/docker.sock"];

impl Endpoint {
    pub(crate) fn choose(global: &Given, config: &Config) -> Result<Self> {
        let tls = Tls::choose(global)?;
        match (Self::plain(global, config, tls.is_some())?, tls) {
            (Self::Tcp(address), Some(tls)) => Ok(Self::Tls(address, tls)),
            (endpoint, _) => Ok(endpoint),
        }
    }

    fn plain(global: &Given, config: &Config, tls: bool) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let hosts = global.list("host");
        if hosts.len() > 1 {
            return Err(Fail::new("Specify only one -H"));
        }
        if let Some(host) = hosts.first() {
            return Self::parse(host, tls);
        }
        if let Some(name) = global.text("context") {
            return Self::of_context(name, config, tls);
        }
        if let Some(host) = variable("GANTRY_HOST").or_else(|| variable("DOCKER_HOST")) {
            return Self::parse(&host, tls);
        }
        let current = variable("DOCKER_CONTEXT").unwrap_or_else(|| config.current_context.clone());
        Self::of_context(&current, config, tls)
    }

    fn of_context(name: &str, config: &Config, tls: bool) -> Result<Self> {
        if name.is_empty() || name == "default" {
            let there = SOCKETS.iter().find(|s| Path::new(s).exists());
            return Ok(Self::Unix(there.unwrap_or(&SOCKETS[1]).into()));
        }
        Self::parse(&config.context_host(name)?, tls)
    }

    fn parse(host: &str, tls: bool) -> Result<Self> {
        match host.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Ok(Self::Unix(SOCKETS[1].into())),
            Some(("tcp" | "http", address)) => {
                let address = address.trim_end_matches('/');
                let port = if address.rsplit(':').next().is_some_and(|p| p.parse::<u16>().is_ok()) {
                    ""
                } else {
                    if tls { ":2376" } else { ":2375" }
                };
                Ok(Self::Tcp(format!("{address}{port}")))
            }
            None if host.starts_with('/') => Ok(Self::Unix(host.into())),
            None if !host.is_empty() && !host.contains('/') => {
                Self::parse(&format!("tcp://{host}"), tls)
            }
            _ => Err(Fail::new(format!("unable to parse docker host `{host}`"))),
        }
    }

    /// Connects.
    pub(crate) fn open(&self) -> io::Result<Socket> {
        Ok(match self {
            Self::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Self::Tls(address, tls) => Socket::Unix(tls.connect(address)?),
        })
    }

    /// What to say when it cannot be reached.
    pub(crate) fn unreachable(&self, err: &io::Error) -> String {
        match err.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "permission denied while trying to connect to the Docker daemon socket at {self}: {}",
                text(err)
            ),
            // TLS says what is wrong, not that nobody is there.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                format!("error during connect: {self}: {err}")
            }
            _ => format!(
                "Cannot connect to the Docker daemon at {self}. Is the docker daemon running?"
            ),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls(address, _) => write!(f, "tcp://{address}"),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(s) => Self::Unix(s.try_clone()?),
            Self::Tcp(s) => Self::Tcp(s.try_clone()?),
        })
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.shutdown(Shutdown::Write),
            Self::Tcp(s) => s.shutdown(Shutdown::Write),
        }
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Unix(s) => s.set_nonblocking(on),
            Self::Tcp(s) => s.set_nonblocking(on),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(s) => s.as_fd(),
            Self::Tcp(s) => s.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.read(into),
            Self::Tcp(s) => s.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(s) => s.write(bytes),
            Self::Tcp(s) => s.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        let unix = |p: &str| Endpoint::Unix(p.into());
        let tcp = |a: &str| Endpoint::Tcp(a.into());
        for (host, want) in [
            ("unix:///a/b", unix("/a/b")),
            ("unix://", unix("/var/run/docker.sock")),
            ("tcp://h:1", tcp("h:1")),
            ("tcp://h", tcp("h:2375")),
            ("h:1", tcp("h:1")),
        ] {
            assert_eq!(Endpoint::parse(host, false).unwrap(), want);
        }
        assert_eq!(Endpoint::parse("tcp://h", true).unwrap(), tcp("h:2376"));
        for bad in ["", "ftp://x", "a/b"] {
            assert!(Endpoint::parse(bad, true).is_err(), "{bad}");
        }
    }
}
