//! User namespaces and mapped mounts of `config.json`.
//!
//! Invariants: what the kernel would refuse without saying why (`EINVAL` for a whole map) is refused here, by the
//! field's name; the maps of a namespace that is joined may be left out, and are the kernel's to tell then.
//! Source: opencontainers/runtime-spec 1.2 `config-linux.md` (User namespace mappings), `config.md` (Mounts,
//! `uidMappings`), user_namespaces(7).

use super::model;
use crate::spec;
use base::{Error, Result};
use spec::{Maps, Range};
use sys::idmap::MOST_RANGES;

/// The container's user namespace, if it is to have one.
///
/// # Errors
/// `Invalid`, naming the field.
pub(super) fn namespace(linux: &model::Linux) -> Result<Option<spec::UserNamespace>> {
    let maps = maps("linux.", &linux.uid_mappings, &linux.gid_mappings)?;
    let Some(asked) = linux.namespaces.iter().find(|n| n.kind == "user") else {
        return match maps {
            None => Ok(None),
            Some(_) => Err(Error::invalid(
                "linux.uidMappings and linux.gidMappings need a namespace of type \"user\" in linux.namespaces",
            )),
        };
    };
    let path = asked.path.clone().filter(|p| !p.as_os_str().is_empty());
    match (path, maps) {
        (None, None) => Err(Error::invalid(
            "linux.namespaces: a new namespace of type \"user\" needs linux.uidMappings and linux.gidMappings; one that is joined needs its path",
        )),
        (path, maps) => Ok(Some(spec::UserNamespace { path, maps: maps.unwrap_or_default() })),
    }
}

/// The maps by which a mount shows owners: its own, and `None` when it has none. Whether it is shown by any, its
/// own or the container's, its options say afterwards.
///
/// # Errors
/// `Invalid`, naming the mount.
pub(super) fn of_mount(
    mount: &model::Mount,
    bind: bool,
    container_has: bool,
    options: &mut Vec<String>,
) -> Result<Option<Maps>> {
    let wrong = |text: &str| Error::invalid(format!("mount {:?}: {text}", mount.destination));
    let maps = maps("", &mount.uid_mappings, &mount.gid_mappings).map_err(|e| wrong(&e.chain()))?;
    let asked = options.iter().any(|o| matches!(o.as_str(), "idmap" | "ridmap"));
    if !asked && maps.is_none() {
        return Ok(None);
    }
    if !bind {
        return Err(wrong(
            "only binds can be mapped: leave out idmap, uidMappings and gidMappings",
        ));
    }
    if maps.is_none() && !container_has {
        return Err(wrong(
            "option idmap needs uidMappings and gidMappings, or a user namespace of the container",
        ));
    }
    if !asked {
        options.push("idmap".to_owned());
    }
    Ok(maps)
}

/// Both maps of the fields below `place`; `None` when there are none.
fn maps(place: &str, users: &[Range], groups: &[Range]) -> Result<Option<Maps>> {
    let missing = |which: &str, other: &str| {
        Err(Error::invalid(format!("{place}{which} is missing beside {place}{other}")))
    };
    match (users.is_empty(), groups.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return missing("uidMappings", "gidMappings"),
        (false, true) => return missing("gidMappings", "uidMappings"),
        (false, false) => {}
    }
    check(&format!("{place}uidMappings"), users)?;
    check(&format!("{place}gidMappings"), groups)?;
    Ok(Some(Maps { users: users.to_vec(), groups: groups.to_vec() }))
}

