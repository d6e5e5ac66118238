//! The rules: names, what each is about, where it is explained.

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// The last part of the address where it is explained; empty when it is nowhere.
    page: &'static str,
    /// It counts only where it is asked for.
    pub experimental: bool,
}

impl Rule {
    /// Where it is explained.
    pub fn url(&self) -> String {
        match self.page {
            "" => String::new(),
            page => format!("https://docs.docker.com/go/dockerfile/rule/{page}/"),
        }
    }

    const fn new(name: &'static str, page: &'static str, description: &'static str) -> Self {
        Self { name, description, page, experimental: false }
    }
}

macro_rules! rules {
    ($($id:ident: $name:literal, $page:literal, $description:literal;)*) => {
        $(#[doc = $description] pub static $id: Rule = Rule::new($name, $page, $description);)*
        /// All of them.
        pub static RULES: &[&Rule] = &[$(&$id,)* &DEFINITION_DESCRIPTION];
    };
}

/// Comment for build stage or argument should follow the format.
pub static DEFINITION_DESCRIPTION: Rule = Rule {
    experimental: true,
    ..Rule::new(
        "InvalidDefinitionDescription",
        "invalid-definition-description",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    )
};

rules! {
    STAGE_NAME_CASING: "StageNameCasing", "stage-name-casing", "Stage names should be lowercase";
    FROM_AS_CASING: "FromAsCasing", "from-as-casing", "The 'as' keyword should match the case of the 'from' keyword";
    NO_EMPTY_CONTINUATION: "NoEmptyContinuation", "no-empty-continuation", "Empty continuation lines will become errors in a future release";
    CONSISTENT_CASING: "ConsistentInstructionCasing", "consistent-instruction-casing", "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DUPLICATE_STAGE_NAME: "DuplicateStageName", "duplicate-stage-name", "Stage names should be unique";
    RESERVED_STAGE_NAME: "ReservedStageName", "reserved-stage-name", "Reserved words should not be used as stage names";
    JSON_ARGS: "JSONArgsRecommended", "json-args-recommended", "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MAINTAINER: "MaintainerDeprecated", "maintainer-deprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UNDEFINED_ARG_IN_FROM: "UndefinedArgInFrom", "undefined-arg-in-from", "FROM command must use declared ARGs";
    WORKDIR_RELATIVE: "WorkdirRelativePath", "workdir-relative-path", "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UNDEFINED_VAR: "UndefinedVar", "undefined-var", "Variables should be defined before their use";
    MULTIPLE: "MultipleInstructionsDisallowed", "multiple-instructions-disallowed", "Multiple instructions of the same type should not be used in the same stage";
    LEGACY_PAIRS: "LegacyKeyValueFormat", "legacy-key-value-format", "Legacy key/value format with whitespace separator should not be used";
    BASE_PLATFORM: "InvalidBaseImagePlatform", "", "Base image platform does not match expected target platform";
    REDUNDANT_PLATFORM: "RedundantTargetPlatform", "redundant-target-platform", "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SECRETS: "SecretsUsedInArgOrEnv", "secrets-used-in-arg-or-env", "Sensitive data should not be used in the ARG or ENV commands";
    DEFAULT_ARG_IN_FROM: "InvalidDefaultArgInFrom", "invalid-default-arg-in-from", "Default value for global ARG results in an empty or invalid base image name";
    CONST_PLATFORM: "FromPlatformFlagConstDisallowed", "from-platform-flag-const-disallowed", "FROM --platform flag should not use a constant value";
    COPY_IGNORED: "CopyIgnoredFile", "copy-ignored-file", "Attempting to Copy file that is excluded by .dockerignore";
    EXPOSE_CASING: "ExposeProtoCasing", "expose-proto-casing", "Protocol in EXPOSE instruction should be lowercase";
    EXPOSE_FORMAT: "ExposeInvalidFormat", "expose-invalid-format", "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}
