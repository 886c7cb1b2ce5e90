//! The device rules of linux.resources: an ordered list in which, for each kind of access,
//! the last matching rule decides, and everything is denied to begin with.
//!
//! Here are the meaning of the list, and its form for v1's two files. The form for v2 is a
//! program: device_program.rs. Writes nothing.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::plan::Group;
use crate::error::{Code, Error, Result};
use crate::step::Target;

/// What may be done with a device node, as bits: the kernel's numbers (linux/bpf.h).
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// The nodes that every container has: name in /dev, major and minor number; all of them
/// characters.
pub const DEFAULT: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// What every container may do besides, appended to its own rules: making nodes (which opens
/// nothing), terminals, and tun.
const ALWAYS: &[(Kind, Option<u32>, Option<u32>, u8)] = &[
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(5), Some(2), ALL),    // ptmx
    (Kind::Char, Some(136), None, ALL),     // pts
    (Kind::Char, Some(10), Some(200), ALL), // net/tun
];

/// Block or character device. A rule for `a` is two rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block,
    Char,
}

impl Kind {
    /// linux/bpf.h: BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR.
    pub const fn number(self) -> i32 {
        match self {
            Kind::Block => 1,
            Kind::Char => 2,
        }
    }
}

/// A set of device numbers. `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pattern {
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub kind: Kind,
}

/// One line of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub allow: bool,
    pub pattern: Pattern,
    pub access: u8,
    /// Its index in linux.resources.devices; `None` for one of ours.
    origin: Option<usize>,
}

/// The whole list, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRules(pub Vec<Rule>);

impl Pattern {
    fn covers(&self, other: &Pattern) -> bool {
        let wider = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        self.kind == other.kind && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    fn meets(&self, other: &Pattern) -> bool {
        let common = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind
            && common(self.major, other.major)
            && common(self.minor, other.minor)
    }
}

impl DeviceRules {
    /// The list of the config with ours behind it. A default device that is among `described`
    /// (linux.devices) gets no rule of ours: the config says how it may be opened, too.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the pointer of the rule: an empty or unknown access, a
    /// type that is not a, b or c, a number out of range.
    pub fn read(
        resources: Option<&LinuxResources>,
        described: &[LinuxDevice],
    ) -> Result<DeviceRules> {
        let asked = resources
            .and_then(|r| r.devices().as_deref())
            .unwrap_or(&[]);
        let mut rules = Vec::with_capacity(2 * asked.len() + DEFAULT.len() + ALWAYS.len());
        for (index, device) in asked.iter().enumerate() {
            let read = read_rule(index, device, &mut rules);
            read.map_err(|e| e.at(format!("/linux/resources/devices/{index}")))?;
        }
        let defaults = DEFAULT
            .iter()
            .filter(|(name, ..)| !describes(described, name));
        let defaults =
            defaults.map(|&(_, major, minor)| (Kind::Char, Some(major), Some(minor), ALL));
        let ours = defaults.chain(ALWAYS.iter().copied());
        rules.extend(ours.map(|(kind, major, minor, access)| Rule {
            allow: true,
            pattern: Pattern { major, minor, kind },
            access,
            origin: None,
        }));
        Ok(DeviceRules(rules))
    }
}

fn describes(devices: &[LinuxDevice], name: &str) -> bool {
    let place = |device: &LinuxDevice| Some(Target::new(device.path().to_str()?)?.path);
    let mut places = devices.iter().filter_map(place);
    places.any(|place| place.to_bytes().strip_prefix(b"dev/") == Some(name.as_bytes()))
}

fn read_rule(index: usize, device: &LinuxDeviceCgroup, rules: &mut Vec<Rule>) -> Result<()> {
    let refuse = |tail: String| Error::new(Code::InvalidConfig, tail);
    let kinds: &[Kind] = match device.typ() {
        None | Some(LinuxDeviceType::A) => &[Kind::Block, Kind::Char],
        Some(LinuxDeviceType::B) => &[Kind::Block],
        Some(LinuxDeviceType::C) => &[Kind::Char],
        Some(other) => {
            let kind = other.as_str();
            return Err(refuse(format!("invalid cgroup device type {kind:?}")));
        }
    };
    let text = device.access().as_deref().unwrap_or("");
    if text.is_empty() {
        return Err(refuse(format!(
            "device access at {index} field cannot be empty"
        )));
    }
    let mut access = 0;
    for letter in text.chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            _ => {
                return Err(refuse(format!("invalid device access {text:?}"))
                    .hint("access is made of r, w and m"));
            }
        };
    }
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        // The greatest is how the kernel itself writes "any".
        Some(n) => match u32::try_from(n) {
            Ok(number) if number != u32::MAX => Ok(Some(number)),
            _ => Err(refuse(format!("invalid {name} {n}"))),
        },
    };
    let (major, minor) = (
        number("major", device.major())?,
        number("minor", device.minor())?,
    );
    rules.extend(kinds.iter().map(|&kind| Rule {
        allow: device.allow(),
        pattern: Pattern { major, minor, kind },
        access,
        origin: Some(index),
    }));
    Ok(())
}

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

    /// What the last rule for everything left as the default, and the rules after it.
    pub fn since_reset(&self) -> (bool, &[Rule]) {
        let mut rules = self.0.as_slice();
        let mut found = (false, rules);
        while let [rule, rest @ ..] = rules {
            rules = rest;
            if let [other, rest @ ..] = rest
                && rule.is_everything_with(other)
            {
                found = (rule.allow, rest);
            }
        }
        found
    }
}

