//! JSON decoding as lenient as Go's `encoding/json`, which clients of Docker's API rely on.
//!
//! Keys of structs match without regard to case, unknown keys are skipped, `null` anywhere is the zero
//! value, fixed arrays may be short or long, and the fields of [`STRING_LISTS`] take one string for a list
//! of one. A field that comes twice counts as it came last (docker-java sends `enableIPv6` beside
//! `EnableIPv6`). Keys of maps (labels, options) stay as they are.
//!
//! Flow: [`Lenient`] wraps any serde deserializer and hands itself down to every value; nothing is
//! buffered, so memory is that of the decoded type. Only a document with a repeated field is read again,
//! object by object.
//! Invariant: types still matter. A string for a number is an error, as in Go.
//! Not here: `#[serde(flatten)]`, which hides a struct's field list and with it the case folding; a body
//! made of two structs is decoded twice instead.

use base::{Error, Result};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor, value::MapDeserializer,
};
use serde_json::Value;
use std::fmt;

/// Go's `strslice.StrSlice` fields: a string stands for a list of one.
const STRING_LISTS: &[&str] = &["Cmd", "Entrypoint", "Shell", "CapAdd", "CapDrop"];

/// Decodes one JSON document.
///
/// # Errors
/// `Invalid` with docker's wording for malformed JSON, wrong types, and more than one document.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let read = |repeats| {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        T::deserialize(Lenient::new(&mut json, repeats)).map(|value| (value, json.end()))
    };
    // What serde's derived visitors say of a field that comes again.
    let repeated = |err: &serde_json::Error| err.to_string().contains("duplicate field");
    let read = match read(Repeats::Refused) {
        Err(err) if repeated(&err) => read(Repeats::LastCounts),
        read => read,
    };
    match read.map_err(|err| malformed(err, bytes))? {
        (value, Ok(())) => Ok(value),
        (_, Err(_)) => Err(Error::invalid("unexpected content after JSON")),
    }
}

/// Decodes a JSON value.
///
/// # Errors
/// `Invalid` for wrong types.
pub fn decode_value<T: DeserializeOwned>(value: Value) -> Result<T> {
    T::deserialize(Lenient::new(value, Repeats::LastCounts)).map_err(invalid)
}

/// What is wrong with the form of `bytes`, in the words of Go's decoder, which clients look for.
fn malformed(err: serde_json::Error, bytes: &[u8]) -> Error {
    const CASES: &[(&str, &str)] = &[
        ("key must be a string", "looking for beginning of object key string"),
        ("expected value", "looking for beginning of value"),
        ("expected ident", "looking for beginning of value"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
    ];
    // Read again for its form alone: the first error may have got the name of a field put before it.
    let Err(form) = serde_json::from_slice::<IgnoredAny>(bytes) else { return invalid(err) };
    let text = form.to_string();
    let place = CASES.iter().find(|(ours, _)| text.starts_with(ours));
    let (line, column) = (form.line(), form.column());
    let before = bytes.split_inclusive(|b| *b == b'\n').take(line.saturating_sub(1));
    let at = before.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1);
    match (place, bytes.get(at)) {
        (Some((_, place)), Some(byte)) if !form.is_eof() => {
            let character = char::from(*byte);
            Error::invalid(format!("invalid JSON: invalid character {character:?} {place}"))
        }
        _ => invalid(err),
    }
}

fn invalid(err: serde_json::Error) -> Error {
    // A field's name put before an error hides its category from serde_json, not its text.
    if err.is_eof() || err.to_string().contains("EOF while parsing") {
        return Error::invalid("invalid JSON: unexpected EOF");
    }
    Error::invalid("invalid JSON").caused_by(err)
}

/// What becomes of a field that an object has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeats {
    /// An error: values are handed on while they are read.
    Refused,
    /// The last one counts: an object is read whole before its values are handed on.
    LastCounts,
}

/// How one value is decoded.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// Whether a string may stand for a list.
    string_list: bool,
    repeats: Repeats,
}

/// A deserializer with Go's manners over another one.
#[derive(Debug)]
struct Lenient<D> {
    inner: D,
    manners: Manners,
}

impl<D> Lenient<D> {
    fn new(inner: D, repeats: Repeats) -> Self {
        Self { inner, manners: Manners { string_list: false, repeats } }
    }
}

/// What a visitor is given when the value is `null`.
#[derive(Clone, Copy)]
enum Zero {
    Bool,
    Number,
    Text,
    Bytes,
    List,
    /// A fixed array of so many elements.
    Array(usize),
    Map,
}

