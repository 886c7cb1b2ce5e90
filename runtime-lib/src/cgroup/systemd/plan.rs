//! From linux.cgroupsPath and the limits to a unit: what it is called, where its cgroups lie, what
//! systemd is told when it starts it. Decides; talks to nobody.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

#[cfg(test)]
use super::manager::Address;
use super::manager::Facts;
use super::names::Names;
use super::unit::Unit;
use super::value::Value;
use super::{annotations, devices};
use crate::cgroup::device_program::assemble;
use crate::cgroup::devices::DevicePolicy;
use crate::cgroup::layout::Layout;
use crate::cgroup::limits::{Limits, Version};
use crate::cgroup::place::{POINTER, group};
use crate::cgroup::plan::CgroupPlan;
use crate::error::{Code, Error, Result};

/// The unit and its cgroups, in every hierarchy.
///
/// # Errors
/// linux.cgroupsPath is not `slice:prefix:name`; there is no cgroup file system.
pub(in crate::cgroup) fn plan(
    layout: &Layout,
    facts: &Facts,
    path: Option<&Path>,
    id: &str,
) -> Result<CgroupPlan> {
    let path = match path.map(Path::to_str) {
        Some(None) => {
            return Err(Error::new(Code::InvalidConfig, "not valid UTF-8").at(POINTER));
        }
        path => path.flatten(),
    };
    let names = Names::read(path, id, facts.address.user)?;
    let below = names.path()?;
    let cgroup = facts.cgroup.join(below.strip_prefix("/").unwrap_or(&below));
    let unit = Unit {
        name: names.unit,
        slice: names.slice,
        manager: facts.address.clone(),
        version: facts.version,
        program: None,
        subgroup: PathBuf::new(),
        below: PathBuf::new(),
    };
    let (legacy, unified) = match layout {
        Layout::None => {
            let error = Error::new(Code::Cgroup, "cgroup mountpoint does not exist");
            return Err(error.hint("systemd has its units in /sys/fs/cgroup"));
        }
        Layout::Unified { mount, .. } => (Vec::new(), Some(group(mount, Vec::new(), cgroup))),
        Layout::Legacy {
            hierarchies,
            unified,
        } => {
            let of = |it: &crate::cgroup::Hierarchy| {
                group(&it.mount, it.controllers.clone(), cgroup.clone())
            };
            (
                hierarchies.iter().map(of).collect(),
                unified.as_ref().map(of),
            )
        }
    };
    Ok(CgroupPlan {
        legacy,
        unified,
        systemd: Some(unit),
        ..CgroupPlan::none(layout)
    })
}

impl Limits {
    /// Adds what systemd is told when it starts the unit, and where it finds the device program.
    ///
    /// # Errors
    /// An annotation that names no property, or one of those that are not allowed.
    pub(in crate::cgroup) fn tell_systemd(
        &mut self,
        plan: &mut CgroupPlan,
        facts: &Facts,
        id: &str,
        asked: Option<&HashMap<String, String>>,
    ) -> Result<()> {
        let v2 = plan.version() == Version::V2;
        let Some(unit) = &mut plan.systemd else {
            return Ok(());
        };
        let asked = annotations::properties(asked)?;
        let text = |name: &str, text: &str| (name.to_owned(), Value::text(text));
        let on = |name: &str| (name.to_owned(), Value::Bool(true));
        let mut told = vec![text("Description", &format!("capsid container {id}"))];
        match unit.is_slice() {
            true => {
                let slice = Value::array("s", vec![Value::text(unit.slice.as_str())]);
                told.push(("Wants".to_owned(), slice));
            }
            false => {
                told.push(text("Slice", &unit.slice));
                told.push(on("Delegate"));
            }
        }
        let io = if v2 {
            "IOAccounting"
        } else {
            "BlockIOAccounting"
        };
        told.extend(["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"].map(on));
        told.push(("DefaultDependencies".to_owned(), Value::Bool(false)));
        let program = match &self.devices {
            Some(DevicePolicy::Program(rules)) if v2 => assemble(rules)?,
            _ => None,
        };
        if program.is_some() && facts.takes_programs() {
            let path = devices::place_of(&unit.slice, &unit.name, id);
            let pair = [Value::text("device"), Value::text(path.to_string_lossy())];
            let programs = Value::array("(ss)", vec![Value::Struct(pair.to_vec())]);
            told.push(("BPFProgram".to_owned(), programs));
            unit.program = Some(path);
        } else if let Some(policy) = &self.devices {
            told.extend(devices::properties(policy));
        }
        told.extend(unit.resources(self));
        // What the configuration says of the unit itself has the last word.
        told.retain(|(name, _)| asked.iter().all(|(other, _)| other != name));
        told.extend(asked);
        self.unit = told;
        Ok(())
    }
}

impl Facts {
    /// `BPFProgram=` is of systemd 249, and takes what lies on a mounted bpffs.
    fn takes_programs(&self) -> bool {
        !self.address.user && self.version >= 249 && super::has_bpf_files()
    }
}

#[cfg(test)]
impl Facts {
    /// A machine's own.
    pub(in crate::cgroup) fn of_system() -> Facts {
        Facts {
            address: Address {
                user: false,
                bus: String::new(),
            },
            version: 252,
            cgroup: PathBuf::from("/"),
        }
    }
}
