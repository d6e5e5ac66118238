//! `GET /images/json`, and the images' part of `GET /system/df`.

use super::{Images, Record, User, resolve};
use api::model::ImageSummary;
use base::{Digest, Error, ImageId, Reference, Result, Timestamp, filters::Filters};
use std::collections::{HashMap, HashSet};
use store::{Image, Tx};

const ACCEPTED: &[&str] = &["before", "dangling", "label", "label!", "reference", "since", "until"];

/// How to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Steps of builds too.
    pub all: bool,
    /// Digest references too; they are always there, clients choose what to show.
    pub digests: bool,
    /// Which.
    pub filters: Filters,
    /// Work out what each shares with others.
    pub shared_size: bool,
    /// Count the containers that each is used by.
    pub containers: bool,
}

/// Everything listing looks at, of one moment.
struct View {
    images: Vec<Image<Record>>,
    references: HashMap<ImageId, Vec<Reference>>,
    parents: HashSet<ImageId>,
    /// Images that a name means for another platform only; they are no rows of their own, but with `all`.
    variants: HashSet<ImageId>,
    /// Bytes of each layer and how many images have it.
    layers: HashMap<Digest, (u64, usize)>,
}

impl View {
    fn read(tx: &Tx<'_>, layers: bool) -> Result<Self> {
        let images = tx.images::<Record>()?;
        let mut references: HashMap<ImageId, Vec<Reference>> = HashMap::new();
        for tag in tx.tags()? {
            references.entry(tag.image).or_default().push(tag.reference.parse()?);
        }
        let variants = tx.all_variants()?.into_iter().map(|(_, image)| image);
        let variants = variants.filter(|id| !references.contains_key(id)).collect();
        let parents =
            images.iter().filter(|i| !i.doc.is_step()).filter_map(|i| i.parent.clone()).collect();
        let mut sizes = HashMap::new();
        if layers {
            let mut users: HashMap<&Digest, usize> = HashMap::new();
            for layer in images.iter().flat_map(|i| i.layers.iter().collect::<HashSet<_>>()) {
                *users.entry(layer).or_default() += 1;
            }
            for layer in tx.layers::<serde::de::IgnoredAny>()? {
                let users = users.get(&layer.id).copied().unwrap_or_default();
                sizes.insert(layer.id, (layer.size, users));
            }
        }
        Ok(Self { images, references, parents, variants, layers: sizes })
    }

    fn shared(&self, image: &Image<Record>) -> i64 {
        let shared =
            image.layers.iter().filter_map(|l| self.layers.get(l)).filter(|(_, users)| *users > 1);
        shared.map(|(size, _)| *size as i64).sum()
    }
}

impl Images {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// `Invalid` for an unknown or malformed filter; `NotFound` for an image named in one.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<ImageSummary>> {
        let filters = &options.filters;
        filters.only(ACCEPTED)?;
        let dangling = filters.bool("dangling")?;
        let now = Timestamp::now();
        let until = match filters.get("until") {
            [] => None,
            all => all
                .iter()
                .map(|t| Timestamp::parse_relative(t, now))
                .collect::<Result<Vec<_>>>()
                .map_err(|e| Error::invalid("invalid filter 'until'").caused_by(e))?
                .into_iter()
                .min(),
        };
        let view = self.store.read(|tx| {
            let created = |key: &str| -> Result<Vec<Timestamp>> {
                let images = filters.get(key).iter().map(|name| {
                    let row = tx.image::<Record>(&resolve(tx, name)?)?;
                    Ok(row.and_then(|r| r.doc.created).unwrap_or(Timestamp::ZERO))
                });
                images.collect()
            };
            let before = created("before")?.into_iter().min();
            let since = created("since")?.into_iter().max();
            Ok((View::read(tx, options.shared_size)?, before, since))
        });
        let (view, before, since) = view?;
        let patterns =
            filters.get("reference").iter().map(|p| pattern(p)).collect::<Result<Vec<_>>>()?;
        let mut found: Vec<(Option<Timestamp>, ImageSummary)> = Vec::new();
        for image in &view.images {
            if image.doc.is_step() && !view.references.contains_key(&image.id) {
                continue;
            }
            let created = image.doc.created;
            let fits = before.is_none_or(|at| created.is_none_or(|c| c < at))
                && since.is_none_or(|at| created.is_none_or(|c| c > at))
                && until.is_none_or(|at| created.is_none_or(|c| c < at))
                && filters.labels(|key| image.doc.labels.get(key).map(String::as_str));
            if !fits {
                continue;
            }
            let all = view.references.get(&image.id).map_or(&[][..], Vec::as_slice);
            let matching =
                |r: &&Reference| patterns.is_empty() || patterns.iter().any(|p| p.matches(r));
            let shown: Vec<&Reference> = all.iter().filter(matching).collect();
            let tagged = shown.iter().any(|r| r.tag().is_some());
            if view.variants.contains(&image.id) && (!options.all || dangling == Some(true)) {
                continue;
            }
            if shown.is_empty() {
                let step = view.parents.contains(&image.id) && !options.all;
                if !patterns.is_empty() || step || dangling == Some(false) {
                    continue;
                }
            } else if dangling == Some(true) && tagged {
                continue;
            }
            found.push((created, summary(&view, image, &shown, options.shared_size)));
        }
        found.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.id.cmp(&other.id)));
        Ok(found.into_iter().map(|(_, summary)| summary).collect())
    }

    /// All images with what they share and how many containers use them, and the bytes of all layers.
    ///
    /// # Errors
    /// Of the database.
    pub fn usage(&self, users: &[User]) -> Result<(Vec<ImageSummary>, u64)> {
        let mut images = self.list(&ListOptions { shared_size: true, ..ListOptions::default() })?;
        count(&mut images, users);
        let layers = self.store.read(|tx| tx.layers::<serde::de::IgnoredAny>())?;
        Ok((images, layers.iter().map(|l| l.size).sum()))
    }
}