impl Rule {
    /// Whether this rule and the next are the two halves of an `a` rule for everything.
    fn is_everything_with(&self, next: &Rule) -> bool {
        let whole =
            |r: &Rule| r.access == ALL && r.pattern.major.is_none() && r.pattern.minor.is_none();
        whole(self)
            && whole(next)
            && self.allow == next.allow
            && self.pattern.kind != next.pattern.kind
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

/// The rules in the form that this host takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DevicePolicy {
    /// v1: devices.allow and devices.deny.
    Files(Exceptions),
    /// v2, and hybrid hosts without v1's devices controller: a program on the cgroup.
    Program(DeviceRules),
}

impl DevicePolicy {
    /// What is done to this directory, as `explain` prints it.
    pub fn describe(&self, group: &Group) -> Vec<String> {
        let dir = group.dir();
        match self {
            DevicePolicy::Files(exceptions) if group.has("devices") => {
                let [default, other] = exceptions.files();
                let write = |line, file| format!("write {line} to {}", dir.join(file).display());
                let lines = exceptions
                    .lines()
                    .into_iter()
                    .map(|line| write(line, other));
                std::iter::once(write("a".to_owned(), default))
                    .chain(lines)
                    .collect()
            }
            DevicePolicy::Program(rules) if group.is_unified() => {
                let count = rules.0.len();
                vec![format!(
                    "attach a program of {count} device rules to {}",
                    dir.display()
                )]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub fn read(devices: serde_json::Value) -> Result<DeviceRules> {
        let resources = serde_json::from_value(json!({ "devices": devices })).unwrap();
        DeviceRules::read(Some(&resources), &[])
    }

    /// The meaning of a list: for each kind of access the last matching rule decides.
    pub fn allowed(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let (major, minor) = (Some(major), Some(minor));
        let device = Pattern { major, minor, kind };
        [MKNOD, READ, WRITE]
            .into_iter()
            .filter(|bit| access & bit != 0)
            .all(|bit| {
                let matching = |r: &&Rule| r.pattern.covers(&device) && r.access & bit != 0;
                rules
                    .0
                    .iter()
                    .rev()
                    .find(matching)
                    .is_some_and(|rule| rule.allow)
            })
    }

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

    prop_compose! {
        /// Rules over so few numbers that they meet often.
        fn rule()(
            allow: bool,
            kind in prop_oneof![Just(Kind::Block), Just(Kind::Char)],
            major in proptest::option::of(0_u32..3),
            minor in proptest::option::of(0_u32..3),
            access in 1..=ALL,
        ) -> Rule {
            Rule { allow, pattern: Pattern { major, minor, kind }, access, origin: Some(0) }
        }
    }

    fn reset(allow: bool) -> [Rule; 2] {
        let pattern = |kind| Pattern {
            major: None,
            minor: None,
            kind,
        };
        [Kind::Block, Kind::Char].map(|kind| Rule {
            allow,
            pattern: pattern(kind),
            access: ALL,
            origin: Some(0),
        })
    }

    pub fn rules() -> impl Strategy<Value = DeviceRules> {
        let one = prop_oneof![
            8 => rule().prop_map(|rule| vec![rule]),
            1 => any::<bool>().prop_map(|allow| reset(allow).to_vec()),
        ];
        proptest::collection::vec(one, 0..12).prop_map(|rules| DeviceRules(rules.concat()))
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
    fn a_default_device_that_the_config_describes_has_no_rule_of_ours() {
        let resources = json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "r"},
        ]});
        let resources = serde_json::from_value(resources).unwrap();
        for (path, access) in [
            ("/dev/full", READ),
            ("dev/./full", READ),
            ("/dev/other", READ | WRITE),
            ("/full", READ | WRITE),
        ] {
            let device = json!([{"path": path, "type": "c", "major": 1, "minor": 7}]);
            let devices: Vec<LinuxDevice> = serde_json::from_value(device).unwrap();
            let rules = DeviceRules::read(Some(&resources), &devices).unwrap();
            for bit in [READ, WRITE] {
                let seen = allowed(&rules, Kind::Char, 1, 7, bit);
                assert_eq!(seen, access & bit != 0, "{path} {bit}");
            }
            assert!(allowed(&rules, Kind::Char, 1, 5, READ | WRITE), "{path}");
        }
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

    #[test]
    fn b40_b25_bad_rules_are_refused_with_their_index() {
        let rows = [
            (
                json!({"allow": true, "access": ""}),
                "device access at 1 field cannot be empty",
            ),
            (
                json!({"allow": true}),
                "device access at 1 field cannot be empty",
            ),
            (
                json!({"type": "p", "access": "r"}),
                "invalid cgroup device type \"p\"",
            ),
            (
                json!({"type": "c", "access": "rx"}),
                "invalid device access \"rx\"",
            ),
            (
                json!({"type": "c", "major": -2, "access": "r"}),
                "invalid major -2",
            ),
            (
                json!({"type": "b", "major": 4_294_967_295_u32, "minor": 1, "access": "rw"}),
                "invalid major 4294967295",
            ),
            (
                json!({"type": "c", "minor": 4294967296_i64, "access": "r"}),
                "invalid minor 4294967296",
            ),
        ];
        for (rule, tail) in rows {
            let error = read(json!([{"allow": false, "access": "rwm"}, rule])).unwrap_err();
            assert_eq!(error.pointer(), Some("/linux/resources/devices/1"));
            assert_eq!(error.tail(), tail);
        }
    }

    #[test]
    fn minus_one_and_null_are_wildcards() {
        let rules = read(json!([
            {"allow": true, "type": "c", "major": -1, "minor": null, "access": "r"},
        ]));
        assert_eq!(
            rules.unwrap().0[0].pattern,
            Pattern {
                major: None,
                minor: None,
                kind: Kind::Char
            }
        );
    }
}
