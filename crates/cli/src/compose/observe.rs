//! What there is of a project, asked for all at once.

use super::engine::Engine;
use crate::error::Result;
use compose::{Observed, Project};
use std::{collections::BTreeSet, sync::Mutex};

impl Engine {
    /// Containers, networks, volumes and images of a project.
    pub(crate) fn observe(&self, project: &Project) -> Result<Observed> {
        let found = Mutex::new(Observed::default());
        let lock = || found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let names = |refs: Vec<(String, String, bool)>| -> Vec<String> {
            refs.into_iter().map(|(_, name, _)| name).collect()
        };
        let images: BTreeSet<String> = project.image_names().into_iter().collect();
        let images: Vec<String> = images.into_iter().collect();
        self.each(&["containers", "networks", "volumes", "images"], |what| {
            match *what {
                "containers" => {
                    let all = self.containers(&project.name)?;
                    lock().containers = all;
                }
                "networks" => {
                    let all = self.gather(&names(project.network_refs()), |n| self.network(n))?;
                    lock().networks = all;
                }
                "volumes" => {
                    let all = self.gather(&names(project.volume_refs()), |n| self.volume(n))?;
                    lock().volumes = all;
                }
                _ => {
                    let all = self.gather(&images, |n| Ok(self.image(n)?.map(|i| i.id)))?;
                    lock().images = all;
                }
            }
            Ok(())
        })?;
        Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
