//! Volumes that are a file system of their own: what the local driver's options `type`, `device` and `o` mean.
//!
//! Such a volume is mounted on its folder in the daemon's mount namespace while a container uses it, as Docker
//! does, so that all its containers share one file system (two mounts of a `tmpfs` would be two).
//! Source: Docker's local volume driver (options, which needs which, texts); mount(8) for the words of `o`.

use base::{Error, Kind, Result};
use std::{collections::BTreeMap, net::ToSocketAddrs as _, path::Path};
use sys::mount::{self, Depth, attr, propagation};

/// A file system to mount, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    kind: String,
    device: String,
    bind: Option<Depth>,
    attrs: u64,
    propagation: u64,
    /// Of the file system.
    data: Vec<(String, Option<String>)>,
}

impl Device {
    /// Reads the options of `docker volume create -o`; `None` when they ask for a plain folder.
    ///
    /// # Errors
    /// `Invalid`: an unknown option, one without those that it needs, words of `o` that contradict it.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Option<Self>> {
        for key in options.keys() {
            match key.as_str() {
                "type" | "o" | "device" | "size" => {}
                _ => return Err(Error::invalid(format!("invalid option: \"{key}\""))),
            }
        }
        let of = |key: &str| options.get(key).map_or("", String::as_str);
        let (kind, device, words) = (of("type"), of("device"), of("o"));
        for (key, needs) in [("type", "device"), ("device", "type"), ("o", "device"), ("o", "type")]
        {
            // A bind needs no type.
            let is_bind = needs == "type" && binds(words).is_some();
            if !of(key).is_empty() && of(needs).is_empty() && !is_bind {
                return Err(Error::invalid(format!("missing required option: \"{needs}\"")));
            }
        }
        if device.is_empty() {
            return Ok(None);
        }
        let mut parsed = Self {
            kind: kind.to_owned(),
            device: device.to_owned(),
            bind: binds(words),
            attrs: 0,
            propagation: propagation::PRIVATE,
            data: Vec::new(),
        };
        for word in words.split(',').filter(|w| !w.is_empty()) {
            parsed.word(word)?;
        }
        if kind == "cifs" && share(device).is_some_and(|(host, _)| has_port(host)) {
            return Err(Error::invalid(
                "port not allowed in CIFS device URL, include 'port' in 'o='",
            ));
        }
        if parsed.bind.is_some() && !device.starts_with('/') {
            return Err(Error::invalid(format!(
                "device of a bind must be an absolute path: \"{device}\""
            )));
        }
        Ok(Some(parsed))
    }

    /// Whether it shows what is the host's own: a bind, a disk, an overlay of folders. Memory and servers of files
    /// are not.
    pub fn is_of_host(&self) -> bool {
        self.bind.is_some()
            || !matches!(self.kind.as_str(), "tmpfs" | "nfs" | "nfs4" | "cifs" | "smb3")
    }

    fn word(&mut self, word: &str) -> Result<()> {
        match word {
            "bind" | "rbind" | "defaults" | "rw" | "suid" | "dev" | "exec" | "atime"
            | "relatime" | "diratime" | "nofail" | "_netdev" | "auto" | "noauto" | "private"
            | "rprivate" | "async" => {}
            "ro" => self.attrs |= attr::RDONLY,
            "nosuid" => self.attrs |= attr::NOSUID,
            "nodev" => self.attrs |= attr::NODEV,
            "noexec" => self.attrs |= attr::NOEXEC,
            "noatime" => self.attrs |= attr::NOATIME,
            "strictatime" => self.attrs |= attr::STRICTATIME,
            "nodiratime" => self.attrs |= attr::NODIRATIME,
            "nosymfollow" => self.attrs |= attr::NOSYMFOLLOW,
            "slave" | "rslave" => self.propagation = propagation::SLAVE,
            "shared" | "rshared" => self.propagation = propagation::SHARED,
            "unbindable" | "runbindable" => self.propagation = propagation::UNBINDABLE,
            "remount" | "move" => {
                return Err(Error::invalid(format!("invalid mount option: \"{word}\"")));
            }
            other => self.data.push(match other.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (other.to_owned(), None),
            }),
        }
        Ok(())
    }

    /// Mounts it on `target`, a folder of ours.
    ///
    /// # Errors
    /// `Invalid` with the kernel's reason; a server's name that cannot be resolved. Nothing is mounted then.
    pub(super) fn mount(&self, target: &Path) -> Result<()> {
        let tried =
            || format!("failed to mount local volume: mount {}:{}", self.device, target.display());
        let fail = |err: std::io::Error| Error::invalid(tried()).caused_by(err);
        let made = match self.bind {
            Some(depth) => {
                let tree = mount::clone_path(Path::new(&self.device), depth).map_err(fail)?;
                mount::set_attr(&tree, self.attrs, 0, self.propagation, depth).map_err(fail)?;
                tree
            }
            None => {
                let mut data = self.data.clone();
                for (key, value) in &mut data {
                    if key == "addr"
                        && let Some(name) = value
                    {
                        *name = address(name)?;
                    }
                }
                // The kernel has no idea of "ro" for a device but through the super block.
                if self.attrs & attr::RDONLY != 0 {
                    data.insert(0, ("ro".to_owned(), None));
                }
                // Where no option names the server's address, the device of CIFS does.
                let named = data.iter().any(|(key, _)| key == "addr");
                let device = match share(&self.device).filter(|_| self.kind == "cifs" && !named) {
                    Some((host, rest)) => format!("//{}{rest}", address(host)?),
                    None => self.device.clone(),
                };
                let fs = mount::new_fs(&self.kind, &device, &data, self.attrs);
                let fs = fs.map_err(|(what, err)| {
                    let kind = if what == "fsopen" {
                        format!(": file system \"{}\" is not known to this kernel", self.kind)
                    } else if what == "create" {
                        String::new()
                    } else {
                        format!(": option \"{what}\"")
                    };
                    Error::invalid(format!("{}{kind}", tried())).caused_by(err)
                })?;
                mount::set_attr(&fs, 0, 0, self.propagation, Depth::One).map_err(fail)?;
                fs
            }
        };
        let onto = rustix::fs::open(
            target,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .map_err(|e| fail(e.into()))?;
        mount::attach(made, onto).map_err(fail)
    }
}

