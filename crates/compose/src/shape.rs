//! What a Compose file may hold, as data: for each key its type, its short forms, and when it is left out.
//!
//! The tables are in `tables.rs`; `validate.rs` holds a file to them, `decode.rs` makes [`crate::value::Value`]s
//! by them, and `render.rs` prints those in the tables' order. The order and the rules for what is left out are those
//! of docker compose's own types, since a service's hash is made over its JSON.

/// A mapping with known keys.
#[derive(Debug)]
pub(crate) struct Record {
    pub fields: &'static [Field],
    /// Keys that have to be there.
    pub required: &'static [&'static str],
    /// Whether keys that begin with `x-` may be there.
    pub open: bool,
}

/// One key of a [`Record`].
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub shape: Shape,
    pub zero: Zero,
}

/// What becomes of a value that says nothing (`""`, `0`, `false`, `[]`, `{}`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    /// It is left out.
    Omit,
    /// It is kept when it was given: "not at all" and "none" differ.
    Keep,
    /// As `Keep`; and in JSON it is `null` when it was not given.
    Null,
    /// In JSON it is `{}` when it was not given.
    Braces,
    /// It is always there.
    Always,
    /// It is taken and never printed.
    Drop,
}

/// The type of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A string that holds one of these words somewhere.
    Policy,
    /// A string or a number, as a string.
    Lax,
    /// A boolean, or a string that means one.
    Flag,
    /// A boolean only.
    Bool,
    /// A whole number in a range, or a string of one.
    Whole(i64, i64),
    /// Any number, or a string of one, as a whole number.
    Number,
    /// A number, in single precision.
    Real,
    /// A size: a number, or a string such as `64m`; printed as a string of bytes.
    Size,
    /// A duration such as `1m30s`.
    Span,
    /// A command line: a string that is split into words, or words.
    Command,
    /// A health check's test.
    Test,
    /// Strings, each once.
    Texts,
    /// Strings.
    Words,
    /// Strings, or one.
    OneOrMore,
    /// Strings and numbers, as strings.
    Laxes,
    /// `key=value`, as a mapping or list; a key alone has no value (`null`).
    Environment,
    /// `key=value`, as a mapping or list; a key alone has an empty value.
    Pairs,
    /// A mapping of strings and numbers.
    Options,
    /// Hosts and their addresses.
    Hosts,
    /// A file's mode.
    Mode,
    /// How many devices, or `all`.
    Count,
    /// Keys of ssh agents.
    Ssh,
    /// Whether something is made elsewhere; formerly a mapping.
    External,
    /// A limit: one number, or soft and hard ones.
    Ulimit(&'static Record),
    /// Nothing, or this.
    Maybe(&'static Shape),
    /// Several of this.
    Each(&'static Shape),
    /// This by names that users choose.
    Named(&'static Shape),
    /// A mapping with known keys.
    Of(&'static Record),
    /// A short form, or a long one that it is turned into.
    Short(&'static Shape, &'static Shape),
    /// Whatever it is.
    Any,
}

impl Record {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }
}
