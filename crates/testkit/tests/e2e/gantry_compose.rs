//! `gantry compose`, beside docker compose 2.40.3 where that is there.

use super::compose::NO_COMPOSE;
use std::{fs, path::Path, process::Command};
use testkit::{Cx, Output, cases, command, cx::skip, daemon, suite::Case};

pub const CASES: &[Case] = cases![
    config_and_hashes_are_those_of_docker_compose,
    mistakes_are_told_with_file_line_and_hint,
    options_and_variables_choose_the_project,
];

/// `gantry compose` in the case's folder.
fn ours(cx: &Cx<'_>, args: &[&str]) -> Command {
    let binary = daemon::built("gantry").expect("the command line is built");
    let mut command = cx.daemon.cli(&binary);
    command.current_dir(cx.dir()).arg("compose").args(args);
    command
}

/// It, for a project of the case's own.
fn compose(cx: &Cx<'_>, args: &[&str]) -> Output {
    command::run(ours(cx, args).env("COMPOSE_PROJECT_NAME", cx.name("p")), b"")
}

/// docker compose, in the case's folder, for the same project.
fn theirs(cx: &Cx<'_>, args: &[&str]) -> Command {
    let Some(config) = cx.plugged(&["docker-compose"]) else { skip(NO_COMPOSE) };
    let mut command = cx.command();
    command.env("DOCKER_CONFIG", config).arg("compose").args(args);
    command
}

/// The fixtures of the crate `compose`.
fn fixtures() -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/tests/fixtures");
    let all = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    all.filter(|p| p.join("compose.yaml").exists()).collect()
}

fn config_and_hashes_are_those_of_docker_compose(cx: &Cx<'_>) {
    let fixtures = fixtures();
    assert!(fixtures.len() > 10);
    for fixture in fixtures {
        for args in [
            &["config"][..],
            &["--profile", "*", "--all-resources", "config"],
            &["config", "--format", "json"],
            &["--profile", "*", "config", "--hash", "*"],
            &["config", "--no-interpolate", "--no-normalize"],
            &["--compatibility", "config", "--images"],
        ] {
            // Names of images come in an order of chance.
            let sorted = |output: &Output| {
                let mut lines: Vec<String> = output.ok().lines().map(str::to_owned).collect();
                if args.contains(&"--images") {
                    lines.sort();
                }
                lines.join("\n")
            };
            let want = command::run(theirs(cx, args).current_dir(&fixture), b"");
            let got = command::run(ours(cx, args).current_dir(&fixture), b"");
            assert_eq!(sorted(&want), sorted(&got), "{}: {args:?}", fixture.display());
        }
    }
}

