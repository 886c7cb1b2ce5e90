//! The device rules as v1's two files take them: a default, and a list of exceptions to it.
//! Writes nothing: device_files.rs does.

use std::collections::BTreeMap;
use std::fmt;

use super::devices::{DeviceRules, Kind, MKNOD, Pattern, READ, Rule, WRITE};
use crate::error::{Code, Error, Result};

/// The rules as devices.allow and devices.deny take them: one default, and exceptions to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceptions {
    /// Whether a device without an exception is allowed.
    pub allow: bool,
    list: BTreeMap<Pattern, (u8, Option<usize>)>,
}

impl DeviceRules {
    /// The v1 form.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the pointer of the rule: v1 has exceptions to its
    /// default, but none to an exception.
    pub fn exceptions(&self) -> Result<Exceptions> {
        let (allow, rules) = self.since_reset();
        let mut exceptions = Exceptions {
            allow,
            list: BTreeMap::new(),
        };
        rules.iter().try_for_each(|rule| exceptions.take(rule))?;
        Ok(exceptions)
    }
}

impl Exceptions {
    fn take(&mut self, rule: &Rule) -> Result<()> {
        if rule.allow != self.allow {
            let entry = self.list.entry(rule.pattern).or_insert((0, rule.origin));
            *entry = (entry.0 | rule.access, rule.origin.or(entry.1));
            return Ok(());
        }
        for (pattern, (access, origin)) in &mut self.list {
            if rule.pattern.covers(pattern) {
                *access &= !rule.access;
            } else if rule.pattern.meets(pattern) && *access & rule.access != 0 {
                let tail = format!(
                    "requested rule [{}] not supported by devices cgroupv1 (cannot punch hole in \
                     existing wildcard rule [{}])",
                    Line(&rule.pattern, rule.access),
                    Line(pattern, *access),
                );
                let error = Error::new(Code::InvalidConfig, tail);
                return Err(match rule.origin.or(*origin) {
                    Some(index) => error.at(format!("/linux/resources/devices/{index}")),
                    None => error.at("/linux/resources/devices"),
                });
            }
        }
        self.list.retain(|_, (access, _)| *access != 0);
        Ok(())
    }

    /// What is written to the file of the exceptions, one write a line.
    pub fn lines(&self) -> Vec<String> {
        let granted = self.granted();
        granted
            .iter()
            .map(|(pattern, access)| Line(pattern, *access).to_string())
            .collect()
    }

    /// The kernel wants one exception to grant reading and writing together; what wider ones
    /// grant of these is therefore said in the narrower ones again. (Making a node is always
    /// asked for alone.)
    pub fn granted(&self) -> Vec<(Pattern, u8)> {
        let widened = |(pattern, (access, _)): (&Pattern, &(u8, Option<usize>))| {
            let wider = |(wide, _): &(&Pattern, _)| !self.allow && wide.covers(pattern);
            let wider = self
                .list
                .iter()
                .filter(wider)
                .map(|(_, (more, _))| more & !MKNOD);
            (*pattern, wider.fold(*access, |all, more| all | more))
        };
        self.list.iter().map(widened).collect()
    }
}

/// A rule in the kernel's notation.
struct Line<'a>(&'a Pattern, u8);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(pattern, access) = self;
        let kind = match pattern.kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(
            f,
            "{kind} {}:{} ",
            number(pattern.major),
            number(pattern.minor)
        )?;
        [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .into_iter()
            .filter(|(bit, _)| access & bit != 0)
            .try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

impl Exceptions {
    /// The file that takes the default, and the one that takes the exceptions.
    pub fn files(&self) -> [&'static str; 2] {
        match self.allow {
            true => ["devices.allow", "devices.deny"],
            false => ["devices.deny", "devices.allow"],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::devices::ALL;
    use super::super::devices::tests::{allowed, read, rules};
    use super::*;

    /// What the kernel's devices controller makes of a default and its exceptions
    /// (security/device_cgroup.c: one exception has to grant all, any may take away some).
    fn allowed_by_v1(exceptions: &Exceptions, device: Pattern, access: u8) -> bool {
        let list = exceptions.granted();
        match exceptions.allow {
            false => list
                .iter()
                .any(|(p, a)| p.covers(&device) && access & !a == 0),
            true => !list
                .iter()
                .any(|(p, a)| p.covers(&device) && access & a != 0),
        }
    }

    proptest! {
        #[test]
        fn v1_exceptions_mean_what_the_list_means_or_are_refused(
            rules in rules(),
            char: bool,
            major in 0_u32..4,
            minor in 0_u32..4,
            access in 1..=ALL,
        ) {
            let kind = if char { Kind::Char } else { Kind::Block };
            if let Ok(exceptions) = rules.exceptions() {
                let device = Pattern { major: Some(major), minor: Some(minor), kind };
                let meant = allowed(&rules, kind, major, minor, access);
                let got = allowed_by_v1(&exceptions, device, access);
                // Two crossing wildcards (c 1:* and c *:3) may each grant a part: v1 then
                // denies what asks for both parts at once.
                prop_assert!(got == meant || (meant && access.count_ones() > 1), "{got} {meant}");
            }
        }
    }

    #[test]
    fn without_rules_only_the_standard_devices_are_allowed() {
        let exceptions = DeviceRules::read(None, &[]).unwrap().exceptions().unwrap();
        assert_eq!(exceptions.files(), ["devices.deny", "devices.allow"]);
        assert_eq!(
            exceptions.lines(),
            [
                "b *:* m",
                "c *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:2 rwm",
                "c 10:200 rwm",
                "c 136:* rwm",
            ]
        );
    }

    #[test]
    fn a_privileged_container_has_no_exceptions() {
        let rules = read(json!([{"allow": true, "access": "rwm"}])).unwrap();
        let exceptions = rules.exceptions().unwrap();
        assert_eq!(exceptions.files(), ["devices.allow", "devices.deny"]);
        assert_eq!(exceptions.lines(), Vec::<String>::new());
    }

    #[test]
    fn a_wide_denial_takes_back_narrow_permissions() {
        let rules = read(json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "rwm"},
            {"allow": false, "type": "b", "access": "w"},
        ]));
        let lines = rules.unwrap().exceptions().unwrap().lines();
        assert!(lines.contains(&"b 8:0 rm".to_owned()), "{lines:?}");
    }

    #[test]
    fn v1_refuses_a_hole_in_a_wildcard_and_names_the_rule() {
        let rules = read(json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        ]));
        let error = rules.unwrap().exceptions().unwrap_err();
        assert_eq!(error.pointer(), Some("/linux/resources/devices/2"));
        assert!(
            error
                .tail()
                .contains("[c 1:3 rw] not supported by devices cgroupv1"),
            "{error}"
        );
    }
}
