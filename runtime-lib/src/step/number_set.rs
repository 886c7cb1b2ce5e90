//! CPUs or memory nodes by number, as the kernel takes them: bit n of word n/64.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest number that is taken: no kernel can be built for as many CPUs (NR_CPUS).
const MAX: usize = 65_535;

const BITS: usize = u64::BITS as usize;

/// A set of numbers from 0 to 65535.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberSet(Vec<u64>);

impl NumberSet {
    /// From a list as cpuset(7) has it: numbers and ranges between commas, `0-3,7`, without
    /// white space. The error says what is wrong with it, as a clause.
    pub fn parse(list: &str) -> Result<NumberSet, String> {
        let mut words = Vec::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("{range} ends before it begins"));
            }
            if words.len() <= last / BITS {
                words.resize(last / BITS + 1, 0);
            }
            for n in first..=last {
                words[n / BITS] |= 1 << (n % BITS);
            }
        }
        Ok(NumberSet(words))
    }

    /// The words of the mask.
    pub fn mask(&self) -> &[u64] {
        &self.0
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn has(&self, n: usize) -> bool {
        self.0
            .get(n / BITS)
            .is_some_and(|word| word & (1 << (n % BITS)) != 0)
    }
}

fn number(text: &str) -> Result<usize, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && number <= MAX => Ok(number),
        _ if digits => Err(format!("{} is above {MAX}", crate::spec::shorten(text))),
        _ => Err(format!("{:?} is not a number", crate::spec::shorten(text))),
    }
}

impl fmt::Display for NumberSet {
    /// "0-3,7"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut n = 0;
        let mut comma = "";
        while n < self.0.len() * BITS {
            let first = n;
            while self.has(n) {
                n += 1;
            }
            match n - first {
                0 => {}
                1 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{}", n - 1)?,
            }
            if n > first {
                comma = ",";
            }
            n += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_numbers_and_ranges() {
        let set = NumberSet::parse("7,0-3,64").unwrap();
        assert_eq!(set.mask(), [0b1000_1111, 1]);
        assert_eq!(set.to_string(), "0-3,7,64");
        assert_eq!(set.count(), 6);
        assert_eq!(NumberSet::parse("65535").unwrap().mask().len(), 1024);
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_reason() {
        for (list, why) in [
            ("", "\"\" is not a number"),
            ("0,", "\"\" is not a number"),
            ("-1", "\"\" is not a number"),
            ("1-", "\"\" is not a number"),
            ("0-3-5", "\"3-5\" is not a number"),
            ("+1", "\"+1\" is not a number"),
            (" 1", "\" 1\" is not a number"),
            ("a", "\"a\" is not a number"),
            ("3-1", "3-1 ends before it begins"),
            ("65536", "65536 is above 65535"),
            (
                "99999999999999999999999",
                "99999999999999999999999 is above 65535",
            ),
        ] {
            assert_eq!(NumberSet::parse(list).unwrap_err(), why, "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn a_set_is_the_numbers_that_were_listed(
            mut numbers in proptest::collection::btree_set(0_usize..300, 1..40)
        ) {
            let list: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let set = NumberSet::parse(&list.join(",")).unwrap();
            for n in 0..400 {
                prop_assert_eq!(set.has(n), numbers.remove(&n), "{}", n);
            }
            prop_assert_eq!(NumberSet::parse(&set.to_string()).unwrap(), set);
        }

        #[test]
        fn no_text_makes_it_panic(list in "[0-9,-]{0,20}|.{0,40}") {
            let _ = NumberSet::parse(&list);
        }
    }
}
