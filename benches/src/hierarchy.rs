//! The cgroup hierarchies of this host. It must not change them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where a host mounts its cgroups.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One mounted cgroup hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    pub version: Version,
    pub mount: PathBuf,
}

impl Hierarchy {
    /// The hierarchies mounted at or below `/sys/fs/cgroup`.
    pub fn all() -> Result<Vec<Hierarchy>> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        Ok(mounts.lines().filter_map(Self::from_mount).collect())
    }

    fn from_mount(line: &str) -> Option<Hierarchy> {
        let mut fields = line.split(' ').skip(1);
        let (mount, kind) = (PathBuf::from(fields.next()?), fields.next()?);
        let version = match kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        // A mount below another one that came later is listed, but can't be reached.
        let shown = mount.starts_with(CGROUP_ROOT) && mount.join("cgroup.procs").exists();
        shown.then_some(Hierarchy { version, mount })
    }

    /// The directory's name below `/sys/fs/cgroup`, such as `cpu,cpuacct`.
    pub fn name(&self) -> String {
        let name = self.mount.strip_prefix(CGROUP_ROOT).unwrap_or(&self.mount);
        name.to_string_lossy().into_owned()
    }

    pub fn has_cpuset(&self) -> bool {
        self.version == Version::V1 && self.mount.join("cpuset.cpus").exists()
    }

    /// The controllers that the root hands to its children (cgroup v2).
    pub fn enabled(&self) -> Vec<String> {
        fs::read_to_string(self.mount.join("cgroup.subtree_control"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }
}
