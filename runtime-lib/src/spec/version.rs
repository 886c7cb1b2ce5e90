//! `ociVersion`: which versions of the specification this one reads; and which commit this is.

/// The oldest version of the specification that is read whole.
pub const MIN: &str = "1.0.0";
/// The newest version of the specification that is read whole.
pub const MAX: &str = "1.3.0";
/// The minor version of [`MAX`].
const NEWEST_MINOR: u64 = 3;

/// The commit that this was built from, or "unknown": the Makefile says it, a build by cargo
/// alone or outside of a checkout knows none.
pub fn commit() -> &'static str {
    option_env!("CAPSID_COMMIT")
        .filter(|commit| !commit.is_empty())
        .unwrap_or("unknown")
}

/// What an `ociVersion` means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Between [`MIN`] and [`MAX`].
    Known,
    /// A later 1.x: settings that it added are not known.
    Newer,
    /// Another major version: the meaning of settings may differ.
    Foreign,
    /// Not a semantic version at all.
    Malformed,
}

/// Reads an `ociVersion` (SemVer 2.0.0, as runtime-spec's config.md demands).
pub fn read(text: &str) -> Version {
    let (core, build) = text.split_once('+').unwrap_or((text, "0"));
    let (core, pre) = core.split_once('-').unwrap_or((core, "0"));
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let tagged = |tag: &str| {
        tag.split('.')
            .all(|part| !part.is_empty() && part.chars().all(word))
    };
    let numbers: Vec<u64> = core.split('.').map_while(number).collect();
    match numbers[..] {
        [_, _, _] if core.split('.').count() > 3 || !tagged(build) || !tagged(pre) => {
            Version::Malformed
        }
        [1, minor, _] if minor <= NEWEST_MINOR => Version::Known,
        [1, _, _] => Version::Newer,
        [_, _, _] => Version::Foreign,
        _ => Version::Malformed,
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| digits && !padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_1_x_is_read_and_nothing_else() {
        let cases = [
            (MIN, Version::Known),
            (MAX, Version::Known),
            ("1.0.2-dev", Version::Known),
            ("1.0.0-rc5-dev", Version::Known),
            ("1.1.0+dev", Version::Known),
            ("1.2.0-rc.1+abc.def", Version::Known),
            ("1.4.0", Version::Newer),
            ("1.10.0", Version::Newer),
            ("2.0.0", Version::Foreign),
            ("0.5.0-dev", Version::Foreign),
            ("", Version::Malformed),
            ("1", Version::Malformed),
            ("1.0", Version::Malformed),
            ("1.0.0.0", Version::Malformed),
            ("01.0.0", Version::Malformed),
            ("+1.0.0", Version::Malformed),
            ("1.0.0-", Version::Malformed),
            ("1.0.0\n", Version::Malformed),
            ("99999999999999999999.0.0", Version::Malformed),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_newest_minor_is_that_of_the_newest_version() {
        assert!(MAX.starts_with(&format!("1.{NEWEST_MINOR}.")));
    }
}
