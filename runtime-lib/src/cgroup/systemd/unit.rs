//! A container's unit, as its state keeps it, and what can be said of it without asking anybody.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manager::Address;
use super::names::is_slice;
use super::{Property, properties};
use crate::cgroup::devices::DevicePolicy;
use crate::cgroup::limits::Limits;

/// A unit, as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    /// The slice that it is in.
    pub slice: String,
    /// The systemd that has it.
    pub manager: Address,
    /// The version of that systemd.
    pub version: u32,
    /// Where the device program is kept, which systemd attaches again when it loads its units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// The container's own cgroup, where it is one below the unit's.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub subgroup: PathBuf,
    /// Which cgroup below its own a further process is put into.
    #[serde(skip)]
    pub below: PathBuf,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl Unit {
    /// Whether the container's cgroup is one below the unit's, which systemd doesn't make.
    pub fn has_subgroup(&self) -> bool {
        !is_empty(&self.subgroup)
    }

    /// The unit's own directory, from the container's.
    pub(in crate::cgroup) fn dir<'a>(&self, own: &'a Path) -> &'a Path {
        let depth = self.subgroup.components().count();
        own.ancestors().nth(depth).unwrap_or(own)
    }

    /// Whether it is a slice, which no process is in when it begins.
    pub fn is_slice(&self) -> bool {
        is_slice(&self.name)
    }

    /// What [`crate::cgroup::CgroupManager::place`] will do, as `explain` prints it.
    pub(in crate::cgroup) fn describe(&self, limits: &Limits) -> String {
        let told = limits
            .unit
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let told: Vec<String> = told.collect();
        format!("tell systemd of {}: {}", self.name, told.join(" "))
    }

    /// What becomes of the device rules before systemd is told, as `explain` prints it.
    pub(in crate::cgroup) fn describe_program(&self, limits: &Limits) -> Option<String> {
        let (Some(path), Some(DevicePolicy::Program(rules))) = (&self.program, &limits.devices)
        else {
            return None;
        };
        let (count, path) = (rules.0.len(), path.display());
        Some(format!(
            "keep a program of {count} device rules in {path}, for systemd to attach"
        ))
    }

    /// What systemd is told of these limits.
    pub(in crate::cgroup) fn resources(&self, limits: &Limits) -> Vec<Property> {
        let mut written: Vec<(&str, &str)> = Vec::new();
        for setting in &limits.settings {
            let otherwise = setting.otherwise.as_ref();
            written.extend(otherwise.map(|(file, value)| (*file, value.as_str())));
            written.push((&*setting.file, setting.value.as_str()));
        }
        properties::of(&written, self.version)
    }
}
