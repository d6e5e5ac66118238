//! What a plain scalar means, and how numbers are written: as Go's YAML and Docker's tools do.
//!
//! Source: YAML 1.2 core schema; observed on docker compose 2.40.3, which also reads `0777` as octal and leaves
//! `yes` and `on` strings. A date stays a string here (there it becomes a time and then fails).

/// A plain scalar's meaning.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A whole number beyond 63 bits: its digits are kept.
    Big,
    Text,
}

pub(crate) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Plain::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) || text.len() > 64 {
        return Plain::Text;
    }
    let plain = text.replace('_', "");
    match integer(&plain) {
        Some(number) if number <= i64::MAX.into() => {
            return i64::try_from(number).map_or(Plain::Text, Plain::Int);
        }
        Some(_) => return Plain::Big,
        None => {}
    }
    if is_float(&plain)
        && let Ok(number) = plain.parse::<f64>()
    {
        return Plain::Float(number);
    }
    Plain::Text
}

fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    let number = if negative { -number } else { number };
    (i64::MIN.into()..=u64::MAX.into()).contains(&number).then_some(number)
}

fn is_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let whole = match number.split_once('.') {
        Some(("", behind)) => !behind.is_empty() && digits(behind),
        Some((front, behind)) => digits(front) && digits(behind),
        None => !number.is_empty() && digits(number),
    };
    whole
        && exponent.is_none_or(|e| {
            let e = e.strip_prefix(['-', '+']).unwrap_or(e);
            !e.is_empty() && digits(e)
        })
}

/// Whether a string has to be quoted lest it be read as something else.
pub(crate) fn is_ambiguous(text: &str) -> bool {
    const OLD: &[&str] = &[
        "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off",
        "OFF", "<<",
    ];
    resolve(text) != Plain::Text || OLD.contains(&text) || is_sexagesimal(text) || is_date(text)
}

/// `12:30:45`, which YAML 1.1 read as a number.
fn is_sexagesimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !first.starts_with(|c: char| c.is_ascii_digit()) || !digits(first) {
        return false;
    }
    let rest: Vec<&str> = parts.collect();
    let Some((last, front)) = rest.split_last() else { return false };
    let minute = |s: &str| match s.as_bytes() {
        [d] => d.is_ascii_digit(),
        [t, d] => (b'0'..=b'5').contains(t) && d.is_ascii_digit(),
        _ => false,
    };
    let (last, fraction) = last.split_once('.').unwrap_or((last, ""));
    front.iter().all(|p| minute(p)) && minute(last) && digits(fraction)
}

/// `2001-12-14`, perhaps with a time behind.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let number = |s: &str, most: u32| {
        s.len() <= 2
            && s.bytes().all(|b| b.is_ascii_digit())
            && s.parse().is_ok_and(|n: u32| (1..=most).contains(&n))
    };
    if year.len() != 4 || !year.bytes().all(|b| b.is_ascii_digit()) || !number(month, 12) {
        return false;
    }
    let end = rest.find(['T', 't', ' ']).unwrap_or(rest.len());
    let (day, time) = rest.split_at(end);
    if !number(day, 31) {
        return false;
    }
    let Some(time) = time.get(1..) else { return true };
    let zoned = time.ends_with('Z') || time.rfind(['+', '-']).is_some_and(|at| at > 0);
    let spaced = rest.as_bytes()[end] == b' ';
    let clock = time.trim_end_matches('Z');
    let clock = clock.split(['+', '-']).next().unwrap_or_default();
    spaced != zoned
        && clock.split(':').count() == 3
        && clock.bytes().all(|b| b.is_ascii_digit() || b":.".contains(&b))
}

/// A number as Go's `%v` prints it.
pub(crate) fn go_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    exponent_from(&format!("{number:e}"), number.to_string(), -4, 21)
}

/// A single-precision number as Go's JSON prints it.
pub(crate) fn json_float(number: f32) -> String {
    exponent_from(&format!("{number:e}"), number.to_string(), -6, 21)
}

/// A single-precision number as Go's YAML prints it.
pub(crate) fn yaml_float(number: f32) -> String {
    exponent_from(&format!("{number:e}"), number.to_string(), -4, 21)
}

fn exponent_from(scientific: &str, plain: String, least: i32, most: i32) -> String {
    let Some((digits, exponent)) = scientific.split_once('e') else { return plain };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (least..most).contains(&exponent) || digits == "0" || digits == "-0" {
        return plain;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_are_read_as_compose_reads_them() {
        for (text, want) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("0777", Plain::Int(0o777)),
            ("0o17", Plain::Int(15)),
            ("0x1F", Plain::Int(31)),
            ("-12", Plain::Int(-12)),
            ("1_000", Plain::Int(1000)),
            ("08", Plain::Float(8.0)),
            ("1.5", Plain::Float(1.5)),
            ("1.", Plain::Float(1.0)),
            ("1e3", Plain::Float(1000.0)),
            ("1.2.3", Plain::Text),
            ("22:22", Plain::Text),
            ("-", Plain::Text),
            ("2001-01-02", Plain::Text),
        ] {
            assert_eq!(resolve(text), want, "{text}");
        }
    }

    #[test]
    fn what_could_be_misread_is_quoted() {
        for text in ["yes", "on", "1", "", "null", "22:22", "2001-01-02", "0x1", "1e3"] {
            assert!(is_ambiguous(text), "{text}");
        }
        for text in ["a", "80:80/tcp", "127.0.0.1:80:80", "1.2.3", "60:100", "http://a:80"] {
            assert!(!is_ambiguous(text), "{text}");
        }
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        assert_eq!(go_float(0.5), "0.5");
        assert_eq!(go_float(1e21), "1e+21");
        assert_eq!(go_float(0.00001), "1e-05");
        assert_eq!(json_float(0.1), "0.1");
        assert_eq!(go_float(3.0), "3");
    }
}