/// Sees through `null` on the way to a value that is not optional.
struct NotNull<V> {
    visitor: V,
    zero: Zero,
    fields: Option<&'static [&'static str]>,
    manners: Manners,
}

macro_rules! values {
    ($($method:ident => $zero:expr),* $(,)?) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.present(visitor, $zero, None)
        }
    )* };
}

impl<'de, D: Deserializer<'de>> Lenient<D> {
    fn present<V: Visitor<'de>>(
        self,
        visitor: V,
        zero: Zero,
        fields: Option<&'static [&'static str]>,
    ) -> Result<V::Value, D::Error> {
        let manners = self.manners;
        self.inner.deserialize_option(NotNull { visitor, zero, fields, manners })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<D> {
    type Error = D::Error;

    values! {
        deserialize_bool => Zero::Bool,
        deserialize_i8 => Zero::Number,
        deserialize_i16 => Zero::Number,
        deserialize_i32 => Zero::Number,
        deserialize_i64 => Zero::Number,
        deserialize_u8 => Zero::Number,
        deserialize_u16 => Zero::Number,
        deserialize_u32 => Zero::Number,
        deserialize_u64 => Zero::Number,
        deserialize_f32 => Zero::Number,
        deserialize_f64 => Zero::Number,
        deserialize_char => Zero::Text,
        deserialize_str => Zero::Text,
        deserialize_string => Zero::Text,
        deserialize_bytes => Zero::Bytes,
        deserialize_byte_buf => Zero::Bytes,
        deserialize_seq => Zero::List,
        deserialize_map => Zero::Map,
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.present(visitor, Zero::Array(length), None)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // serde_json smuggles raw values and numbers through under private names.
        if name.starts_with('$') {
            return self.inner.deserialize_struct(name, fields, visitor);
        }
        self.present(visitor, Zero::Map, Some(fields))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_option(Optional { visitor, manners: self.manners })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_identifier(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for NotNull<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visit_unit()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        match self.zero {
            Zero::Bool => self.visitor.visit_bool(false),
            Zero::Number => self.visitor.visit_u64(0),
            Zero::Text => self.visitor.visit_str(""),
            Zero::Bytes => self.visitor.visit_bytes(&[]),
            Zero::List => {
                self.visitor.visit_seq(Zeros { left: 0, error: std::marker::PhantomData })
            }
            Zero::Array(left) => {
                self.visitor.visit_seq(Zeros { left, error: std::marker::PhantomData })
            }
            Zero::Map => {
                self.visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>()))
            }
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let shape = match self.zero {
            Zero::Array(length) => Shape::Array(length),
            _ => Shape::Other,
        };
        let (zero, fields, manners) = (self.zero, self.fields, self.manners);
        let within = Within { visitor: self.visitor, fields, shape, manners };
        match zero {
            Zero::Bool => inner.deserialize_bool(within),
            Zero::Number => inner.deserialize_any(within),
            Zero::Text => inner.deserialize_str(within),
            Zero::Bytes => inner.deserialize_byte_buf(within),
            Zero::List if manners.string_list => inner.deserialize_any(within),
            Zero::List | Zero::Array(_) => inner.deserialize_seq(within),
            Zero::Map => inner.deserialize_map(within),
        }
    }
}

/// Passes `Some` on with a lenient deserializer inside.
struct Optional<V> {
    visitor: V,
    manners: Manners,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Optional<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Lenient { inner, manners: self.manners })
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Array(usize),
    Other,
}

/// Passes a present value on, lists and maps with lenient elements.
struct Within<V> {
    visitor: V,
    fields: Option<&'static [&'static str]>,
    shape: Shape,
    manners: Manners,
}

