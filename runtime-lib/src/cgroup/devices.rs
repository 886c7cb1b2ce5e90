//! The device rules of linux.resources: an ordered list in which, for each kind of access,
//! the last matching rule decides, and everything is denied to begin with.
//!
//! Here is the meaning of the list. Its form for v1's two files is in device_exceptions.rs, that
//! for v2 is a program: device_program.rs. Writes nothing.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::device_exceptions::Exceptions;
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
    pub origin: Option<usize>,
}

/// The whole list, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRules(pub Vec<Rule>);

impl Pattern {
    pub fn covers(&self, other: &Pattern) -> bool {
        let wider = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        self.kind == other.kind && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    pub fn meets(&self, other: &Pattern) -> bool {
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

impl DeviceRules {
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
