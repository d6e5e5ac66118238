//! Names of containers, volumes and networks: the rule for given ones, and made-up ones
//! (`adjective_surname`, the form that scripts know from Docker).

use crate::{
    error::{Error, Result},
    id::random_hex,
};

/// Checks a name against `[a-zA-Z0-9][a-zA-Z0-9_.-]+` (two characters at least).
///
/// # Errors
/// `Invalid` with docker's wording; `what` is "container" or "volume".
pub fn check(what: &str, name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let fine = bytes.len() >= 2
        && bytes.len() <= 255
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
    if fine {
        Ok(())
    } else {
        Err(Error::invalid(format!(
            "Invalid {what} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "apt", "ardent", "astute", "bold", "brave", "brisk", "bright",
    "calm", "candid", "civil", "clever", "crisp", "daring", "deft", "eager", "earnest", "fair",
    "fervent", "fluent", "fond", "frank", "gallant", "gentle", "glad", "graceful", "hardy",
    "hearty", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry",
    "mellow", "mighty", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky",
    "polite", "prompt", "proud", "quick", "quiet", "rapid", "ready", "robust", "sage", "serene",
    "sharp", "silent", "sincere", "smart", "solid", "spry", "stable", "steady", "stoic", "sunny",
    "swift", "tender", "tidy", "tranquil", "trusty", "upbeat", "valiant", "vivid", "warm", "wise",
    "witty", "zealous",
];
const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "anning",
    "babbage",
    "bardeen",
    "bartik",
    "bell",
    "bohr",
    "bose",
    "brahmagupta",
    "brunel",
    "cannon",
    "carson",
    "cerf",
    "clarke",
    "curie",
    "darwin",
    "diffie",
    "dijkstra",
    "eiffel",
    "elion",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goldberg",
    "goodall",
    "hamilton",
    "hawking",
    "hellman",
    "hodgkin",
    "hopper",
    "hugle",
    "hypatia",
    "jang",
    "jemison",
    "johnson",
    "joliot",
    "kalam",
    "keller",
    "kepler",
    "khorana",
    "kilby",
    "knuth",
    "lamarr",
    "lamport",
    "leavitt",
    "liskov",
    "lovelace",
    "lumiere",
    "mayer",
    "maxwell",
    "mcclintock",
    "meitner",
    "mendel",
    "mirzakhani",
    "morse",
    "napier",
    "newton",
    "nobel",
    "noether",
    "pascal",
    "pasteur",
    "payne",
    "perlman",
    "planck",
    "raman",
    "ramanujan",
    "ride",
    "ritchie",
    "rubin",
    "sanger",
    "shannon",
    "shaw",
    "shirley",
    "sinoussi",
    "solomon",
    "stallman",
    "swartz",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "villani",
    "wiles",
    "wilson",
    "wing",
    "wright",
    "wu",
    "yalow",
    "yonath",
];

/// A made-up name; `attempt` above zero adds a digit, for when the first was taken.
pub fn generate(attempt: u32) -> String {
    let seed = random_hex();
    let pick = |range: std::ops::Range<usize>, list: &[&'static str]| {
        let number = usize::from_str_radix(&seed[range], 16).unwrap_or(0);
        list[number % list.len()]
    };
    let name = format!("{}_{}", pick(0..6, ADJECTIVES), pick(6..12, SURNAMES));
    if attempt == 0 { name } else { format!("{name}{}", seed.as_bytes()[13] % 10) }
}
