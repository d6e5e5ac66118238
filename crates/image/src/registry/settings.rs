//! What the daemon was told about registries, read into what it means.

use super::{HUB, credentials::host_of};
use base::{Error, Result};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

/// What was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Mirrors, those of one registry in order.
    pub mirrors: Vec<Mirror>,
    /// Registries that need neither a known certificate nor TLS: `host`, `host:port`, `10.0.0.0/8`.
    pub insecure: Vec<String>,
    /// Folders in which `<host:port>/` holds certificates; each is looked at.
    pub certificates: Vec<PathBuf>,
    /// Proxies.
    pub proxies: fetch::Proxies,
    /// Hosts besides a registry's own that may be shown its credentials.
    pub token_servers: Vec<String>,
    /// Registries that may be reached, `host`, `host:port` or `host/prefix`; `None` for all.
    pub allowed: Option<Vec<String>>,
}

/// A mirror of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Domain of the registry, `docker.io`.
    pub of: String,
    /// `https://host:port` of the mirror.
    pub base: String,
    /// What repositories' names begin with there; mostly empty.
    pub prefix: String,
}

impl Mirror {
    /// Reads `URL` (of Docker Hub) or `HOST=URL`; a path is what repositories' names begin with there.
    ///
    /// # Errors
    /// `Invalid` with docker's wording.
    pub fn parse(text: &str) -> Result<Self> {
        let (of, url) = match text.split_once('=') {
            Some((of, url)) if !of.contains("://") => (of, url),
            _ => ("docker.io", text),
        };
        let bad = |why: &str| Error::invalid(format!("invalid mirror: {why}: {text:?}"));
        let uri = fetch::url::parse(url.trim_end_matches('/')).map_err(|_| {
            bad("no scheme specified: must use either 'https://' or 'http://', with a host")
        })?;
        if uri.query().is_some() {
            return Err(bad("unexpected query"));
        }
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        if authority.contains('@') {
            return Err(bad("username/password not allowed in the URI"));
        }
        if of.is_empty() {
            return Err(bad("no registry before '='"));
        }
        let prefix = uri.path().trim_matches('/').to_owned();
        Ok(Self {
            of: host_of(of),
            base: format!("{}://{authority}", uri.scheme_str().unwrap_or("https")),
            prefix,
        })
    }
}

impl Settings {
    /// The host that a reference's domain is served at.
    pub(crate) fn host(domain: &str) -> &str {
        if domain == "docker.io" { HUB } else { domain }
    }

    /// Fails for what is on no list of registries that may be reached. `path` is a repository; empty for all of a
    /// registry.
    ///
    /// # Errors
    /// `Forbidden`, naming the setting.
    pub(crate) fn permit(&self, domain: &str, path: &str) -> Result<()> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let covers = |entry: &String| match entry.trim().split_once('/') {
            None => entry.trim().eq_ignore_ascii_case(domain),
            Some((host, prefix)) => {
                let prefix = prefix.trim_end_matches('/');
                host.eq_ignore_ascii_case(domain)
                    && (path.is_empty()
                        || path.strip_prefix(prefix).is_some_and(|rest| {
                            rest.is_empty() || rest.starts_with('/') || prefix.is_empty()
                        }))
            }
        };
        if allowed.iter().any(covers) {
            return Ok(());
        }
        let what = if path.is_empty() { domain.to_owned() } else { format!("{domain}/{path}") };
        Err(Error::forbidden(format!(
            "{what} is in no registry that may be reached: whoever runs the daemon allows it by --registry-allow={domain}"
        )))
    }

    /// Whether a registry, `host` or `host:port`, is insecure: named so, or on this machine.
    pub(crate) fn is_insecure(&self, host_port: &str) -> bool {
        let host = bare_host(host_port);
        if is_own(host_port) {
            return true;
        }
        let address: Option<IpAddr> = host.parse().ok();
        self.insecure.iter().map(|i| i.trim()).any(|entry| {
            let entry = entry.split_once("://").map_or(entry, |(_, rest)| rest);
            if entry.contains('/') {
                return address.is_some_and(|a| fetch::in_network(a, entry));
            }
            entry.eq_ignore_ascii_case(host_port) || entry.eq_ignore_ascii_case(host)
        })
    }

    /// What `<folder>/<host:port>/` says of trust: `*.crt` are authorities, `x.cert` with `x.key` is a
    /// certificate of ours.
    ///
    /// # Errors
    /// `Invalid` with docker's wording when one of a pair is missing.
    pub(crate) fn trust(&self, host_port: &str) -> Result<fetch::Trust> {
        let mut trust = fetch::Trust::default();
        // A host is a folder's name here, so it must be no path.
        if host_port.contains('/') || host_port.starts_with('.') {
            return Ok(trust);
        }
        for folder in &self.certificates {
            certificates(&folder.join(host_port), &mut trust)?;
        }
        Ok(trust)
    }
}

