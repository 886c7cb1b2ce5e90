//! The device rules of linux.resources: an ordered list in which, for each kind of access,
//! the last matching rule decides, and everything is denied to begin with.
//!
//! Here are the meaning of the list, and its form for v1's two files. The form for v2 is a
//! program: device_program.rs. Writes nothing.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::plan::Group;
use crate::error::{Code, Error, Result};

/// What may be done with a device node, as bits: the kernel's numbers (linux/bpf.h).
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// What every container may do, appended to its own rules: making nodes (which opens
/// nothing), the nodes that the runtime itself puts into /dev, terminals, and tun.
const ALWAYS: &[(Kind, Option<u32>, Option<u32>, u8)] = &[
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), ALL),    // null
    (Kind::Char, Some(1), Some(5), ALL),    // zero
    (Kind::Char, Some(1), Some(7), ALL),    // full
    (Kind::Char, Some(1), Some(8), ALL),    // random
    (Kind::Char, Some(1), Some(9), ALL),    // urandom
    (Kind::Char, Some(5), Some(0), ALL),    // tty
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
    /// The list of the config with ours behind it.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] with the pointer of the rule: an empty or unknown access, a
    /// type that is not a, b or c, a number out of range.
    pub fn read(resources: Option<&LinuxResources>) -> Result<DeviceRules> {
        let asked = resources
            .and_then(|r| r.devices().as_deref())
            .unwrap_or(&[]);
        let mut rules = Vec::with_capacity(2 * asked.len() + ALWAYS.len());
        for (index, device) in asked.iter().enumerate() {
            let read = read_rule(index, device, &mut rules);
            read.map_err(|e| e.at(format!("/linux/resources/devices/{index}")))?;
        }
        rules.extend(ALWAYS.iter().map(|&(kind, major, minor, access)| Rule {
            allow: true,
            pattern: Pattern { major, minor, kind },
            access,
            origin: None,
        }));
        Ok(DeviceRules(rules))
    }
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
            _ => return Err(refuse(format!("invalid device access {text:?}")).hint("r, w and m")),
        };
    }
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| refuse(format!("invalid {name} {n}"))),
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
        let mut now = Exceptions {
            allow: false,
            list: BTreeMap::new(),
        };
        let mut rules = self.0.as_slice();
        while let [rule, rest @ ..] = rules {
            rules = rest;
            if let [other, rest @ ..] = rules
                && rule.is_everything_with(other)
            {
                now = Exceptions {
                    allow: rule.allow,
                    list: BTreeMap::new(),
                };
                rules = rest;
                continue;
            }
            now.take(rule)?;
        }
        Ok(now)
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

    /// What is written, one write a line: first the default (to devices.allow or
    /// devices.deny), then the exceptions, to the other file.
    pub fn lines(&self) -> Vec<String> {
        let widened = self.list.iter().map(|(pattern, (access, _))| {
            // The kernel wants one exception to grant all of an access such as read and
            // write together; what wider ones grant is therefore said here again.
            let wider = self
                .list
                .iter()
                .filter(|(wide, _)| self.allow_is_split(wide, pattern));
            let access = wider.fold(*access, |all, (_, (more, _))| all | more);
            Line(pattern, access).to_string()
        });
        widened.collect()
    }

    fn allow_is_split(&self, wide: &Pattern, pattern: &Pattern) -> bool {
        !self.allow && wide.covers(pattern)
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
            DevicePolicy::Program(rules) if group.controllers.is_empty() => {
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
