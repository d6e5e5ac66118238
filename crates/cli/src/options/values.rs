//! Single values, with the errors of Go's parsers where users see them.

use crate::{
    client::Filters,
    error::{Fail, Result},
};
use api::model::{DeviceMapping, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use std::collections::BTreeMap;

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Go's `strconv.ParseInt` with base 0.
pub(crate) fn int(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = uint(digits, i64::MAX as u64)?;
    Ok(sign * i64::try_from(value).map_err(|_| "value out of range")?)
}

/// Go's `strconv.ParseUint` with base 0, at most `most`.
pub(crate) fn uint(text: &str, most: u64) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_str() {
        t if t.starts_with("0x") => (&t[2..], 16),
        t if t.starts_with("0o") => (&t[2..], 8),
        t if t.starts_with("0b") => (&t[2..], 2),
        t if t.len() > 1 && t.starts_with('0') => (&t[1..], 8),
        t => (t, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err("invalid syntax");
    }
    u64::from_str_radix(digits, base).ok().filter(|n| *n <= most).ok_or("value out of range")
}

/// `1.5` processors in billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text:?} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(bad());
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let part: i64 = format!("{fraction:0<9.9}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(part)).ok_or_else(bad)
}

/// `--filter name=value` options.
pub(crate) fn filters(list: &[String]) -> Result<Filters> {
    let mut filters = Filters::new();
    for text in list.iter().filter(|t| !t.is_empty()) {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Fail::new("bad format of filter (expected name=value)"));
        };
        let name = name.trim().to_lowercase();
        filters.entry(name).or_default().insert(value.trim().to_owned(), true);
    }
    Ok(filters)
}

/// `key=value` options; a key alone has an empty value.
pub(crate) fn map(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// The same, `None` when there are none.
pub(crate) fn some_map(list: &[String]) -> Option<BTreeMap<String, String>> {
    Some(map(list)).filter(|m| !m.is_empty())
}

/// `on-failure:3`.
pub(crate) fn restart_policy(text: &str) -> Result<RestartPolicy> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() && !count.is_empty() {
        return Err(Fail::new("invalid restart policy format: no policy provided before colon"));
    }
    let maximum_retry_count = if count.is_empty() {
        0
    } else {
        let bad =
            || Fail::new("invalid restart policy format: maximum retry count must be an integer");
        count.parse().map_err(|_| bad())?
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// `nofile=1024:2048`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let fail = |why: String| {
        Fail::new(format!("invalid argument {text:?} for \"--ulimit\" flag: {why}")).with_code(125)
    };
    let (name, limits) =
        text.split_once('=').ok_or_else(|| fail(format!("invalid ulimit argument: {text}")))?;
    if !NAMES.contains(&name) {
        return Err(fail(format!("invalid ulimit type: {name}")));
    }
    let number = |t: &str| {
        t.parse::<i64>()
            .map_err(|_| fail(format!("strconv.ParseInt: parsing {t:?}: invalid syntax")))
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard >= 0 && (soft < 0 || soft > hard) {
        return Err(fail(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

/// `/dev/a[:/dev/b][:rwm]`.
pub(crate) fn device(text: &str) -> Result<DeviceMapping> {
    let is_mode = |t: &str| !t.is_empty() && t.chars().all(|c| "rwm".contains(c)) && t.len() <= 3;
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, mode) = match parts.as_slice() {
        [from] => (*from, *from, "rwm"),
        [from, mode] if is_mode(mode) => (*from, *from, *mode),
        [from, to] => (*from, *to, "rwm"),
        [from, to, mode] => (*from, *to, *mode),
        _ => return Err(Fail::new(format!("invalid device specification: {text}"))),
    };
    if from.is_empty() || !is_mode(mode) {
        let what = if from.is_empty() { text } else { mode };
        return Err(Fail::new(format!("bad mode specified: {what}")));
    }
    Ok(DeviceMapping {
        path_on_host: from.to_owned(),
        path_in_container: if to.is_empty() { from } else { to }.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// `/dev/a:1mb` or, for operations, `/dev/a:100`.
pub(crate) fn throttle(text: &str, bytes: Rate) -> Result<ThrottleDevice> {
    let bad = |what: &str| Fail::new(format!("{what}: {text}"));
    let (path, rate) = text.split_once(':').ok_or_else(|| bad("bad format"))?;
    if !path.starts_with("/dev/") {
        return Err(bad("bad format for device path"));
    }
    let rate = match bytes {
        Rate::Bytes => base::units::parse_bytes(rate).ok().and_then(|n| u64::try_from(n).ok()),
        Rate::Operations => rate.parse().ok(),
    };
    let rate = rate.ok_or_else(|| bad("invalid rate for device"))?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// What a throttle counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    Bytes,
    Operations,
}

/// `/dev/a:500`.
pub(crate) fn weight(text: &str) -> Result<WeightDevice> {
    let bad = |what: &str| Fail::new(format!("{what}: {text}"));
    let (path, weight) = text.split_once(':').ok_or_else(|| bad("bad format"))?;
    if !path.starts_with("/dev/") {
        return Err(bad("bad format for device path"));
    }
    let weight = weight.parse().map_err(|_| bad("invalid weight for device"))?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(bad("invalid weight for device"));
    }
    Ok(WeightDevice { path: path.to_owned(), weight })
}

/// Comma-separated `key=value` fields, where a field may be quoted as in CSV.
pub(crate) fn csv(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            '"' => {
                return Err(Fail::new(format!(
                    "parse error on {text:?}: bare \" in non-quoted field"
                )));
            }
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(Fail::new(format!(
            "parse error on {text:?}: extraneous or missing \" in quoted-field"
        )));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        assert_eq!(nano_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(nano_cpus(".25"), Ok(250_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        for bad in ["", ".", "x", "1.0000000001", "-1", "99999999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
        assert_eq!((int("-0x10"), int("010"), int("5")), (Ok(-16), Ok(8), Ok(5)));
        assert!(int("").is_err() && int("--1").is_err() && uint("70000", 65535).is_err());
    }

    #[test]
    fn compound_values_are_read() {
        let limit = ulimit("nofile=10:20").unwrap();
        assert_eq!((limit.soft, limit.hard), (10, 20));
        for bad in ["nofile", "x=1", "nofile=3:2", "nofile=a"] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
        assert_eq!(restart_policy("on-failure:3").unwrap().maximum_retry_count, 3);
        assert!(restart_policy("on-failure:x").is_err() && restart_policy(":3").is_err());
        let mapped = device("/dev/a:/dev/b:r").unwrap();
        assert_eq!(
            (mapped.path_in_container.as_str(), mapped.cgroup_permissions.as_str()),
            ("/dev/b", "r")
        );
        assert_eq!(device("/dev/a:rw").unwrap().path_in_container, "/dev/a");
        assert!(device("/dev/a:/dev/b:x").is_err());
        assert_eq!(throttle("/dev/a:1mb", Rate::Bytes).unwrap().rate, 1 << 20);
        assert!(throttle("/dev/a:1mb", Rate::Operations).is_err());
        assert_eq!(csv(r#"a=1,"b=x,y",c"#).unwrap(), ["a=1", "b=x,y", "c"]);
        assert!(csv("\"a").is_err());
        assert!(filters(&["x".into()]).is_err());
    }
}
