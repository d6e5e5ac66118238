//! What docker compose 2.40.3 made of each fixture, and what we make of it: YAML, JSON and hashes.
//!
//! The expected files were recorded with it; an end-to-end case compares with the program itself where it is there.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use gantry_compose::{KeepFiles, Options, Project};
use std::{collections::BTreeMap, fs, path::Path};

const FIXTURES: &[&str] = &[
    "develop",
    "extended",
    "healthy",
    "included",
    "networks",
    "onebig",
    "overridden",
    "resources",
    "secrets",
    "simple",
    "strings",
    "variables",
    "volumes",
];

fn folder(name: &str) -> String {
    format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn load(name: &str, profiles: &[&str]) -> Project {
    let options = Options {
        here: folder(name).into(),
        environment: BTreeMap::from([("HOME".into(), "/home/user".into())]),
        profiles: profiles.iter().map(|p| (*p).to_owned()).collect(),
        ..Options::default()
    };
    Project::load(&options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// With the places of this checkout taken out, as they were in the recording.
fn anywhere(name: &str, text: &str) -> String {
    // `~` is our own home here.
    let home = std::env::var("HOME").unwrap_or_default();
    text.replace(&folder(name), "/FIXTURE")
        .replace(&folder("").trim_end_matches('/').to_owned(), "/FIXTURES")
        .replace(&format!("{home}/home"), "/home/user/home")
        .replace(&format!("{home}/x"), "/home/user/x")
}

fn expected(name: &str, what: &str) -> String {
    fs::read_to_string(Path::new(&folder(name)).join(format!("expected.{what}"))).unwrap()
}

fn differ(name: &str, what: &str, want: &str, got: &str) {
    let lines = want.lines().zip(got.lines()).enumerate();
    let first = lines.into_iter().find(|(_, (w, g))| w != g);
    assert_eq!(want, got, "{name}: {what}, first difference: {first:?}");
}

#[test]
fn projects_are_printed_as_docker_compose_prints_them() {
    for name in FIXTURES {
        let mut project = load(name, &["*"]);
        project.resolve_label_files(KeepFiles::No).unwrap();
        project.resolve_env_files().unwrap();
        let yaml = anywhere(name, &project.yaml().replace('$', "$$"));
        differ(name, "yaml", &expected(name, "yaml"), &yaml);
        let mut project = load(name, &[]);
        project.resolve_label_files(KeepFiles::No).unwrap();
        project.resolve_env_files().unwrap();
        project.drop_unused();
        let json = anywhere(name, &project.json().replace('$', "$$"));
        differ(name, "json", &expected(name, "json"), &json);
    }
}

#[test]
fn hashes_are_those_of_docker_compose() {
    let mut compared = 0;
    for name in FIXTURES {
        let mut project = load(name, &["*"]);
        project.resolve_label_files(KeepFiles::No).unwrap();
        for (service, hash) in project.hashes(&[]).unwrap() {
            let mut one = load(name, &["*"]);
            one.select(std::slice::from_ref(&service), gantry_compose::Dependencies::Ignore)
                .unwrap();
            // Paths are part of a hash, and this checkout is elsewhere.
            if one.json().contains(env!("CARGO_MANIFEST_DIR")) {
                continue;
            }
            compared += 1;
            let line = format!("{service} {hash}");
            let recorded = expected(name, "hash");
            assert!(recorded.lines().any(|l| l == line), "{name}: {line}\n{recorded}");
        }
    }
    assert!(compared >= 18, "only {compared} services were compared");
}
