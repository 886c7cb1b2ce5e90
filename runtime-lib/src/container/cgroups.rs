//! The container's cgroups while it comes to be.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::oom;
use super::prepared::Prepared;
use crate::cgroup::{CgroupManager, CgroupPlan, Enabled, Limits, Made};
use crate::error::{Error, Result};
use crate::launch::opens::{open_directory, open_tasks};
use crate::plan::{Open, Planned};
use crate::step::{Source, Step};

/// The container's cgroups, taken back unless the container comes to be.
pub(super) struct Cgroups<'plan> {
    manager: Box<dyn CgroupManager + 'plan>,
    cgroup: &'plan CgroupPlan,
    limits: &'plan Limits,
    /// Where clone3(2) puts the process, on v2.
    pub directory: Option<OwnedFd>,
    /// What the process is born into, as long as the rest is not made.
    begun: Cell<Option<Made>>,
    /// The files by which the process joins, of which [`Cgroups::finish`] had to be early.
    files: Cell<Option<Vec<OwnedFd>>>,
    /// All is made, and not kept yet.
    remove: Cell<bool>,
}

impl<'plan> Cgroups<'plan> {
    /// Makes what has to be there before the process.
    pub(super) fn begin(prepared: &'plan Prepared) -> Result<Cgroups<'plan>> {
        let manager = prepared.cgroup.manager();
        let begun = manager.begin(&prepared.limits)?;
        let mut cgroups = Cgroups {
            manager,
            cgroup: &prepared.cgroup,
            limits: &prepared.limits,
            directory: None,
            begun: Cell::new(Some(begun)),
            files: Cell::new(None),
            remove: Cell::new(false),
        };
        if let Some(path) = &prepared.plan.cgroup {
            cgroups.directory = Some(open_directory(path)?);
        }
        if shows_early(prepared) {
            let files = cgroups.finish()?;
            cgroups.files.set(Some(files));
        }
        Ok(cgroups)
    }

    /// What had to be enabled above them.
    pub(super) fn enabled(&self) -> Enabled {
        self.manager.enabled()
    }

    /// The kernel takes no process into the directory as it is.
    pub(super) fn admit(&self) -> Result<()> {
        self.manager.admit()
    }

    /// What is left to do when the process is there and waits.
    pub(super) fn place(&self, pid: i32) -> Result<()> {
        self.manager.place(self.limits, pid)
    }

    /// Where the process is moved when its namespaces are made.
    pub(super) fn delegate(&self, pid: i32) -> Result<()> {
        self.cgroup.enter_delegated(self.limits, pid)
    }

    /// Makes the rest, while the process is at its mounts; the files by which it joins.
    pub(super) fn finish(&self) -> Result<Vec<OwnedFd>> {
        if let Some(files) = self.files.take() {
            return Ok(files);
        }
        self.manager.finish(self.limits)?;
        self.remove.set(true);
        if let Some(begun) = self.begun.take() {
            begun.keep();
        }
        let files = self.cgroup.tasks_files_of_init();
        files.iter().map(open_tasks).collect()
    }

    pub(super) fn keep(self) {
        self.remove.set(false);
    }

    /// Names want of memory where init has died of it.
    pub(super) fn explain_death(&self, error: Error) -> Error {
        oom::explain(self.cgroup, error, 0, true)
    }
}

impl Drop for Cgroups<'_> {
    fn drop(&mut self) {
        if self.remove.get()
            && let Err(error) = self.manager.remove()
        {
            tracing::warn!("{error}");
        }
    }
}

/// Whether a mount has its source in one of the hierarchies, other than those that are made
/// after the process has joined.
pub(super) fn shows_early(prepared: &Prepared) -> bool {
    if prepared.cgroup.legacy.is_empty() {
        // v2's directory is there before the process, or systemd makes it, which no mount shows early.
        return false;
    }
    let reaches = |path: &Path| prepared.cgroup.reaches(path);
    let opened = prepared.plan.opens.iter().any(|open| match open {
        Open::Tree { path, .. } => reaches(path),
        _ => false,
    });
    let joins = |planned: &Planned| matches!(planned.step, Step::JoinMade { .. });
    let before = prepared.plan.steps.iter().take_while(|it| !joins(it));
    let mut sources = before.filter_map(|planned| match &planned.step {
        Step::Mount(mount) | Step::MountOr { mount, .. } => match &mount.source {
            Source::Bind { path, .. } => Some(Path::new(OsStr::from_bytes(path.to_bytes()))),
            _ => None,
        },
        _ => None,
    });
    opened || sources.any(reaches)
}