/// Fills in how many of `users` use each image.
pub(super) fn count(images: &mut [ImageSummary], users: &[User]) {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    users.iter().for_each(|user| *counts.entry(user.image.as_str()).or_default() += 1);
    for image in images {
        image.containers = counts.get(image.id.as_str()).copied().unwrap_or(0);
    }
}

fn summary(
    view: &View,
    image: &Image<Record>,
    references: &[&Reference],
    shared: bool,
) -> ImageSummary {
    let names = |digest: bool| {
        let wanted = references.iter().filter(|r| r.digest().is_some() == digest);
        wanted.map(|r| r.familiar()).collect::<Vec<_>>()
    };
    ImageSummary {
        containers: -1,
        created: image.doc.created.map_or(0, Timestamp::unix),
        id: image.id.to_string(),
        labels: Some(image.doc.labels.clone()).filter(|l| !l.is_empty()),
        parent_id: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        repo_digests: names(true),
        repo_tags: names(false),
        shared_size: if shared { view.shared(image) } else { -1 },
        size: image.doc.size as i64,
        ..ImageSummary::default()
    }
}

/// A `reference` filter: a shell pattern over the short form, with or without the tag.
struct Pattern(Vec<Glob>);

enum Glob {
    One,
    Any,
    Char(char),
    /// Ranges; true for "none of these".
    Class(bool, Vec<(char, char)>),
}

impl Pattern {
    fn matches(&self, reference: &Reference) -> bool {
        let fits = |text: String| glob(&self.0, &text.chars().collect::<Vec<_>>());
        fits(reference.familiar()) || fits(reference.familiar_name())
    }
}

/// Reads a pattern of Go's `path.Match`.
fn pattern(text: &str) -> Result<Pattern> {
    let bad = || Error::invalid("syntax error in pattern");
    let mut globs = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        globs.push(match c {
            '?' => Glob::One,
            '*' => Glob::Any,
            '\\' => Glob::Char(chars.next().ok_or_else(bad)?),
            '[' => {
                let none = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    let mut next = |first: bool| match chars.next() {
                        Some(']') if first && !ranges.is_empty() => Ok(None),
                        Some('\\') => chars.next().map(Some).ok_or_else(bad),
                        Some(']' | '-') | None => Err(bad()),
                        Some(c) => Ok(Some(c)),
                    };
                    let Some(low) = next(true)? else { break };
                    let high = if chars.next_if_eq(&'-').is_some() {
                        match chars.next() {
                            Some('\\') => chars.next().ok_or_else(bad)?,
                            Some(']' | '-') | None => return Err(bad()),
                            Some(c) => c,
                        }
                    } else {
                        low
                    };
                    ranges.push((low, high));
                }
                Glob::Class(none, ranges)
            }
            c => Glob::Char(c),
        });
    }
    Ok(Pattern(globs))
}

/// Matches without backtracking over more than the last `*`, so in at most quadratic time.
fn glob(pattern: &[Glob], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let fits = match pattern.get(p) {
            Some(Glob::Any) => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(Glob::One) => text[t] != '/',
            Some(Glob::Char(c)) => *c == text[t],
            Some(Glob::Class(none, ranges)) => {
                text[t] != '/'
                    && ranges.iter().any(|(low, high)| (*low..=*high).contains(&text[t])) != *none
            }
            None => false,
        };
        if fits {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star.filter(|(_, from)| text[*from] != '/') {
            star = Some((at, from + 1));
            (p, t) = (at + 1, from + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|g| matches!(g, Glob::Any))
}

#[cfg(test)]
mod glob_tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (text, name, want) in [
            ("busybox", "busybox:latest", true),
            ("busy*", "busybox:latest", true),
            ("*:1.*", "a:1.2", true),
            ("*", "a/b:1", false),
            ("*/*", "a/b:1", true),
            ("[a-c]x", "bx:1", true),
            ("[^a-c]x", "bx:1", false),
            ("a?c:1", "abc:1", true),
            ("a\\*", "a*", false),
            ("example.com/*", "example.com/x:2", true),
            ("*a*a*a*b", &"a".repeat(200), false),
        ] {
            let Ok(reference) = name.parse::<Reference>() else { continue };
            assert_eq!(pattern(text).unwrap().matches(&reference), want, "{text} {name}");
        }
        for bad in ["[", "a[", "[]a]", "[a-]", "\\", "[-]"] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }
}
