use super::*;
use crate::{
    args::BuildArgs,
    draft::{Draft, Work},
};
use expect_test::{Expect, expect};
use image::config::RunConfig;
use std::fmt::Write as _;

/// Applies a whole file to an empty image and prints what each step does.
fn trace(text: &str) -> String {
    let file = match Dockerfile::parse("Dockerfile", text.as_bytes()) {
        Ok(file) => file,
        Err(err) => return format!("error: {}\n", err.chain()),
    };
    let mut out = String::new();
    let mut args = BuildArgs::default();
    for step in &file.args {
        for (name, default) in step.instruction.declares() {
            args.declare_global(name, default.clone());
        }
        let _ = writeln!(out, "global {}", step.code);
    }
    for stage in &file.stages {
        let _ = writeln!(out, "{:?} {:?}", stage.lines, stage.head);
        let mut draft = Draft::new(RunConfig::default(), args.stage(), file.escape);
        for step in &stage.steps {
            match step.instruction.apply(&mut draft) {
                Ok(Work::Config { comment }) => writeln!(out, "  {:?} {comment}", step.lines),
                Ok(Work::WorkDir) => {
                    writeln!(out, "  {:?} WORKDIR {}", step.lines, draft.config.working_dir)
                }
                Ok(work) => writeln!(out, "  {:?} {work:?}", step.lines),
                Err(err) => writeln!(out, "  {:?} error: {}", step.lines, err.chain()),
            }
            .unwrap();
        }
    }
    for warning in &file.warnings {
        let _ = writeln!(out, "{warning}");
    }
    out
}

#[track_caller]
fn check(text: &str, want: &Expect) {
    want.assert_eq(&trace(text));
}

