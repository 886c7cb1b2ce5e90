//! The device rules as systemd takes them: the program itself, kept in a file that it loads
//! again whenever it loads its units; or, where it can't, a list (systemd.resource-control(5)).

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::value::Value;
use super::{BPF, Property};
use crate::cgroup::device_program::assemble;
use crate::cgroup::devices::{DevicePolicy, DeviceRules, Exceptions, Kind, MKNOD, READ, WRITE};
use crate::error::{Code, Error, Result};
use crate::sys::bpf;

/// The program's file. bpffs takes no dots, systemd's settings no backslashes; neither sign that
/// stands for them can be part of a unit's name.
pub fn place_of(unit: &str) -> PathBuf {
    let name = unit.replace('.', "+").replace('\\', "=");
    Path::new(BPF).join(format!("capsid,{name}"))
}

/// Loads the program and keeps it at `path`. One that is there is of a container that was not
/// deleted, under the same unit's name.
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
