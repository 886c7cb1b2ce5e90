//! Spans of time as Go's time.ParseDuration reads them: 5s, 1m30s, 1.5h, 500ms.

use std::str::FromStr;
use std::time::Duration;

/// A span that is longer than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

/// Units in nanoseconds; of two that begin alike, the longer one first.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Interval, String> {
        let wrong =
            || format!("time: invalid duration {text:?}; a number and a unit: 5s, 1m30s, 500ms");
        let positive = text.strip_prefix('+').unwrap_or(text);
        let (rest, negative) = match positive.strip_prefix('-') {
            Some(rest) if rest.len() == text.len() - 1 => (rest, true),
            _ => (positive, false),
        };
        let nanos = match rest {
            "0" => 0,
            rest => nanoseconds(rest).ok_or_else(wrong)?,
        };
        match nanos {
            0 => Err("duration interval must be greater than 0".to_owned()),
            _ if negative => Err("duration interval must be greater than 0".to_owned()),
            nanos => Ok(Interval(Duration::from_nanos(nanos))),
        }
    }
}

/// The sum of numbers with units; at most what Go's duration holds.
fn nanoseconds(mut text: &str) -> Option<u64> {
    let mut sum = 0_u64;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(end);
        let (unit, length) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole = match whole {
            "" => 0,
            whole => whole.parse::<u64>().ok()?.checked_mul(*length)?,
        };
        sum = sum
            .checked_add(whole)?
            .checked_add(part(fraction, *length))?;
        text = rest.strip_prefix(unit)?;
    }
    i64::try_from(sum).is_ok().then_some(sum)
}

/// The digits after the point, of a unit. What is below a nanosecond is nothing.
fn part(digits: &str, unit: u64) -> u64 {
    let mut rest = u128::from(unit) * 10_u128.pow(20);
    let mut sum = 0;
    for digit in digits.bytes().take(20) {
        rest /= 10;
        sum += rest * u128::from(digit - b'0');
    }
    u64::try_from(sum / 10_u128.pow(20)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("5s", 5_000_000_000_u64),
            ("+5s", 5_000_000_000),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("5.6s", 5_600_000_000),
            ("5.s", 5_000_000_000),
            (".5s", 500_000_000),
            ("1.004s", 1_004_000_000),
            ("3h30m", 12_600_000_000_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            let read = text.parse::<Interval>().map(|span| span.0.as_nanos());
            assert_eq!(read, Ok(u128::from(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_or_none_at_all_is_refused() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "5 s",
            "1.2.3s",
            "3000000h",
            "9223372036854775808ns",
            "1s2",
            "+-1s",
            "-+1s",
            "--1s",
            "é",
        ] {
            let refused = text.parse::<Interval>().unwrap_err();
            assert!(
                refused.starts_with("time: invalid duration"),
                "{text}: {refused}"
            );
        }
        for text in ["0", "0s", "-5s", "0.0000000001ns"] {
            let refused = text.parse::<Interval>().unwrap_err();
            assert_eq!(
                refused, "duration interval must be greater than 0",
                "{text}"
            );
        }
    }
}