#[test]
fn stages_arguments_and_flags() {
    check(
        "ARG V=1\nFROM --platform=linux/amd64 busybox:${V} AS Base\nRUN echo $V\nfrom base\ncopy --from=base --chown=1:2 /a b/ /c/\nADD http://x/y z /\n",
        &expect![[r#"
            global ARG V=1
            2..=2 Head { base: "busybox:${V}", name: Some("base"), platform: Some("linux/amd64") }
              3..=3 Run(Run { command: ["/bin/sh", "-c", "echo $V"], script: None, mounts: [], network: None, security: None, devices: [] })
            4..=4 Head { base: "base", name: None, platform: None }
              5..=5 Copy(Copy { name: "COPY", sources: [Path("/a"), Path("b/")], dest: "/c/", from: Some("base"), chown: Some("1:2"), chmod: None, checksum: None, link: false, parents: false, exclude: [], keep_git_dir: false, unpack: None })
              6..=6 Copy(Copy { name: "ADD", sources: [Url("http://x/y"), Path("z")], dest: "/", from: None, chown: None, chmod: None, checksum: None, link: false, parents: false, exclude: [], keep_git_dir: false, unpack: None })
        "#]],
    );
}

#[test]
fn configuration_is_shown_as_docker_shows_it() {
    check(
        r#"FROM x
ENV A=1 B="two words" C=$A
ENV OLD style $A value
LABEL l="x y" m=$B
CMD ["a", "b"]
CMD echo "hi"
ENTRYPOINT ["/e"]
WORKDIR /w/$A
WORKDIR sub
EXPOSE 80 53/udp $A
VOLUME ["/v 1", "/v2"]
VOLUME /a /b
USER u:$A
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5m --retries=3 CMD curl x || exit 1
HEALTHCHECK NONE
SHELL ["/bin/bash", "-c"]
RUN x
ONBUILD RUN a
MAINTAINER me <a@b>
ARG P=$A Q
"#,
        &expect![[r#"
            1..=1 Head { base: "x", name: None, platform: None }
              2..=2 ENV A=1 B=two words C=
              3..=3 ENV OLD=style 1 value
              4..=4 LABEL l=x y m=two words
              5..=5 CMD ["a" "b"]
              6..=6 CMD ["/bin/sh" "-c" "echo \"hi\""]
              7..=7 ENTRYPOINT ["/e"]
              8..=8 WORKDIR /w/1
              9..=9 WORKDIR /w/1/sub
              10..=10 EXPOSE 1 53/udp 80
              11..=11 VOLUME [/v 1 /v2]
              12..=12 VOLUME [/a /b]
              13..=13 USER u:1
              14..=14 STOPSIGNAL SIGTERM
              15..=15 HEALTHCHECK &{["CMD-SHELL" "curl x || exit 1"] "5m0s" "0s" "0s" "0s" '\x03'}
              16..=16 HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" '\x00'}
              17..=17 SHELL [/bin/bash -c]
              18..=18 Run(Run { command: ["/bin/bash", "-c", "x"], script: None, mounts: [], network: None, security: None, devices: [] })
              19..=19 ONBUILD RUN a
              20..=20 MAINTAINER me <a@b>
              21..=21 ARG P=1 Q
        "#]],
    );
}

#[test]
fn lines_continue_over_comments() {
    check(
        "\u{feff}# escape=\\\n# a comment\nFROM x\r\nRUN a \\\r\n  # not part\n && b \\\n\n && c\n  \nCMD x\\",
        &expect![[r#"
            3..=3 Head { base: "x", name: None, platform: None }
              4..=8 Run(Run { command: ["/bin/sh", "-c", "a  && b  && c"], script: None, mounts: [], network: None, security: None, devices: [] })
              10..=10 CMD ["/bin/sh" "-c" "x"]
            [WARNING]: Empty continuation line found in:
                RUN a  && b  && c
            [WARNING]: Empty continuation lines will become errors in a future release.
        "#]],
    );
    check(
        "#escape=`\nFROM x\nRUN dir c:\\`\n x\nENV A=c:\\x\n",
        &expect![[r#"
            2..=2 Head { base: "x", name: None, platform: None }
              3..=4 Run(Run { command: ["/bin/sh", "-c", "dir c:\\ x"], script: None, mounts: [], network: None, security: None, devices: [] })
              5..=5 ENV A=c:\x
        "#]],
    );
}

#[test]
fn here_documents() {
    check(
        "FROM x\nENV A=1\nRUN <<EOF\necho $A\nEOF\nRUN <<-E\n#!/bin/x\n\ta\n\tE\nRUN cat <<A && cat <<B\na\nA\nb\nB\nCOPY <<f.txt <<\"g\" /d/\n$A \"q\"\nf.txt\n$A\ng\nRUN [\"<<X\"]\nONBUILD RUN <<E\nz\nE\n",
        &expect![[r##"
            1..=1 Head { base: "x", name: None, platform: None }
              2..=2 ENV A=1
              3..=5 Run(Run { command: ["/bin/sh", "-c", "echo $A\n"], script: None, mounts: [], network: None, security: None, devices: [] })
              6..=9 Run(Run { command: ["/dev/pipes/E"], script: Some(("E", "#!/bin/x\na\n")), mounts: [], network: None, security: None, devices: [] })
              10..=14 Run(Run { command: ["/bin/sh", "-c", "cat <<A && cat <<B\na\nA\nb\nB"], script: None, mounts: [], network: None, security: None, devices: [] })
              15..=19 Copy(Copy { name: "COPY", sources: [Inline { name: "f.txt", content: "1 \"q\"\n" }, Inline { name: "g", content: "$A\n" }], dest: "/d/", from: None, chown: None, chmod: None, checksum: None, link: false, parents: false, exclude: [], keep_git_dir: false, unpack: None })
              20..=20 Run(Run { command: ["<<X"], script: None, mounts: [], network: None, security: None, devices: [] })
              21..=23 ONBUILD RUN <<E
            z
            E
        "##]],
    );
}

#[test]
fn errors_name_line_and_cause() {
    let errors: String = [
        "",
        "# only\n",
        "ARG A\n",
        "RUN x\n",
        "FROM x\n\nRUM y\n",
        "FROM x\nNONSENSE\n",
        "FROM\n",
        "FROM a b\n",
        "FROM a AS 1x\n",
        "FROM --x=y a\n",
        "FROM x\nENV A\n",
        "FROM x\nENV A=1 B\n",
        "FROM x\nENV =1\n",
        "FROM x\nLABEL\n",
        "FROM x\nCOPY a\n",
        "FROM x\nCOPY --chown a b\n",
        "FROM x\nCOPY --from=a --from=b c d\n",
        "FROM x\nCOPY <<E <<F\na\nE\nF\n",
        "FROM x\nCMD [\"a\", 1]\n",
        "FROM x\nSHELL x\n",
        "FROM x\nHEALTHCHECK X y\n",
        "FROM x\nHEALTHCHECK NONE y\n",
        "FROM x\nHEALTHCHECK --retries=x CMD y\n",
        "FROM x\nHEALTHCHECK --interval=1us CMD y\n",
        "FROM x\nONBUILD ONBUILD RUN x\n",
        "FROM x\nONBUILD from y\n",
        "FROM x\nONBUILD\n",
        "FROM x\nWORKDIR\n",
        "FROM x\nRUN --mount=type=cache,target=/x y\n",
        "FROM x\nRUN <<E\nx\n",
        "# escape=x\nFROM x\n",
        "# escape=`\n# escape=`\nFROM x\n",
        "FROM x\nWORKDIR ${A\n",
        "FROM x\nCOPY http://a /b\n",
        "FROM x\nEXPOSE x\n",
        "FROM x\nSTOPSIGNAL NOPE\n",
    ]
    .iter()
    .map(|text| trace(text))
    .collect();
    expect![[r#"
        error: failed to parse Dockerfile: file with no instructions
        error: failed to parse Dockerfile: file with no instructions
        error: No image was generated. Is your Dockerfile empty?
        error: dockerfile parse error on line 1: no build stage in current context
        error: dockerfile parse error on line 3: unknown instruction: RUM (did you mean RUN?)
        error: dockerfile parse error on line 2: unknown instruction: NONSENSE
        error: dockerfile parse error on line 1: FROM requires either one or three arguments
        error: dockerfile parse error on line 1: FROM requires either one or three arguments
        error: dockerfile parse error on line 1: invalid name for build stage: "1x", name can't start with a number or contain symbols
        error: dockerfile parse error on line 1: Unknown flag: x
        error: failed to parse Dockerfile: ENV must have two arguments (line 2)
        error: failed to parse Dockerfile: Syntax error - can't find = in "B". Must be of the form: name=value (line 2)
        error: dockerfile parse error on line 2: ENV names can not be blank
        error: dockerfile parse error on line 2: LABEL requires at least one argument
        error: dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined.
        error: dockerfile parse error on line 2: Missing a value on flag: chown
        error: dockerfile parse error on line 2: Duplicate flag specified: from
        error: dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination
        error: failed to parse Dockerfile: when using JSON array syntax, arrays must be comprised of strings only (line 2)
        error: dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form
        error: dockerfile parse error on line 2: Unknown type "X" in HEALTHCHECK (try CMD)
        error: dockerfile parse error on line 2: HEALTHCHECK NONE takes no arguments
        error: dockerfile parse error on line 2: strconv.ParseInt: parsing "x": invalid syntax
        error: dockerfile parse error on line 2: Interval "interval" cannot be less than 1ms
        error: dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed
        error: dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger
        error: dockerfile parse error on line 2: ONBUILD requires at least one argument
        error: dockerfile parse error on line 2: WORKDIR requires exactly one argument
        error: dockerfile parse error on line 2: the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how to build images with BuildKit enabled
        error: failed to parse Dockerfile: unterminated heredoc (line 2)
        error: failed to parse Dockerfile: invalid escape token 'x' does not match ` or \ (line 1)
        error: failed to parse Dockerfile: only one escape parser directive can be used (line 2)
        1..=1 Head { base: "x", name: None, platform: None }
          2..=2 error: failed to process "${A": syntax error: missing '}'
        1..=1 Head { base: "x", name: None, platform: None }
          2..=2 error: COPY failed: source can't be a URL for COPY
        1..=1 Head { base: "x", name: None, platform: None }
          2..=2 error: invalid containerPort: x
        1..=1 Head { base: "x", name: None, platform: None }
          2..=2 error: Invalid signal: NOPE
    "#]].assert_eq(&errors);
}

#[test]
fn a_line_has_a_limit() {
    let long = format!("FROM x\nRUN {}\n", "a".repeat(70_000));
    check(
        &long,
        &expect![[r#"
            error: failed to parse Dockerfile: dockerfile line greater than max allowed size of 65535 (line 2)
        "#]],
    );
}

proptest::proptest! {
    #[test]
    fn parsing_is_total(text in "(FROM x\n)?((RUN|COPY|ENV|ONBUILD|LABEL|ARG|HEALTHCHECK|ADD|CMD|FROM|\\[)? ?[-a-c<$\"'\\\\ =\n{}\\[\\],:/]{0,12}\n?){0,6}") {
        let _ = trace(&text);
    }

    #[test]
    fn any_bytes_parse(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Dockerfile::parse("Dockerfile", &bytes);
    }
}
