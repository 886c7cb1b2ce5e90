//! The device rules as systemd takes them: the program itself, kept in a file that it loads
//! again whenever it loads its units; or, where it can't, a list (systemd.resource-control(5)).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::names::escaped;
use super::value::Value;
use super::{BPF, Property};
use crate::cgroup::device_exceptions::Exceptions;
use crate::cgroup::device_program::assemble;
use crate::cgroup::devices::{DevicePolicy, DeviceRules, Kind, MKNOD, READ, WRITE};
use crate::error::{Code, Error, Result};
use crate::sys::bpf;

/// The longest name of a file.
const LONGEST: usize = 255;

/// The program's file, which no other container has: not one whose unit has the same name in another
/// slice, and not one that is created at this moment for the same unit.
pub fn place_of(slice: &str, unit: &str, id: &str) -> PathBuf {
    // bpffs takes no dots, systemd's settings no backslashes; no sign that stands for them, or between
    // the three, can be part of a unit's name.
    let whole = [slice, unit, &escaped(id)].join(",");
    let name = format!("capsid,{}", whole.replace('.', "+").replace('\\', "="));
    let name = match name.len() <= LONGEST {
        true => name,
        false => {
            let mut hasher = DefaultHasher::new();
            whole.hash(&mut hasher);
            format!(
                "{},{:016x}",
                name.get(..LONGEST - 17).unwrap_or_default(),
                hasher.finish()
            )
        }
    };
    Path::new(BPF).join(name)
}

/// Loads the program and keeps it at `path`. One that is there is of a container of this id that was
/// not deleted.
pub fn keep(rules: &DeviceRules, path: &Path) -> Result<()> {
    let refused = |call, errno| {
        Error::call(Code::Cgroup, call, errno)
            .doing(format!("keep the device program in {}", path.display()))
            .at("/linux/resources/devices")
    };
    let Some(program) = assemble(rules)? else {
        return Ok(());
    };
    let loaded = bpf::load_device_program(&program).map_err(|errno| refused("bpf", errno))?;
    remove(path)?;
    bpf::pin(loaded.as_fd(), path).map_err(|errno| refused("bpf", errno))
}

/// Removes the file.
pub fn remove(path: &Path) -> Result<()> {
    match nix::unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(Error::call(Code::Cgroup, "unlink", errno).path(path)),
    }
}

/// The list, as far as systemd has words for it.
pub fn properties(policy: &DevicePolicy) -> Vec<Property> {
    let list = |exceptions: &Exceptions| match exceptions.allow {
        // There is no way to say what is denied; to say what is allowed would deny the rest.
        true => ("auto", Vec::new()),
        false => ("strict", allowed(exceptions)),
    };
    let (policy, allow) = match policy {
        DevicePolicy::Files(exceptions) => list(exceptions),
        DevicePolicy::Program(rules) => match rules.exceptions() {
            Ok(exceptions) => list(&exceptions),
            // Only a program can say this.
            Err(_) => ("auto", Vec::new()),
        },
    };
    vec![
        ("DevicePolicy".to_owned(), Value::text(policy)),
        ("DeviceAllow".to_owned(), Value::array("(ss)", allow)),
    ]
}

fn allowed(exceptions: &Exceptions) -> Vec<Value> {
    let granted = exceptions.granted().into_iter();
    let entry = |(pattern, access): (crate::cgroup::devices::Pattern, u8)| {
        let kind = match pattern.kind {
            Kind::Block => "block",
            Kind::Char => "char",
        };
        let device = match (pattern.major, pattern.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{major}"),
            (None, None) => format!("{kind}-*"),
            (None, Some(_)) => return None,
        };
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let letters = letters.into_iter().filter(|(bit, _)| access & bit != 0);
        let access: String = letters.map(|(_, letter)| letter).collect();
        Some(Value::Struct(vec![
            Value::text(device),
            Value::text(access),
        ]))
    };
    granted.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_a_file_of_its_own_that_can_be_there() {
        let long = |c: &str| format!("{}.scope", c.repeat(249));
        let cases = [
            ("system.slice", "capsid-a.scope".to_owned(), "a".to_owned()),
            ("other.slice", "capsid-a.scope".to_owned(), "a".to_owned()),
            ("system.slice", "capsid-a.scope".to_owned(), "b".to_owned()),
            ("system.slice", "x-y.scope".to_owned(), "a.b".to_owned()),
            ("system.slice", "x-y.scope".to_owned(), "a+b".to_owned()),
            (
                "system.slice",
                "x-a\\x2bb.scope".to_owned(),
                "a+b".to_owned(),
            ),
            ("system.slice", long("a"), "a".repeat(255)),
            ("system.slice", long("a"), "b".repeat(255)),
            ("system.slice", long("\\"), "+".repeat(255)),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for (slice, unit, id) in &cases {
            let path = place_of(slice, unit, id);
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert!(name.len() <= 255 && !name.contains(['.', '\\']), "{name}");
            assert_eq!(path.parent(), Some(Path::new(BPF)));
            assert!(seen.insert(name.to_owned()), "{name} is another's as well");
        }
    }
}