macro_rules! scalars {
    ($($method:ident($type:ty)),* $(,)?) => { $(
        fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.visitor.$method(value)
        }
    )* };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    scalars! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_bytes(&[u8]), visit_byte_buf(Vec<u8>),
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<V::Value, E> {
        if self.manners.string_list {
            let one = std::iter::once(value.to_owned());
            return self.visitor.visit_seq(serde::de::value::SeqDeserializer::new(one));
        }
        self.visitor.visit_str(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<V::Value, A::Error> {
        let length = match self.shape {
            Shape::Array(length) => Some(length),
            Shape::Other => None,
        };
        let repeats = self.manners.repeats;
        let mut elements = Elements { list, taken: 0, length, repeats };
        let value = self.visitor.visit_seq(&mut elements)?;
        while elements.list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let (fields, repeats) = (self.fields, self.manners.repeats);
        if let (Some(known), Repeats::LastCounts) = (fields, repeats) {
            let map = MapDeserializer::new(last_of_each(map, known)?.into_iter());
            let entries = Entries { map, fields, field: None, repeats };
            return self.visitor.visit_map(entries).map_err(A::Error::custom);
        }
        self.visitor.visit_map(Entries { map, fields, field: None, repeats })
    }
}

/// The fields of an object as they came last; an object that comes again is laid over the one before, as in Go.
fn last_of_each<'de, A: MapAccess<'de>>(
    mut map: A,
    fields: &'static [&'static str],
) -> Result<serde_json::Map<String, Value>, A::Error> {
    let mut last = serde_json::Map::new();
    while let Some((key, value)) = map.next_entry::<String, Value>()? {
        let Some(field) = field_of(fields, &key) else { continue };
        match (last.get_mut(field), value) {
            (Some(Value::Object(before)), Value::Object(again)) => {
                for (key, value) in again {
                    // Behind all others: its name may be there in another case.
                    before.shift_remove(&key);
                    before.insert(key, value);
                }
            }
            (_, value) => drop(last.insert(field.to_owned(), value)),
        }
    }
    Ok(last)
}

/// The field that `key` means: by its very name, else without regard to case.
fn field_of(fields: &'static [&'static str], key: &str) -> Option<&'static str> {
    let exact = fields.iter().find(|f| **f == key);
    exact.or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(key))).copied()
}

/// Elements of a list; a fixed array is filled up with zero values.
struct Elements<A> {
    list: A,
    taken: usize,
    length: Option<usize>,
    repeats: Repeats,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for &mut Elements<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let mut seed = Some(seed);
        let found = self.list.next_element_seed(Once(&mut seed, self.repeats))?;
        self.taken += 1;
        match (found, seed, self.length) {
            (Some(value), ..) => Ok(Some(value)),
            (None, Some(seed), Some(length)) if self.taken <= length => {
                let null = serde::de::value::UnitDeserializer::new();
                seed.deserialize(Lenient::new(null, self.repeats)).map(Some)
            }
            (None, ..) => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        // Lengths come from the client; let the vector grow by itself.
        None
    }
}

/// A seed that is taken only when there is an element.
struct Once<'s, S>(&'s mut Option<S>, Repeats);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Once<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        match self.0.take() {
            Some(seed) => seed.deserialize(Lenient::new(inner, self.1)),
            None => Err(D::Error::custom("a list element was asked for twice")),
        }
    }
}

/// Nothing but zero values, for a fixed array that is `null`.
struct Zeros<E> {
    left: usize,
    error: std::marker::PhantomData<E>,
}

impl<'de, E: serde::de::Error> SeqAccess<'de> for Zeros<E> {
    type Error = E;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, E> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let null = serde::de::value::UnitDeserializer::new();
        seed.deserialize(Lenient::new(null, Repeats::Refused)).map(Some)
    }
}

/// Entries of a map, or of a struct whose keys are folded to its own field names.
struct Entries<A> {
    map: A,
    fields: Option<&'static [&'static str]>,
    field: Option<&'static str>,
    repeats: Repeats,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(fields) = self.fields else { return self.map.next_key_seed(seed) };
        loop {
            let Some(key) = self.map.next_key::<std::borrow::Cow<'de, str>>()? else {
                return Ok(None);
            };
            match field_of(fields, &key) {
                Some(field) => {
                    self.field = Some(field);
                    let name = serde::de::value::BorrowedStrDeserializer::new(field);
                    return seed.deserialize(name).map(Some);
                }
                None => drop(self.map.next_value::<IgnoredAny>()?),
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let field = self.field.take();
        let string_list = field.is_some_and(|f| STRING_LISTS.contains(&f));
        let manners = Manners { string_list, repeats: self.repeats };
        self.map.next_value_seed(Politely { seed, manners }).map_err(|err| match field {
            Some(field) => A::Error::custom(format_args!("{field}: {err}")),
            None => err,
        })
    }
}

/// A seed whose value is decoded leniently.
struct Politely<S> {
    seed: S,
    manners: Manners,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Politely<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.seed.deserialize(Lenient { inner, manners: self.manners })
    }
}

#[cfg(test)]
mod tests;