/// What the kernel takes as one map.
fn check(field: &str, ranges: &[Range]) -> Result<()> {
    if ranges.len() > MOST_RANGES {
        return Err(Error::invalid(format!(
            "{field} has {} ranges: the kernel takes {MOST_RANGES}",
            ranges.len()
        )));
    }
    for (at, range) in ranges.iter().enumerate() {
        let wrong = |text: String| Err(Error::invalid(format!("{field}[{at}]: {text}")));
        if range.size == 0 {
            return wrong("size must not be 0".into());
        }
        for (name, first) in [("containerID", range.inside), ("hostID", range.outside)] {
            // The last number means nobody in system calls.
            if first.checked_add(range.size).is_none() {
                return wrong(format!(
                    "{name} {first} with size {} goes past the last id {}",
                    range.size,
                    u32::MAX - 1
                ));
            }
        }
        for (before, other) in ranges[..at].iter().enumerate() {
            let both = [
                ("containerID", range.inside, other.inside),
                ("hostID", range.outside, other.outside),
            ];
            let overlaps = |one: u32, two: u32| one < two + other.size && two < one + range.size;
            if let Some((name, ..)) = both.into_iter().find(|(_, one, two)| overlaps(*one, *two)) {
                return wrong(format!("overlaps {field}[{before}] in {name}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn range(inside: u32, outside: u32, size: u32) -> Range {
        Range { inside, outside, size }
    }

    fn linux(users: &[Range], groups: &[Range], path: Option<&str>) -> model::Linux {
        model::Linux {
            namespaces: vec![model::Namespace { kind: "user".into(), path: path.map(Into::into) }],
            uid_mappings: users.to_vec(),
            gid_mappings: groups.to_vec(),
            ..model::Linux::default()
        }
    }

    #[test]
    fn a_namespace_is_new_with_maps_or_joined_with_or_without() {
        let users = [range(0, 100_000, 65_536), range(70_000, 0, 1)];
        let groups = [range(0, 7, 1)];
        let new = namespace(&linux(&users, &groups, None)).unwrap().unwrap();
        assert_eq!((new.path, new.maps.users.as_slice()), (None, &users[..]));
        let joined = namespace(&linux(&[], &[], Some("/n"))).unwrap().unwrap();
        assert_eq!((joined.path.as_deref(), joined.maps), (Some(Path::new("/n")), Maps::default()));
        let both = namespace(&linux(&users, &groups, Some("/n"))).unwrap().unwrap();
        assert_eq!(both.maps.groups, groups);
        assert_eq!(namespace(&model::Linux::default()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_mapped_is_refused_by_name() {
        let some = [range(0, 1, 10)];
        let fails = |users: &[Range], groups: &[Range], text: &str| {
            let err = namespace(&linux(users, groups, None)).unwrap_err().chain();
            assert!(err.contains(text), "{err}");
        };
        fails(&[], &[], "needs linux.uidMappings and linux.gidMappings");
        fails(&some, &[], "linux.gidMappings is missing");
        fails(&[], &some, "linux.uidMappings is missing");
        fails(&[range(0, 1, 0)], &some, "linux.uidMappings[0]: size must not be 0");
        let last = [range(0, u32::MAX, 1)];
        fails(&some, &last, "linux.gidMappings[0]: hostID 4294967295 with size 1 goes past");
        fails(
            &[some[0], range(9, 50, 2)],
            &some,
            "linux.uidMappings[1]: overlaps linux.uidMappings[0] in containerID",
        );
        fails(&some, &[some[0], range(50, 10, 2)], "[1]: overlaps linux.gidMappings[0] in hostID");
        let many: Vec<Range> = (0..341).map(|n| range(n, n, 1)).collect();
        fails(&some, &many, "linux.gidMappings has 341 ranges");
        assert!(namespace(&linux(&some, &many[..340], None)).is_ok());
        assert!(namespace(&linux(&[range(0, 0, u32::MAX)], &some, None)).is_ok());
        let alone = model::Linux { namespaces: Vec::new(), ..linux(&some, &some, None) };
        assert!(namespace(&alone).unwrap_err().chain().contains("type \"user\""));
    }

    #[test]
    fn mounts_are_mapped_by_their_own_maps_or_the_containers() {
        let own = vec![range(0, 1, 10)];
        let mount = |maps: &[Range]| model::Mount {
            destination: "/d".into(),
            uid_mappings: maps.to_vec(),
            gid_mappings: maps.to_vec(),
            ..model::Mount::default()
        };
        let of = |maps: &[Range], bind: bool, has: bool, words: &[&str]| {
            let mut options = words.iter().map(|w| (*w).to_owned()).collect();
            of_mount(&mount(maps), bind, has, &mut options)
                .map(|m| (m.is_some(), options.join(" ")))
                .map_err(|e| e.chain())
        };
        assert_eq!(of(&[], true, false, &["ro"]), Ok((false, "ro".into())));
        assert_eq!(of(&own, true, false, &["ro"]), Ok((true, "ro idmap".into())));
        assert_eq!(of(&own, true, true, &["ridmap"]), Ok((true, "ridmap".into())));
        assert_eq!(of(&[], true, true, &["idmap"]), Ok((false, "idmap".into())));
        assert!(of(&[], true, false, &["idmap"]).unwrap_err().contains("or a user namespace"));
        assert!(of(&own, false, true, &[]).unwrap_err().contains("mount \"/d\": only binds"));
        assert!(of(&[range(0, 1, 0)], true, true, &[]).unwrap_err().contains("uidMappings[0]"));
    }
}