fn mistakes_are_told_with_file_line_and_hint(cx: &Cx<'_>) {
    let file = cx.dir().join("compose.yaml");
    let place = |line: &str| format!("{}:{line}: ", file.display());
    for (text, line, says, hint) in [
        (
            "services:\n  a:\n    image: b\n    port: [80]\n",
            "4:5",
            "additional properties 'port' not allowed",
            "did you mean \"ports\"?",
        ),
        (
            "service:\n  a: {image: b}\n",
            "1:1",
            "additional properties 'service' not allowed",
            "did you mean \"services\"?",
        ),
        (
            "services:\n  a:\n    image: [b]\n",
            "3:5",
            "services.a.image must be a string",
            "it is a array",
        ),
        (
            "services:\n  a: {image: b}\n  a: {image: c}\n",
            "3:3",
            "mapping key \"a\" already defined at line 2",
            "",
        ),
        (
            "services:\n  a: {image: \"${X:?set it}\"}\n",
            "2:7",
            "required variable X is missing a value: set it",
            "set X in the environment",
        ),
        (
            "services:\n  a: {image: \"${X\"}\n",
            "2:7",
            "invalid interpolation format for services.a.image",
            "",
        ),
        (
            "services:\n  a: {image: b, depends_on: [c]}\n  c: {image: b, depends_on: [a]}\n",
            "3:",
            "dependency cycle detected: a -> c -> a",
            "take one",
        ),
        (
            "services:\n  a: {image: b, networks: [bak]}\nnetworks: {back: {}}\n",
            "2:28",
            "refers to undefined network bak",
            "did you mean \"back\"?",
        ),
        (
            "services:\n  a: {image: b, volumes: ['data:/d']}\n",
            "2:27",
            "refers to undefined volume data",
            "./data",
        ),
        (
            "services:\n  a: {image: b, depends_on: [cc]}\n  cd: {image: b}\n",
            "2:30",
            "depends on undefined service \"cc\"",
            "cd",
        ),
        (
            "services:\n  a: {image: b, ports: ['x:80']}\n",
            "2:25",
            "invalid hostPort: x",
            "published",
        ),
        ("services:\n  a: {}\n", "2:3", "has neither an image nor a build context", "image:"),
        (
            "services:\n  a: {extends: a2}\n  a2: {extends: a}\n",
            "2:",
            "Circular reference",
            "stand on its own",
        ),
        (
            "services:\n  a: {image: b, mem_limit: lots}\n",
            "2:17",
            "services.a.mem_limit is not a size",
            "64m",
        ),
        (
            "services:\n  a: {image: b, command: \"sh 'x\"}\n",
            "2:17",
            "invalid command line string",
            "quotes",
        ),
        ("services:\n  a: {image: b\n", "3:", "yaml", ""),
    ] {
        cx.write("compose.yaml", text);
        let output = compose(cx, &["config", "-q"]);
        assert_eq!(output.code, Some(1), "{text}: {}", output.describe());
        for part in [place(line).trim_end_matches(' ').trim_end_matches(':'), says, hint] {
            assert!(output.stderr.contains(part), "{part}: {}", output.describe());
        }
    }
    // Files that include each other, and one that is not there.
    cx.write("compose.yaml", "include: [b.yaml]\nservices: {a: {image: b}}\n");
    cx.write("b.yaml", "include: [compose.yaml]\n");
    compose(cx, &["config"]).fails_with(1, &["b.yaml:1:11: include cycle detected"]);
    cx.write("compose.yaml", "services:\n  a: {image: b, env_file: gone.env}\n");
    compose(cx, &["config"]).fails_with(1, &["compose.yaml:2:17: env file", "gone.env not found"]);
    fs::remove_file(&file).unwrap();
    compose(cx, &["-f", "gone.yaml", "config"]).fails_with(1, &["no such file or directory"]);
    compose(cx, &["nonsense"]).fails_with(1, &["unknown docker command: \"compose nonsense\""]);
    // An alias that would fill the memory.
    let mut bomb = String::from("x-0: &x0 [a, a, a, a, a, a, a, a, a, a]\n");
    for i in 1..15 {
        let all = vec![format!("*x{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("x-{i}: &x{i} [{all}]\n"));
    }
    cx.write("compose.yaml", bomb);
    compose(cx, &["config"]).fails_with(1, &["more than 200000 values in one file"]);
}

fn options_and_variables_choose_the_project(cx: &Cx<'_>) {
    cx.write("one/compose.yaml", "services: {a: {image: one}}\n");
    cx.write("one/compose.override.yaml", "services: {a: {hostname: over}}\n");
    cx.write("one/.env", "COMPOSE_PROFILES=p\nV=dot\n");
    cx.write("two.yaml", "name: named-$V\nservices: {b: {image: 'i:$V', profiles: [p]}, c: {image: c, profiles: [q]}}\n");
    cx.write("other.env", "V=other\n");
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = ours(cx, args);
        command::run(command.envs(env.iter().copied()).env_remove("COMPOSE_PROJECT_NAME"), b"")
    };
    let config = run(&["--project-directory", "one", "config"], &[]);
    for part in ["name: one", "image: one", "hostname: over"] {
        assert!(config.ok().contains(part), "{}", config.describe());
    }
    let here = cx.dir().join("one");
    let below = command::run(ours(cx, &["config", "--services"]).current_dir(&here), b"");
    assert_eq!(below.ok(), "a");
    let config = run(&["-f", "one/compose.yaml", "-f", "two.yaml", "config"], &[]);
    for part in ["name: named-dot", "i:dot"] {
        assert!(config.ok().contains(part), "{}", config.describe());
    }
    assert!(!config.stdout.contains("hostname") && !config.stdout.contains("image: c"));
    let env = [("COMPOSE_FILE", "two.yaml"), ("COMPOSE_PROFILES", "q")];
    assert_eq!(run(&["--env-file", "other.env", "config", "--services"], &env).ok(), "c");
    assert_eq!(run(&["--profile", "*", "config", "--profiles"], &env).ok(), "p\nq");
    assert_eq!(run(&["-p", "mine", "config", "--no-normalize"], &env).code, Some(0));
    run(&["-p", "Not Allowed", "config"], &env).fails_with(1, &["invalid project name"]);
    assert_eq!(run(&["-f", "two.yaml", "config", "--variables"], &[]).ok().lines().count(), 2);
}
