//! `--mount` entries: what each type may say, and what it comes to.
//!
//! Source: Docker's `volume/mounts` validation (behaviour and texts). Not here: `-v` texts (`mounts.rs`).

use super::mounts::{self, ReadOnly, Request, Source};
use api::model::{self, Mount};
use base::{Error, Result, names};

/// Checks one entry.
///
/// # Errors
/// `Invalid` with docker's wording.
pub(crate) fn request(mount: &Mount) -> Result<Request> {
    let kind = mount.r#type.as_str();
    let invalid = |why: &str| invalid(kind, why);
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let target = mounts::absolute_target(&mount.target).map_err(|why| invalid(&why))?;
    let mut request = match kind {
        "bind" => bind(mount, &target)?,
        "volume" => volume(mount, &target)?,
        "tmpfs" => tmpfs(mount, &target)?,
        "image" => image(mount, &target)?,
        other => return Err(invalid(&format!("mount type unknown: {other:?}"))),
    };
    request.read_only |= mount.read_only;
    request.by_mount = true;
    Ok(request)
}

fn invalid(kind: &str, why: &str) -> Error {
    Error::invalid(format!("invalid mount config for type \"{kind}\": {why}"))
}

/// Options of another type have no place in an entry.
fn only(mount: &Mount, own: &str) -> Result<()> {
    let given = [
        ("BindOptions", mount.bind_options.is_some()),
        ("VolumeOptions", mount.volume_options.is_some()),
        ("TmpfsOptions", mount.tmpfs_options.is_some()),
        ("ImageOptions", mount.image_options.is_some()),
    ];
    match given.iter().find(|(name, given)| *given && *name != own) {
        Some((name, _)) => {
            Err(invalid(&mount.r#type, &format!("field {name} must not be specified")))
        }
        None => Ok(()),
    }
}

fn bind(mount: &Mount, target: &str) -> Result<Request> {
    let invalid = |why: &str| invalid("bind", why);
    only(mount, "BindOptions")?;
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty"));
    }
    if !mount.source.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    let mut request = Request::new(Source::Bind(build::go::clean(&mount.source)), target);
    let Some(options) = &mount.bind_options else { return Ok(request) };
    let propagation = options.propagation.as_str();
    if !propagation.is_empty() && !mounts::PROPAGATIONS.contains(&propagation) {
        return Err(invalid(&format!("invalid propagation mode: {propagation}")));
    }
    if options.read_only_non_recursive && options.read_only_force_recursive {
        return Err(invalid(
            "ReadOnlyNonRecursive and ReadOnlyForceRecursive must not be specified together",
        ));
    }
    if (options.read_only_non_recursive || options.read_only_force_recursive) && !mount.read_only {
        return Err(invalid(
            "ReadOnlyNonRecursive and ReadOnlyForceRecursive require the mount to be read-only",
        ));
    }
    if options.read_only_force_recursive && options.non_recursive {
        return Err(invalid("ReadOnlyForceRecursive conflicts with NonRecursive"));
    }
    if options.read_only_force_recursive && !matches!(propagation, "" | "rprivate") {
        return Err(invalid("ReadOnlyForceRecursive requires the propagation rprivate"));
    }
    request.propagation.clone_from(&options.propagation);
    request.recursive = !options.non_recursive;
    request.create_source = options.create_mountpoint;
    if options.read_only_non_recursive {
        request.read_only_depth = ReadOnly::Single;
    }
    Ok(request)
}

fn volume(mount: &Mount, target: &str) -> Result<Request> {
    only(mount, "VolumeOptions")?;
    let options = mount.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    let name = Some(mount.source.clone()).filter(|n| !n.is_empty());
    match &name {
        Some(name) => names::check("volume", name)?,
        None if !options.subpath.is_empty() => {
            return Err(invalid("volume", "must not set Subpath when using anonymous volumes"));
        }
        None => {}
    }
    subpath("volume", &options.subpath)?;
    let source = Source::Volume {
        name,
        driver: driver.name,
        options: driver.options.unwrap_or_default(),
        labels: options.labels.unwrap_or_default(),
    };
    Ok(Request {
        // What is copied from the image belongs to the whole volume.
        copy: !options.no_copy && options.subpath.is_empty(),
        subpath: options.subpath,
        ..Request::new(source, target)
    })
}

fn image(mount: &Mount, target: &str) -> Result<Request> {
    only(mount, "ImageOptions")?;
    if mount.source.is_empty() {
        return Err(invalid("image", "field Source must not be empty"));
    }
    let options = mount.image_options.clone().unwrap_or_default();
    subpath("image", &options.subpath)?;
    let mut request = Request::new(Source::Image(mount.source.clone()), target);
    request.read_only = true;
    request.subpath = options.subpath;
    Ok(request)
}

/// A path inside a volume or image, by its words; its symlinks are resolved when it is mounted.
fn subpath(kind: &str, path: &str) -> Result<()> {
    let inner = !path.starts_with('/') && !path.contains('\0');
    if inner && path.split('/').all(|part| part != "..") {
        return Ok(());
    }
    Err(invalid(kind, &format!("subpath must be a relative path within the {kind}: {path:?}")))
}

fn tmpfs(mount: &Mount, target: &str) -> Result<Request> {
    only(mount, "TmpfsOptions")?;
    if !mount.source.is_empty() {
        return Err(invalid("tmpfs", "field Source must not be specified"));
    }
    let options = match &mount.tmpfs_options {
        Some(options) => tmpfs_words(options)?,
        None => String::new(),
    };
    Ok(Request::new(Source::Tmpfs { options }, target))
}

fn tmpfs_words(options: &model::TmpfsOptions) -> Result<String> {
    let mut words = Vec::new();
    if options.size_bytes < 0 {
        return Err(invalid("tmpfs", "tmpfs size must not be negative"));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode & 0o7777));
    }
    for option in options.options.iter().flatten() {
        match option.as_slice() {
            [flag] => words.push(flag.clone()),
            [key, value] => words.push(format!("{key}={value}")),
            _ => {
                return Err(invalid(
                    "tmpfs",
                    "invalid option array length: 1 or 2 words are wanted",
                ));
            }
        }
    }
    let words = words.join(",");
    mounts::check_tmpfs(&words)?;
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{BindOptions, ImageOptions, TmpfsOptions, VolumeOptions};

    fn mount(kind: &str, source: &str) -> Mount {
        Mount {
            r#type: kind.into(),
            source: source.into(),
            target: "/t".into(),
            ..Mount::default()
        }
    }

    fn refused(mount: &Mount) -> String {
        request(mount).unwrap_err().chain()
    }

    #[test]
    fn binds_say_how_far_they_are_read_only() {
        let with = |read_only, options: BindOptions| Mount {
            read_only,
            bind_options: Some(options),
            ..mount("bind", "/s")
        };
        let single = BindOptions { read_only_non_recursive: true, ..BindOptions::default() };
        let made = request(&with(true, single.clone())).unwrap();
        assert_eq!(made.read_only_depth, ReadOnly::Single);
        assert!(refused(&with(false, single)).contains("require the mount to be read-only"));
        let forced = BindOptions {
            read_only_force_recursive: true,
            propagation: "rslave".into(),
            ..BindOptions::default()
        };
        assert!(refused(&with(true, forced)).contains("rprivate"));
        let bad = BindOptions { propagation: "sideways".into(), ..BindOptions::default() };
        assert!(refused(&with(false, bad)).contains("invalid propagation mode: sideways"));
    }

    #[test]
    fn each_type_takes_its_own_options_alone() {
        let foreign =
            Mount { volume_options: Some(VolumeOptions::default()), ..mount("bind", "/s") };
        assert!(refused(&foreign).ends_with("field VolumeOptions must not be specified"));
        assert!(refused(&mount("nonsense", "x")).contains("mount type unknown"));
        assert!(refused(&mount("image", "")).contains("Source must not be empty"));
    }

    #[test]
    fn subpaths_stay_inside_by_their_words() {
        let of = |path: &str| Mount {
            image_options: Some(ImageOptions { subpath: path.into() }),
            ..mount("image", "busybox")
        };
        assert_eq!(request(&of("a/b")).unwrap().subpath, "a/b");
        for bad in ["../x", "/etc", "a/../../b"] {
            assert!(refused(&of(bad)).contains("subpath must be a relative path"), "{bad}");
        }
        let anonymous = Mount {
            volume_options: Some(VolumeOptions { subpath: "x".into(), ..Default::default() }),
            ..mount("volume", "")
        };
        assert!(refused(&anonymous).contains("must not set Subpath"));
    }

    #[test]
    fn memory_takes_what_the_kernel_takes() {
        let of =
            |options: TmpfsOptions| Mount { tmpfs_options: Some(options), ..mount("tmpfs", "") };
        let words = |list: &[&[&str]]| {
            let one = |l: &&[&str]| l.iter().map(|w| (*w).to_owned()).collect();
            Some(list.iter().map(one).collect())
        };
        let options = TmpfsOptions {
            size_bytes: 5,
            mode: 0o700,
            options: words(&[&["exec"], &["uid", "7"]]),
        };
        let Source::Tmpfs { options } = request(&of(options)).unwrap().source else {
            panic!("a tmpfs was asked for")
        };
        assert_eq!(options, "size=5,mode=700,exec,uid=7");
        let negative = TmpfsOptions { size_bytes: -1, ..TmpfsOptions::default() };
        assert!(refused(&of(negative)).contains("negative"));
        let unknown = TmpfsOptions { options: words(&[&["bogus"]]), ..TmpfsOptions::default() };
        assert!(refused(&of(unknown)).contains("invalid tmpfs option"));
    }
}
