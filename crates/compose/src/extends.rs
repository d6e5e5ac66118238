//! `extends`: a service on top of another one, of the same file or of another.

use crate::{
    canonical,
    error::{Error, Result, suggest},
    load::{self, Context},
    merge,
    node::{Map, Node, Path},
};

/// The longest chain of services that extend each other.
pub(crate) const MOST_DEPTH: usize = 64;

/// Extends all services of a file.
pub(crate) fn apply(
    context: &Context<'_>,
    root: &mut Node,
    file: &str,
    resets: &[Path],
) -> Result<()> {
    let Some(services) = root.get_mut("services").and_then(Node::as_map_mut) else { return Ok(()) };
    let names: Vec<String> = services.keys().cloned().collect();
    for name in names {
        let mut chain = Chain { context, seen: Vec::new() };
        chain.extend(&name, services, file, resets)?;
    }
    Ok(())
}

struct Chain<'a> {
    context: &'a Context<'a>,
    /// File and service of those that led here.
    seen: Vec<(String, String)>,
}

impl Chain<'_> {
    /// Makes `services[name]` whole.
    fn extend(
        &mut self,
        name: &str,
        services: &mut Map,
        file: &str,
        resets: &[Path],
    ) -> Result<Option<Node>> {
        let Some(service) = services.get(name).cloned() else { return Ok(None) };
        if service.is_null() {
            return Ok(None);
        }
        if service.as_map().is_none() {
            return Err(Error::at(&service.at, format!("services.{name} must be a mapping"))
                .hint(format!("it is a {}", service.kind())));
        }
        let Some(extends) = service.get("extends").cloned() else { return Ok(Some(service)) };
        let (wanted, from) = match extends.as_str() {
            Some(wanted) => (wanted.to_owned(), None),
            None => match extends.get_str("service") {
                Some(wanted) => (wanted.to_owned(), extends.get_str("file").map(str::to_owned)),
                None => {
                    let text = format!("services.{name}.extends missing property 'service'");
                    return Err(Error::at(&extends.at, text));
                }
            },
        };
        let at = &extends.at;
        let (mut others, other_resets, other_file) = match from {
            None => (None, resets.to_vec(), file.to_owned()),
            Some(from) => {
                if load::is_url(&from) {
                    return Err(Error::at(
                        at,
                        "services from elsewhere (git, oci) cannot be extended",
                    )
                    .hint("fetch the file first"));
                }
                let path = canonical::absolute(&from, &self.context.folder);
                let (root, resets) = self.context.services_of(&path).map_err(|e| e.placed(at))?;
                let services = root.get("services").and_then(Node::as_map).cloned();
                let Some(services) = services else {
                    let text =
                        format!("cannot extend service {name:?} in {path}: no services section");
                    return Err(Error::at(at, text));
                };
                (Some(services), resets, path)
            }
        };
        let pool = others.as_mut().unwrap_or(services);
        if !pool.contains_key(&wanted) {
            let place =
                if other_file == file { String::new() } else { format!(" in {other_file}") };
            let text = format!(
                "cannot extend service {name:?} in {file}: service {wanted:?} not found{place}"
            );
            let known = load::keys(Some(pool));
            return Err(Error::at(at, text).hint(suggest(&wanted, known)));
        }
        self.enter(&other_file, name, at)?;
        // Of the same file, it is resolved against what led here; of another, against that file's own services.
        let base = self.extend(&wanted, pool, &other_file, &other_resets)?;
        self.seen.pop();
        let Some(base) = base else { return Ok(Some(service)) };
        let mut whole = Node::map(&base.at, []);
        if let Some(map) = whole.as_map_mut() {
            map.insert(name.to_owned(), base);
        }
        let mut tree = Node::map(at, [("services", whole)]);
        load::reset(&mut tree, resets, &mut Path::default());
        let base = tree.get_mut("services").and_then(Node::as_map_mut).and_then(|m| m.remove(name));
        let mut merged = match base {
            Some(base) => merge::extend(base, service)?,
            None => service,
        };
        if let Some(entries) = merged.as_map_mut() {
            entries.remove("extends");
        }
        services.insert(name.to_owned(), merged.clone());
        Ok(Some(merged))
    }

    fn enter(&mut self, file: &str, service: &str, at: &crate::At) -> Result<()> {
        let here = (file.to_owned(), service.to_owned());
        if self.seen.contains(&here) {
            let mut text = String::from("Circular reference:");
            for (n, (file, service)) in self.seen.iter().chain([&here]).enumerate() {
                let word = if n == 0 { "" } else { "extends " };
                text.push_str(&format!("\n  {word}{service} in {file}"));
            }
            return Err(Error::at(at, text).hint("let one of them stand on its own"));
        }
        if self.seen.len() >= MOST_DEPTH {
            let text = format!("more than {MOST_DEPTH} services extend each other");
            return Err(Error::at(at, text));
        }
        self.seen.push(here);
        Ok(())
    }
}
