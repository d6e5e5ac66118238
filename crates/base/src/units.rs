//! Sizes and durations in Docker's fixed wording (behaviour of Go's `docker/go-units` and `time`).

use crate::error::{Error, Result};
use std::time::Duration;

/// `1.24GB`: base 1000, four significant digits, as `docker images` prints.
pub fn human_size(bytes: f64) -> String {
    human_size_with(bytes, 4)
}

/// As [`human_size`] with `precision` significant digits (`docker ps -s` uses 3).
pub fn human_size_with(bytes: f64, precision: usize) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], precision)
}

/// `1.24GiB`: base 1024.
pub fn bytes_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

fn scaled(mut size: f64, base: f64, units: &[&str], precision: usize) -> String {
    let mut at = 0;
    while size >= base && at < units.len() - 1 {
        size /= base;
        at += 1;
    }
    format!("{}{}", general(size, precision), units[at])
}

/// Go's `%.{precision}g` for non-negative numbers below 1e21 that need no exponent.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor() as i32;
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// "About an hour", "3 days": as `docker ps` prints ages.
pub fn human_duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let minutes = seconds / 60;
    let hours = (d.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Parses `64m`, `1.5g`, `1024`, `1GiB`, base 1024 (Go-units `RAMInBytes`).
///
/// # Errors
/// `Invalid` with docker's wording.
pub fn parse_bytes(text: &str) -> Result<i64> {
    let bad = || Error::invalid(format!("invalid size: '{text}'"));
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let suffix = suffix.trim_start().to_ascii_lowercase();
    let letter = suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix);
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(bad()),
    };
    let value = number * 1024_f64.powi(power);
    if !value.is_finite() || value > i64::MAX as f64 {
        return Err(bad());
    }
    Ok(value as i64)
}

/// Parses Go's `time.ParseDuration` text: `1h30m`, `500ms`, `1.5s`, `0`.
///
/// # Errors
/// `Invalid` for anything else, negative durations included.
pub fn parse_go_duration(text: &str) -> Result<Duration> {
    let bad = || Error::invalid(format!("time: invalid duration {text:?}"));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(bad());
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0_f64;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(bad)?;
        let number: f64 = rest[..split].parse().map_err(|_| bad())?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += number
            * match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return Err(bad()),
            };
        rest = &rest[end..];
    }
    if nanos > i64::MAX as f64 {
        return Err(bad());
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Go's `Duration.String()`: `1m30s`, `1.5s`, `250ms`, `0s`.
pub fn go_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    let trim = |value: f64| {
        let text = format!("{value:.9}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match nanos {
        0 => "0s".into(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => format!("{}µs", trim(n as f64 / 1e3)),
        n if n < 1_000_000_000 => format!("{}ms", trim(n as f64 / 1e6)),
        _ => {
            let (hours, minutes) = (d.as_secs() / 3600, d.as_secs() / 60 % 60);
            let seconds = (d.as_secs() % 60) as f64 + f64::from(d.subsec_nanos()) / 1e9;
            match (hours, minutes) {
                (0, 0) => format!("{}s", trim(seconds)),
                (0, m) => format!("{m}m{}s", trim(seconds)),
                (h, m) => format!("{h}h{m}m{}s", trim(seconds)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_docker_prints_them() {
        for (bytes, want) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1234.0, "1.234kB"),
            (1_240_000_000.0, "1.24GB"),
            (117_000_000.0, "117MB"),
        ] {
            assert_eq!(human_size(bytes), want);
        }
        assert_eq!(bytes_size(1_073_741_824.0), "1GiB");
    }

    #[test]
    fn sizes_parse_in_base_1024() {
        for (text, want) in
            [("64m", 67_108_864), ("1.5k", 1536), ("10", 10), ("1GiB", 1 << 30), ("2 kb", 2048)]
        {
            assert_eq!(parse_bytes(text).unwrap(), want, "{text}");
        }
        for bad in ["", "x", "-1", "1z", "1mm"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_follow_go() {
        assert_eq!(parse_go_duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(parse_go_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert!(parse_go_duration("5").is_err());
        assert_eq!(go_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(go_duration(Duration::from_secs(3600)), "1h0m0s");
        assert_eq!(human_duration(Duration::from_secs(3600)), "About an hour");
    }
}
