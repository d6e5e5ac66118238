//! `-v`, `--tmpfs` and `--mount`.
//!
//! Source: docker/cli `opts/mount.go` and `cli/compose/loader/volume.go` (keys, forms, errors).

use super::values;
use crate::error::{Fail, Result};
use api::model::{BindOptions, DriverConfig, Mount, TmpfsOptions, VolumeOptions};

/// A `-v` value: an anonymous volume's path, or a bind as the API takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    Anonymous(String),
    Bind(String),
}

impl Volume {
    /// Reads `[source:]target[:mode]`; a relative source becomes a path here.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Fail::new("invalid empty volume spec"));
        }
        if text.split(':').any(str::is_empty) {
            return Err(Fail::new(format!("invalid spec: {text}: empty section between colons")));
        }
        let Some((source, rest)) = text.split_once(':') else {
            return Ok(Self::Anonymous(text.to_owned()));
        };
        let relative = source == "."
            || source.starts_with("./")
            || source.starts_with("../")
            || source == "..";
        if !relative {
            return Ok(Self::Bind(text.to_owned()));
        }
        let here = std::env::current_dir()?;
        let mut path = here;
        for part in source.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(path.pop()),
                part => path.push(part),
            }
        }
        Ok(Self::Bind(format!("{}:{rest}", path.display())))
    }
}

/// Reads `type=bind,source=...,target=...`.
pub(crate) fn mount(text: &str) -> Result<Mount> {
    let fail = |why: String| {
        Fail::new(format!("invalid argument {text:?} for \"--mount\" flag: {why}")).with_code(125)
    };
    let mut mount = Mount { r#type: "volume".into(), ..Mount::default() };
    let fields = values::csv(text)?;
    if text.is_empty() {
        return Err(fail("value is empty".into()));
    }
    for field in fields {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(value)),
            None => (field.to_lowercase(), None),
        };
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => mount.read_only = true,
                "volume-nocopy" => volume(&mut mount).no_copy = true,
                "bind-nonrecursive" => bind(&mut mount).non_recursive = true,
                _ => return Err(fail(format!("invalid field '{field}' must be a key=value pair"))),
            }
            continue;
        };
        set(&mut mount, &key, value).map_err(fail)?;
    }
    check(&mount).map_err(fail)?;
    Ok(mount)
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn set(mount: &mut Mount, key: &str, value: &str) -> Result<(), String> {
    let flag = || values::boolean(value).map_err(|_| format!("invalid value for {key}: {value}"));
    match key {
        "type" => mount.r#type = value.to_lowercase(),
        "source" | "src" => {
            mount.source = value.to_owned();
            if value == "." || value.starts_with("./") || value.starts_with("../") {
                let here = std::env::current_dir().map_err(|e| e.to_string())?;
                mount.source = here.join(value).display().to_string();
            }
        }
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = flag()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = flag()?,
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-nocopy" => volume(mount).no_copy = flag()?,
        "volume-label" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.get_or_insert_default().insert(name.to_owned(), text.to_owned());
        }
        "volume-driver" => value.clone_into(&mut driver(mount).name),
        "volume-opt" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            driver(mount).options.get_or_insert_default().insert(name.to_owned(), text.to_owned());
        }
        "image-subpath" => {
            value.clone_into(&mut mount.image_options.get_or_insert_default().subpath);
        }
        "tmpfs-size" => {
            let size = base::units::parse_bytes(value).map_err(|_| bad(key, value))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| bad(key, value))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{key}={value}'")),
    }
    Ok(())
}

fn bad(key: &str, value: &str) -> String {
    format!("invalid value for {key}: {value}")
}

fn check(mount: &Mount) -> Result<(), String> {
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    for (options, wanted, there) in [
        ("volume", "volume", mount.volume_options.is_some()),
        ("bind", "bind", mount.bind_options.is_some()),
        ("tmpfs", "tmpfs", mount.tmpfs_options.is_some()),
        ("image", "image", mount.image_options.is_some()),
    ] {
        if there && mount.r#type != wanted {
            return Err(format!(
                "cannot mix '{options}-*' options with mount type '{}'",
                mount.r#type
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let m = mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!((m.source.as_str(), m.target.as_str(), m.read_only), ("/a", "/b", true));
        assert_eq!(m.bind_options.unwrap().propagation, "rslave");
        let m = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(m.tmpfs_options.as_ref().unwrap().size_bytes, 1 << 20);
        assert_eq!(m.tmpfs_options.unwrap().mode, 0o1770);
        let m = mount("source=v,target=/t,volume-opt=o=x,volume-label=a=b").unwrap();
        assert_eq!(m.r#type, "volume");
        for (text, want) in [
            ("type=bind", "target is required"),
            ("x", "invalid field 'x' must be a key=value pair"),
            ("target=/a,x=1", "unexpected key 'x' in 'x=1'"),
            (
                "type=bind,target=/a,tmpfs-size=1m",
                "cannot mix 'tmpfs-*' options with mount type 'bind'",
            ),
            ("target=/a,ro=maybe", "invalid value for ro: maybe"),
        ] {
            assert!(mount(text).unwrap_err().message.ends_with(want), "{text}");
        }
    }

    #[test]
    fn volumes_are_read() {
        let here = std::env::current_dir().unwrap().display().to_string();
        assert_eq!(Volume::parse("/a").unwrap(), Volume::Anonymous("/a".into()));
        assert_eq!(Volume::parse("v:/a:ro").unwrap(), Volume::Bind("v:/a:ro".into()));
        assert_eq!(Volume::parse("./x:/a").unwrap(), Volume::Bind(format!("{here}/x:/a")));
        assert!(Volume::parse(":/a").is_err() && Volume::parse("").is_err());
    }
}
