//! What a `cgroup` mount of a container shows: its own cgroups, in the layout of the host.
//!
//! Data for the mount planner, which decides how they are mounted; nothing is mounted here.

use std::path::PathBuf;

use super::layout::{Hierarchy, Layout};
use super::plan::{CgroupPlan, Group, below};

/// The parts of a container's /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupMounts {
    /// One cgroup2 mount.
    Unified {
        /// The host's mount.
        mount: PathBuf,
        /// The container's own directory below it.
        dir: PathBuf,
    },
    /// A tmpfs with one directory for each hierarchy, and links for co-mounted controllers.
    Legacy(Vec<LegacyMount>),
    /// The host has no cgroup file system.
    None,
}

/// One v1 hierarchy in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyMount {
    /// Its directory under /sys/fs/cgroup, such as `cpu,cpuacct`.
    pub name: String,
    /// The options of a mount of type `cgroup`, such as `cpu,cpuacct` or `none,name=systemd`.
    pub options: String,
    /// The container's own directory on the host (the source of a bind mount).
    pub dir: PathBuf,
    /// Names that link to `name`, such as `cpu` and `cpuacct`.
    pub links: Vec<String>,
}

impl CgroupPlan {
    /// What the container's cgroup mount consists of. A hierarchy in which the container has
    /// no cgroup of its own shows its creator's.
    pub fn mounts(&self, layout: &Layout) -> CgroupMounts {
        match layout {
            Layout::None => CgroupMounts::None,
            Layout::Unified { mount, own } => CgroupMounts::Unified {
                mount: mount.clone(),
                dir: self
                    .unified
                    .as_ref()
                    .map_or_else(|| below(mount, own), Group::dir),
            },
            Layout::Legacy { hierarchies, .. } => {
                CgroupMounts::Legacy(hierarchies.iter().map(|h| self.mount_of(h)).collect())
            }
        }
    }

    fn mount_of(&self, hierarchy: &Hierarchy) -> LegacyMount {
        let own = self
            .legacy
            .iter()
            .find(|group| group.mount == hierarchy.mount);
        let base = hierarchy
            .mount
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = base.unwrap_or_else(|| hierarchy.controllers.join(","));
        let named = hierarchy.controllers.iter().any(|c| c.starts_with("name="));
        let options = hierarchy.controllers.join(",");
        let links = hierarchy
            .controllers
            .iter()
            .filter(|c| !c.contains('=') && **c != name);
        LegacyMount {
            options: if named {
                format!("none,{options}")
            } else {
                options
            },
            dir: own.map_or_else(
                || below(&hierarchy.mount, &hierarchy.own_below_mount()),
                Group::dir,
            ),
            links: links.cloned().collect(),
            name,
        }
    }
}
