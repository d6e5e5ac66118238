//! What of the host is relabelled for a container at its start: sources of `:z` and `:Z`, volumes, the files that give it
//! its names, and memory that it shares.

use super::{label::Label, mount_label};
use crate::{
    Engine,
    containers::{Mounted, Places, Record},
};
use base::{Error, Result};
use std::path::Path;
use storage::relabel;

/// Who may use what is relabelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// All containers.
    Shared,
    /// This one.
    Private,
}

/// Whether the source of a mount is relabelled, and for whom. Volumes are shared; those of plugins are the plugins' matter,
/// as is who else sees what another container brought along.
fn wanted(mount: &Mounted) -> Option<Use> {
    let asked = mount.mode.split(',').find_map(|word| match word {
        "z" => Some(Use::Shared),
        "Z" => Some(Use::Private),
        _ => None,
    });
    match mount.kind.as_str() {
        _ if mount.inherited => None,
        "bind" => asked,
        "volume" if mount.driver == "local" => Some(asked.unwrap_or(Use::Shared)),
        _ => None,
    }
}

impl Engine {
    /// Who may use what the builder gives a step: contexts and caches are for all steps, what is gone with the step (secrets)
    /// for this one.
    fn of_builder(&self, record: &Record, source: &Path) -> Option<Use> {
        let rooms = [(&self.config.data_root, Use::Shared), (&self.config.exec_root, Use::Private)];
        let mut rooms = rooms.into_iter().filter(|_| record.hidden);
        rooms.find(|(root, _)| source.starts_with(root.join("buildkit"))).map(|(_, who)| who)
    }

    /// Relabels what `record` sees of the host, where containers are labelled. Blocks as long as its trees are large.
    ///
    /// # Errors
    /// `Invalid` for a source that the host needs as it is; of the kernel.
    pub(crate) fn relabel(&self, record: &Record, places: &Places) -> Result<()> {
        let label = mount_label(record, self);
        if label.is_empty() {
            return Ok(());
        }
        let label: Label = label.parse()?;
        let (shared, private) = (label.shared().to_string(), label.to_string());
        for mount in &record.mounts {
            let given = || self.of_builder(record, Path::new(&mount.source));
            let Some(who) = wanted(mount).or_else(given) else { continue };
            let label = if who == Use::Shared { &shared } else { &private };
            relabel_source(Path::new(&mount.source), label)?;
        }
        for folder in record.overlays.iter().flat_map(|overlay| &overlay.lower) {
            if self.of_builder(record, folder).is_some() {
                relabel(folder, &shared)?;
            }
        }
        // Those of a container whose network is shared are that one's as well.
        let (folder, label) = match record.host.network_mode.strip_prefix("container:") {
            Some(other) => {
                let other = self.containers.find(other)?;
                (Places::of(&self.config, other.id()).data, &shared)
            }
            None => (places.data.clone(), &private),
        };
        for name in ["hosts", "hostname", "resolv.conf"] {
            relabel(&folder.join(name), label)?;
        }
        if record.host.ipc_mode == "shareable" {
            relabel(&places.exec.join("shm"), &private)?;
        }
        Ok(())
    }
}

fn relabel_source(source: &Path, label: &str) -> Result<()> {
    relabel(source, label).map_err(|err| {
        let what = format!("error setting label on mount source '{}'", source.display());
        Error::new(err.kind(), what).caused_by(err)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(kind: &str, mode: &str, driver: &str) -> Mounted {
        Mounted {
            kind: kind.into(),
            mode: mode.into(),
            driver: driver.into(),
            ..Mounted::default()
        }
    }

    #[test]
    fn binds_are_relabelled_when_asked_and_volumes_of_the_local_driver_always() {
        assert_eq!(wanted(&mounted("bind", "", "")), None);
        assert_eq!(wanted(&mounted("bind", "ro,z", "")), Some(Use::Shared));
        assert_eq!(wanted(&mounted("bind", "Z", "")), Some(Use::Private));
        assert_eq!(wanted(&mounted("volume", "", "local")), Some(Use::Shared));
        assert_eq!(wanted(&mounted("volume", "Z,ro", "local")), Some(Use::Private));
        assert_eq!(wanted(&mounted("volume", "z", "flocker")), None);
        assert_eq!(wanted(&mounted("tmpfs", "", "")), None);
        assert_eq!(wanted(&Mounted { inherited: true, ..mounted("bind", "Z", "") }), None);
    }
}