/// Whether the words ask for a bind, and how deep.
fn binds(words: &str) -> Option<Depth> {
    words.split(',').find_map(|word| match word {
        "bind" => Some(Depth::One),
        "rbind" => Some(Depth::Recursive),
        _ => None,
    })
}

/// Server and share of `//server/share`.
fn share(device: &str) -> Option<(&str, &str)> {
    let rest = device.strip_prefix("//").or_else(|| device.strip_prefix("cifs://"))?;
    Some(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

fn has_port(host: &str) -> bool {
    let end = host.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']'));
    end.is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// The address that the kernel wants for a server's name.
fn address(name: &str) -> Result<String> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Ok(name.to_owned());
    }
    let found = (name, 0).to_socket_addrs().ok().and_then(|mut all| all.next());
    found.map(|a| a.ip().to_string()).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!(
                "error resolving passed in network volume address: lookup {name}: no such host"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Option<Device>> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Device::parse(&options)
    }

    #[test]
    fn options_need_each_other_as_in_docker() {
        assert_eq!(parse(&[]).unwrap(), None);
        let text = |options: &[(&str, &str)]| parse(options).unwrap_err().to_string();
        assert_eq!(text(&[("bogus", "x")]), "invalid option: \"bogus\"");
        assert_eq!(text(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(text(&[("device", "tmpfs")]), "missing required option: \"type\"");
        assert_eq!(text(&[("o", "ro")]), "missing required option: \"device\"");
        assert_eq!(
            text(&[("o", "bind"), ("device", "relative")]),
            "device of a bind must be an absolute path: \"relative\""
        );
        assert_eq!(parse(&[("size", "10m")]).unwrap(), None);
        assert!(text(&[("type", "x"), ("device", "y"), ("o", "remount")]).contains("remount"));
    }

    #[test]
    fn servers_of_shares_are_found() {
        assert_eq!(share("//nas.example.com/data/x"), Some(("nas.example.com", "/data/x")));
        assert_eq!(share("//nas"), Some(("nas", "")));
        assert_eq!(share(":/srv/data"), None);
        assert!(has_port("nas:445") && has_port("[fe80::1]:445") && !has_port("fe80::1"));
        let of = |device: &str| parse(&[("type", "cifs"), ("device", device), ("o", "guest")]);
        assert!(of("//nas:445/data").unwrap_err().to_string().contains("port not allowed"));
        assert!(of("//nas/data").unwrap().is_some());
        assert_eq!(address("10.1.2.3").unwrap(), "10.1.2.3");
        let unknown = address("no-such-host.invalid").unwrap_err().to_string();
        assert!(
            unknown.starts_with("error resolving passed in network volume address"),
            "{unknown}"
        );
    }

    #[test]
    fn words_become_attributes_or_the_file_system_s() {
        let device = parse(&[
            ("type", "tmpfs"),
            ("device", "tmpfs"),
            ("o", "size=1m,ro,nodev,uid=5,,rshared"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(device.attrs, attr::RDONLY | attr::NODEV);
        assert_eq!(device.propagation, propagation::SHARED);
        let of = |k: &str, v: &str| (k.to_owned(), Some(v.to_owned()));
        assert_eq!(device.data, [of("size", "1m"), of("uid", "5")]);
        let bind =
            parse(&[("type", "none"), ("device", "/srv"), ("o", "rbind,ro")]).unwrap().unwrap();
        assert_eq!(bind.bind, Some(Depth::Recursive));
        assert!(parse(&[("device", "/srv"), ("o", "bind")]).unwrap().is_some());
    }
}
