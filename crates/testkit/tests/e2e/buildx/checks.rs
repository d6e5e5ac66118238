//! `docker buildx build --check` and `--call`, and ours: what a Dockerfile is told instead of being built.

use super::{buildx, plugged};
use serde_json::Value;
use testkit::{Cx, Output, cases, command, suite::Case};

pub const CASES: &[Case] = cases![
    a_check_tells_what_is_not_wise,
    warnings_are_told_in_builds,
    checks_are_skipped_and_made_errors,
    targets_and_parameters_are_listed,
];

type Call = fn(&Cx<'_>, &[&str]) -> Output;

/// Both command lines are told the same.
const CALLS: [Call; 2] = [
    |cx, args| command::run(plugged(cx).args(["buildx", "build"]).args(args).arg("context"), b""),
    |cx, args| command::run(cx.gantry_build().args(args).arg("context"), b""),
];

fn a_check_tells_what_is_not_wise(cx: &Cx<'_>) {
    CALLS.iter().for_each(|call| is_checked(cx, call));
}

fn is_checked(cx: &Cx<'_>, call: &Call) {
    cx.write("context/.dockerignore", "ignored\n");
    cx.write(
        "context/Dockerfile",
        "FROM busybox as Base\nENV API_KEY=x\nCOPY ignored /i\nRUN exit 9\nCMD x $nothing\nFROM busybox\nWORKDIR $PATHS/x\nENV a b\n",
    );
    let told = call(cx, &["--check"]);
    told.fails_with(1, &[]);
    let all = format!("{}{}", told.stdout, told.stderr);
    for part in [
        "StageNameCasing",
        "FromAsCasing",
        "SecretsUsedInArgOrEnv",
        "CopyIgnoredFile",
        "JSONArgsRecommended",
        "LegacyKeyValueFormat",
        "UndefinedVar",
        "Usage of undefined variable '$PATHS' (did you mean $PATH?)",
        "Dockerfile:1",
    ] {
        assert!(all.contains(part), "{part:?}\n{}", told.describe());
    }
    let json = call(cx, &["--call=lint,format=json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let warnings = json["warnings"].as_array().unwrap();
    let casing = warnings.iter().find(|w| w["ruleName"] == "StageNameCasing").unwrap();
    assert_eq!(casing["url"], "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/");
    assert_eq!(casing["location"]["ranges"][0]["start"]["line"], 1, "{json}");
    cx.write("context/Dockerfile", "FROM busybox\nCMD [\"x\"]\n");
    let fine = call(cx, &["--check"]);
    fine.ok();
    assert!(fine.stdout.contains("Check complete, no warnings found."), "{}", fine.describe());
    cx.write("context/Dockerfile", "FROM busybox\nMAINTAINER me\n");
    call(cx, &["--call=check,ignorestatus=true", "-t", "never:made"]).ok();
    assert_eq!(cx.api().get("/images/never:made/json").status(), 404);
}

fn warnings_are_told_in_builds(cx: &Cx<'_>) {
    cx.write("context/Dockerfile", "FROM busybox\nMAINTAINER me\nWORKDIR /x$nothing\n");
    let built = buildx(cx, &[]);
    built.ok();
    for part in [
        "2 warnings found",
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)",
        "UndefinedVar: Usage of undefined variable '$nothing' (line 3)",
    ] {
        assert!(built.stderr.contains(part), "{part:?}\n{}", built.describe());
    }
}

fn checks_are_skipped_and_made_errors(cx: &Cx<'_>) {
    let write = |head: &str| {
        cx.write("context/Dockerfile", format!("{head}FROM busybox\nMAINTAINER me\nCMD x\n"));
    };
    write("# check=skip=MaintainerDeprecated,JSONArgsRecommended\n");
    let built = buildx(cx, &[]);
    assert!(!built.stderr.contains("warning"), "{}", built.describe());
    built.ok();
    write("# check=skip=MaintainerDeprecated;error=true\n");
    buildx(cx, &[]).fails_with(1, &["lint violation found for rules: JSONArgsRecommended"]);
    write("");
    let arg = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=all"];
    let built = buildx(cx, &arg);
    assert!(!built.stderr.contains("warning"), "{}", built.describe());
    write("# check=odd=1\n");
    buildx(cx, &[]).fails_with(1, &["invalid check option \"odd\""]);
}

fn targets_and_parameters_are_listed(cx: &Cx<'_>) {
    CALLS.iter().for_each(|call| are_listed(cx, call));
}

fn are_listed(cx: &Cx<'_>, call: &Call) {
    cx.write(
        "context/Dockerfile",
        "# who who it is for\nARG who=nobody\n# base what all stands on\nFROM busybox AS base\nRUN --mount=type=secret,id=key,required=true true\nFROM base AS last\nARG who\n# also more\nARG also\nRUN echo $who\n",
    );
    let targets = call(cx, &["--call=targets,format=json"]);
    let json: Value = serde_json::from_str(targets.ok()).unwrap();
    assert_eq!(json["targets"][0]["name"], "base", "{json}");
    assert_eq!(json["targets"][0]["description"], "what all stands on", "{json}");
    assert_eq!(json["targets"][1]["default"], true, "{json}");
    let text = call(cx, &["--call=targets"]);
    assert!(text.ok().contains("last (default)"), "{}", text.describe());
    let outline = call(cx, &["--call=outline,format=json", "--build-arg", "also=given"]);
    let json: Value = serde_json::from_str(outline.ok()).unwrap();
    assert_eq!(json["name"], "last", "{json}");
    let args = json["args"].as_array().unwrap();
    let arg = |name: &str| args.iter().find(|a| a["name"] == name).unwrap();
    assert_eq!(arg("who")["value"], "nobody", "{json}");
    assert_eq!(arg("who")["description"], "who it is for", "{json}");
    assert_eq!(arg("also")["value"], "given", "{json}");
    assert_eq!(json["secrets"][0]["name"], "key", "{json}");
    assert_eq!(json["secrets"][0]["required"], true, "{json}");
    let text = call(cx, &["--call=outline"]);
    assert!(text.ok().contains("BUILD ARG"), "{}", text.describe());
}
