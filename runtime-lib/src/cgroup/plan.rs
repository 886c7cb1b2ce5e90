//! The directories of one container, as they are kept in its state: one for each v1
//! hierarchy, and one in the unified hierarchy.
//!
//! The schema is read by later versions (fields are added with defaults, never changed).
//! Nothing here touches the file system.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::limits::Version;
use super::systemd::Unit;
use crate::container::SubCgroup;
use crate::error::{Code, Error, Result};

/// Which cgroups a container gets. Empty: it stays in those of its creator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupPlan {
    /// The machine has cgroup v1, and limits are v1's: also where the container has no directory in it.
    /// (The states of earlier versions leave this to `legacy`.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub v1: bool,
    /// v1: one for each mounted hierarchy, `name=systemd` and those without a limit included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub legacy: Vec<Group>,
    /// cgroup2: the whole of a v2 host, beside the others on a hybrid one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<Group>,
    /// The unit that these are the cgroups of, where systemd makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<Unit>,
    /// cgroup v2: where below the container's own its first process is moved at last, for whoever
    /// is inside to manage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated: Option<PathBuf>,
}

/// One directory of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// v1: the controllers of the hierarchy, or `name=systemd`; empty for cgroup2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The container's cgroup below the mount, with a leading slash.
    pub path: PathBuf,
}

impl Group {
    /// The directory on the host.
    pub fn dir(&self) -> PathBuf {
        below(&self.mount, &self.path)
    }

    /// Whether it is cgroup2's.
    pub(super) fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether the hierarchy has this v1 controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// `path`, which begins with a slash, below `mount`.
pub(super) fn below(mount: &Path, path: &Path) -> PathBuf {
    mount.join(path.strip_prefix("/").unwrap_or(path))
}

impl CgroupPlan {
    /// No directory at all, on a machine with this layout.
    pub(super) fn none(layout: &Layout) -> CgroupPlan {
        CgroupPlan {
            v1: layout.version() == Version::V1,
            ..CgroupPlan::default()
        }
    }

    /// The version of cgroups that the container's limits are of.
    pub(super) fn version(&self) -> Version {
        match self.v1 || !self.legacy.is_empty() {
            true => Version::V1,
            false => Version::V2,
        }
    }

    /// v1: the directory in the hierarchy of this controller.
    pub(super) fn legacy_of(&self, controller: &str) -> Option<&Group> {
        self.legacy.iter().find(|group| group.has(controller))
    }

    /// The directory in which a controller limits and counts, by v1's name.
    pub(super) fn group_of(&self, controller: &str) -> Option<&Group> {
        match self.legacy.is_empty() {
            true => self.unified.as_ref(),
            false => self.legacy_of(controller),
        }
    }

    /// Whether the container stays in its creator's cgroups.
    pub fn is_empty(&self) -> bool {
        self.legacy.is_empty() && self.unified.is_none()
    }

    /// v1: the files into which the child writes `0` to join, one for each hierarchy.
    /// (`tasks`, not `cgroup.procs`, and by the process itself: any other form waits for an
    /// RCU grace period.)
    pub fn tasks_files(&self) -> Vec<PathBuf> {
        self.legacy.iter().map(|g| g.dir().join("tasks")).collect()
    }

    /// The same for the first process; none where systemd places it.
    pub fn tasks_files_of_init(&self) -> Vec<PathBuf> {
        match self.systemd {
            None => self.tasks_files(),
            Some(_) => Vec::new(),
        }
    }

    /// The same with the groups below that were asked for, the last for each hierarchy.
    ///
    /// # Errors
    /// A path that leads out of the container's cgroup; a controller that has no hierarchy.
    pub fn below(&self, wanted: &[SubCgroup]) -> Result<CgroupPlan> {
        let mut plan = self.clone();
        for SubCgroup { controllers, path } in wanted {
            let wrong = |tail: String| {
                let shown = path.display();
                Err(Error::new(Code::InvalidArgument, tail)
                    .doing(format!("put the process into the cgroup {shown}")))
            };
            let normal = |part: Component| {
                matches!(
                    part,
                    Component::Normal(_) | Component::RootDir | Component::CurDir
                )
            };
            if !path.components().all(normal) {
                return wrong(format!("bad sub cgroup path: {}", path.display()));
            }
            let inner = path.strip_prefix("/").unwrap_or(path);
            if controllers.is_empty() {
                let groups = self
                    .groups()
                    .zip(plan.legacy.iter_mut().chain(&mut plan.unified));
                groups.for_each(|(own, group)| group.path = own.path.join(inner));
                if let Some(unit) = &mut plan.systemd {
                    unit.below = inner.to_path_buf();
                }
            }
            for controller in controllers {
                let groups = self.legacy.iter().zip(&mut plan.legacy);
                let mut named = groups.filter(|(own, _)| {
                    let name = own.controllers.iter();
                    own.has(controller)
                        || name
                            .filter_map(|c| c.strip_prefix("name="))
                            .any(|c| c == controller)
                });
                match named.next() {
                    Some((own, group)) => group.path = own.path.join(inner),
                    None => {
                        return wrong(format!("unknown controller {controller} in cgroup path"));
                    }
                }
            }
        }
        Ok(plan)
    }

    /// cgroup2: the directory for CLONE_INTO_CGROUP (clone(2)).
    pub fn clone_into(&self) -> Option<PathBuf> {
        self.unified.as_ref().map(Group::dir)
    }

    /// Whether a path is in a hierarchy that the container has a directory in.
    pub fn reaches(&self, path: &Path) -> bool {
        self.groups().any(|group| path.starts_with(&group.mount))
    }

    /// Every directory.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.legacy.iter().chain(&self.unified)
    }
}
