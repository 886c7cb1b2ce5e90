//! Sizes as people write them on a command line, and in config.json, which takes none: a number
//! with a unit of 1024 or a power of it, in docker's spelling of 512m, 1.5GiB or 64 kb.

use std::str::FromStr;

/// Bytes; -1 stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub i64);

/// Each is 1024 times the one before.
const UNITS: &str = "kmgtp";

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Size, &'static str> {
        const WRONG: &str = "a size is a number of bytes, or one with k, m, g, t or p; or -1";
        const TOO_LARGE: &str = "the largest size is 9223372036854775807 bytes, just below 8192p";
        if text == "-1" {
            return Ok(Size(-1));
        }
        let end = text
            .rfind(|c: char| c.is_ascii_digit() || c == '.')
            .ok_or(WRONG)?
            + 1;
        let (number, unit) = text.split_at(end);
        let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
        let factor = match unit.as_str() {
            "" | "b" => 1,
            unit => {
                let (letter, rest) = unit.split_at_checked(1).ok_or(WRONG)?;
                let power = UNITS.find(letter).ok_or(WRONG)?;
                if !["", "b", "ib"].contains(&rest) {
                    return Err(WRONG);
                }
                1_i64 << (10 * (power + 1))
            }
        };
        if let Ok(whole) = number.parse::<i64>() {
            return match whole.checked_mul(factor) {
                _ if whole < 0 => Err(WRONG),
                bytes => bytes.map(Size).ok_or(TOO_LARGE),
            };
        }
        let bytes = number.parse::<f64>().map_err(|_| WRONG)? * factor as f64;
        match (0.0..i64::MAX as f64).contains(&bytes) {
            true => Ok(Size(bytes as i64)),
            false if bytes > 0.0 => Err(TOO_LARGE),
            false => Err(WRONG),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32Kib", 32 << 10),
            ("32 KiB", 32 << 10),
            ("32Mb", 32 << 20),
            ("32Gb", 32 << 30),
            ("32Tb", 32 << 40),
            ("8p", 8 << 50),
            ("32.5kB", 33280),
            ("1.5G", 3 << 29),
            (".3kB", 307),
            ("32.", 32),
            ("-1", -1),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "hello", "-32", "-2", ".", " ", "32m b", "32  kb", "k", "32mm", "32kbb", "32kib b",
            "9999999p", "nan1", "1kk", "32é", "0x10",
        ] {
            let read = text.parse::<Size>();
            assert!(read.is_err(), "{text:?}: {read:?}");
        }
    }

    #[test]
    fn what_is_too_large_is_told_the_largest() {
        for text in [
            "8192p",
            "99999999999999999999",
            "9223372036854775808",
            "8388608.5t",
        ] {
            let problem = text.parse::<Size>().unwrap_err();
            assert!(problem.contains("9223372036854775807"), "{text}: {problem}");
        }
        let largest = "9223372036854775807".parse();
        assert_eq!(largest, Ok(Size(i64::MAX)));
    }

    #[test]
    fn bytes_are_exact_beyond_what_a_fraction_can_say() {
        assert_eq!("9007199254740993".parse(), Ok(Size(9007199254740993)));
    }
}
