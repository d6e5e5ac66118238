//! Points in time as Docker writes them: UTC, RFC 3339 with up to nine decimals (Go's `RFC3339Nano`).

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Nanoseconds since 1970-01-01T00:00:00Z, years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i128);

const NANOS: i128 = 1_000_000_000;

impl Timestamp {
    /// Go's zero time, `0001-01-01T00:00:00Z`: what Docker shows for "never".
    pub const ZERO: Self = Self(-62_135_596_800 * NANOS);

    /// The wall clock now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_nanos() as i128)
    }

    /// From seconds and nanoseconds since the epoch.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self(i128::from(seconds) * NANOS + i128::from(nanos))
    }

    /// From nanoseconds since the epoch.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn unix(self) -> i64 {
        self.0.div_euclid(NANOS) as i64
    }

    /// Nanoseconds since the epoch, clamped to what 64 bits hold.
    pub fn unix_nanos(self) -> i64 {
        self.0.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    /// Nanoseconds within the second.
    pub fn subsec_nanos(self) -> u32 {
        self.0.rem_euclid(NANOS) as u32
    }

    /// Whether this is Go's zero time.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Time from `earlier` to `self`, zero when negative.
    pub fn since(self, earlier: Self) -> Duration {
        let nanos = (self.0 - earlier.0).max(0);
        Duration::new((nanos / NANOS) as u64, (nanos % NANOS) as u32)
    }

    /// `self` plus `d`.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0 + d.as_nanos() as i128)
    }

    /// `self` minus `d`.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0 - d.as_nanos() as i128)
    }

    /// Always nine decimals, as log timestamps are written.
    pub fn fixed_nano(self) -> String {
        let (y, mo, d, h, mi, s) = self.civil();
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{:09}Z", self.subsec_nanos())
    }

    fn civil(self) -> (i64, u32, u32, u32, u32, u32) {
        let seconds = self.unix();
        let days = seconds.div_euclid(86_400);
        let rest = seconds.rem_euclid(86_400) as u32;
        // Days to civil date, after Howard Hinnant's public-domain algorithm.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
        let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u32;
        let year = yoe + era * 400 + i64::from(month <= 2);
        (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
    }

    /// Parses a client's `since`/`until`: unix seconds with an optional fraction, RFC 3339 (with or
    /// without zone or time, taken as UTC), or a Go duration before `now`.
    ///
    /// # Errors
    /// `Invalid` when it is none of them.
    pub fn parse_relative(text: &str, now: Self) -> Result<Self> {
        if let Some(at) = parse_unix(text) {
            return Ok(at);
        }
        if let Ok(before) = crate::units::parse_go_duration(text) {
            return Ok(now.minus(before));
        }
        text.parse().or_else(|_| {
            parse_local(text).ok_or_else(|| {
                Error::invalid(format!("failed to parse value as time or duration: {text:?}"))
            })
        })
    }
}

fn parse_unix(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, digits) = whole.strip_prefix('-').map_or((false, whole), |w| (true, w));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let seconds: i128 = digits.parse::<i64>().ok()?.into();
    let nanos: i128 = format!("{fraction:0<9}").parse().ok()?;
    let value = seconds * NANOS + nanos;
    Some(Timestamp(if negative { -value } else { value }))
}

fn parse_local(text: &str) -> Option<Timestamp> {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        13 => format!("{text}:00:00Z"),
        16 => format!("{text}:00Z"),
        _ if text.ends_with('Z') => format!("{}:00:00Z", text.strip_suffix('Z')?),
        _ => format!("{text}Z"),
    };
    full.parse().ok()
}

fn days_from_civil(y: i64, m: u32, d: u32) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from(if m > 2 { m - 3 } else { m + 9 });
    let doy = (153 * mp + 2) / 5 + i64::from(d) - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_rfc3339(text)
            .ok_or_else(|| Error::invalid(format!("invalid time {text:?}: want RFC 3339")))
    }
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    if !text.is_ascii() || b.len() < 20 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u32> {
        b[from..to].iter().all(u8::is_ascii_digit).then(|| text[from..to].parse().ok()).flatten()
    };
    if b[4] != b'-'
        || b[7] != b'-'
        || !matches!(b[10], b'T' | b't' | b' ')
        || b[13] != b':'
        || b[16] != b':'
    {
        return None;
    }
    let (y, mo, d) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (h, mi, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&mo) || !(1..=31).contains(&d) || h > 23 || mi > 59 || s > 60 {
        return None;
    }
    let mut at = 19;
    let mut nanos: i128 = 0;
    if b[at] == b'.' {
        let end = at + 1 + b[at + 1..].iter().take_while(|c| c.is_ascii_digit()).count();
        let digits = &text[at + 1..end.min(at + 10)];
        if digits.is_empty() {
            return None;
        }
        nanos = format!("{digits:0<9}").parse().ok()?;
        at = end;
    }
    let offset: i64 = match &b[at..] {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes =
                i64::from(number(at + 1, at + 3)?) * 60 + i64::from(number(at + 4, at + 6)?);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let days = days_from_civil(i64::from(y), mo, d);
    let seconds = days * 86_400 + i64::from(h * 3600 + mi * 60 + s) - offset * 60;
    Some(Timestamp(i128::from(seconds) * NANOS + nanos))
}

impl fmt::Display for Timestamp {
    /// Go's `RFC3339Nano`: trailing zeros of the fraction are dropped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fixed = self.fixed_nano();
        let trimmed = fixed.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
        write!(f, "{trimmed}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text.is_empty() {
            return Ok(Self::ZERO);
        }
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_go_rfc3339nano() {
        assert_eq!(Timestamp::ZERO.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_unix(0, 0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_unix(1_700_000_000, 120_000_000).to_string(),
            "2023-11-14T22:13:20.12Z"
        );
        assert_eq!(
            Timestamp::from_unix(1_700_000_000, 1).fixed_nano(),
            "2023-11-14T22:13:20.000000001Z"
        );
    }

    #[test]
    fn parsing_takes_what_clients_send() {
        let now = Timestamp::from_unix(1_700_000_000, 0);
        let cases = [
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("10m", "2023-11-14T22:03:20Z"),
            ("2023-11-14", "2023-11-14T00:00:00Z"),
            ("2023-11-14T22:13", "2023-11-14T22:13:00Z"),
            ("2023-11-14T22:13:20+02:00", "2023-11-14T20:13:20Z"),
        ];
        for (text, want) in cases {
            assert_eq!(Timestamp::parse_relative(text, now).unwrap().to_string(), want, "{text}");
        }
        for bad in ["x", "2023-13-01", "2023-11-14T25:00:00Z", "-"] {
            assert!(Timestamp::parse_relative(bad, now).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn display_and_parse_agree(nanos in -62_135_596_800_000_000_000_i128..253_402_300_799_000_000_000) {
            let at = Timestamp::from_unix_nanos(nanos);
            proptest::prop_assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        }
    }
}