fn certificates(folder: &Path, trust: &mut fetch::Trust) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(Error::io(format!("cannot read {}", folder.display()), err)),
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => trust.authorities.push(path.clone()),
            Some("cert") => {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    return Err(Error::invalid(format!(
                        "missing key {} for client certificate {name}. CA certificates must use the extension .crt",
                        key.file_name().unwrap_or_default().to_string_lossy()
                    )));
                }
                trust.identity = Some((path.clone(), key));
            }
            Some("key") if !paths.contains(&path.with_extension("cert")) => {
                return Err(Error::invalid(format!("missing client certificate for key {name}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The host without its port and brackets.
pub(crate) fn bare_host(host_port: &str) -> &str {
    if let Some(rest) = host_port.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host_port.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => {
            host
        }
        _ => host_port,
    }
}

/// Whether it is this machine by name or address.
pub(crate) fn is_own(host_port: &str) -> bool {
    let host = bare_host(host_port);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_of_docker_hub_or_of_whom_they_say() {
        let hub = Mirror::parse("https://m.example:8443/").unwrap();
        assert_eq!((hub.of.as_str(), hub.base.as_str()), ("docker.io", "https://m.example:8443"));
        let quay = Mirror::parse("quay.io=http://m/proxy/quay").unwrap();
        assert_eq!((quay.of.as_str(), quay.prefix.as_str()), ("quay.io", "proxy/quay"));
        for bad in
            ["m.example", "=https://x", "https://u:p@m", "ftp://x", "quay.io=", "https://m/?x"]
        {
            assert!(Mirror::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_listed_may_be_reached() {
        let all = Settings::default();
        assert!(all.permit("docker.io", "library/a").is_ok());
        let listed = |list: &[&str]| Settings {
            allowed: Some(list.iter().map(|entry| (*entry).to_owned()).collect()),
            ..Settings::default()
        };
        assert!(listed(&[]).permit("docker.io", "library/a").is_err());
        let some = listed(&["reg:5000", "Quay.io/team/", "docker.io/library/nginx"]);
        for (domain, path, fine) in [
            ("reg:5000", "any/thing", true),
            ("reg", "any", false),
            ("quay.io", "team/app", true),
            ("quay.io", "team", true),
            ("quay.io", "teams/app", false),
            ("quay.io", "", true),
            ("docker.io", "library/nginx", true),
            ("docker.io", "library/nginx2", false),
        ] {
            assert_eq!(some.permit(domain, path).is_ok(), fine, "{domain}/{path}");
        }
    }

    #[test]
    fn insecure_is_who_was_named_and_this_machine() {
        let settings = Settings {
            insecure: vec!["reg:5000".into(), "plain".into(), "10.0.0.0/8".into()],
            ..Settings::default()
        };
        for insecure in [
            "reg:5000",
            "plain:1",
            "plain",
            "10.1.2.3:5000",
            "localhost:5000",
            "127.9.9.9",
            "[::1]:1",
        ] {
            assert!(settings.is_insecure(insecure), "{insecure}");
        }
        for secure in ["reg:5001", "reg", "11.0.0.1", "localhost.example", "xplain"] {
            assert!(!settings.is_insecure(secure), "{secure}");
        }
    }

    #[test]
    fn certificates_are_found_by_host_and_port() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("reg:5000");
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("ca.crt"), "").unwrap();
        std::fs::write(own.join("client.cert"), "").unwrap();
        let settings =
            Settings { certificates: vec![dir.path().to_owned()], ..Settings::default() };
        let err = settings.trust("reg:5000").unwrap_err().to_string();
        assert!(
            err.starts_with("missing key client.key for client certificate client.cert"),
            "{err}"
        );
        std::fs::write(own.join("client.key"), "").unwrap();
        let trust = settings.trust("reg:5000").unwrap();
        assert_eq!(trust.authorities, [own.join("ca.crt")]);
        assert!(trust.identity.is_some());
        assert_eq!(settings.trust("other").unwrap(), fetch::Trust::default());
        assert_eq!(settings.trust("../reg:5000").unwrap(), fetch::Trust::default());
    }
}
