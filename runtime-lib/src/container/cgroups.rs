//! The container's cgroups while it comes to be.

use std::os::fd::OwnedFd;

use super::oom;
use super::prepared::Prepared;
use crate::cgroup::{CgroupManager, CgroupPlan};
use crate::error::{Error, Result};
use crate::launch::opens::open_directory;

/// The container's cgroups, taken back unless the container comes to be.
pub(super) struct Cgroups<'plan> {
    manager: Box<dyn CgroupManager + 'plan>,
    cgroup: &'plan CgroupPlan,
    /// Where clone3(2) puts the process, on v2.
    pub directory: Option<OwnedFd>,
    remove: bool,
}

impl<'plan> Cgroups<'plan> {
    pub(super) fn prepare(prepared: &'plan Prepared) -> Result<Cgroups<'plan>> {
        let manager = prepared.cgroup.manager();
        manager.prepare(&prepared.limits)?;
        let mut cgroups = Cgroups {
            manager,
            cgroup: &prepared.cgroup,
            directory: None,
            remove: true,
        };
        if let Some(path) = &prepared.plan.cgroup {
            cgroups.directory = Some(open_directory(path)?);
        }
        Ok(cgroups)
    }

    /// The kernel takes no process into the directory as it is.
    pub(super) fn admit(&self) -> Result<()> {
        self.manager.admit()
    }

    pub(super) fn keep(mut self) {
        self.remove = false;
    }

    /// Names want of memory where init has died of it.
    pub(super) fn explain_death(&self, error: Error) -> Error {
        oom::explain(self.cgroup, error, 0, true)
    }
}

impl Drop for Cgroups<'_> {
    fn drop(&mut self) {
        if self.remove
            && let Err(error) = self.manager.remove()
        {
            tracing::warn!("{error}");
        }
    }
}
