//! Where a container's processes are counted and limited: cgroup v1, v2 and hybrid hosts
//! behind one trait.
//!
//! [`Layout`] is what the machine has, [`CgroupPlan`] the directories a container gets
//! (journalled before the first of them is made), [`Limits`] what is written into them.
//! Nothing here decides what is asked for, forks, or waits without a deadline; no process
//! is signalled that is not a member of the container's own directories at that moment.

mod cpuset;
mod delegate;
mod device_attach;
mod device_exceptions;
mod device_files;
mod device_program;
mod devices;
mod file;
mod freezer;
mod layout;
mod limits;
mod made;
mod members;
mod mounts;
mod nested;
mod oom;
mod permission;
mod place;
mod plan;
mod remove;
mod resolve;
mod settings;
pub mod stats;
mod stuck;
mod systemd;
mod tree;
mod trigger;
mod update;
mod v1;
mod v2;
mod weighs;
mod words;

pub(crate) use devices::DEFAULT as DEFAULT_DEVICES;
pub use layout::{Hierarchy, Layout};
pub use limits::Limits;
pub use made::Made;
pub(crate) use members::describe;
pub use mounts::{CgroupMounts, LegacyMount};
pub use nested::NESTED;
pub use oom::OomWatch;
pub use plan::{CgroupPlan, Group};
pub use resolve::CgroupRequest;
pub use stats::{Further, Stats};
pub use systemd::{Facts as SystemdFacts, SYSTEMD_ANNOTATIONS, Unit, ask as ask_systemd};
pub use trigger::{Resource, Trigger, Waiting};
pub use update::Change;
pub use words::Actions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::error::Result;
use freezer::Freezer;
use limits::Version;

/// Controllers that were not enabled before, by the directory in whose cgroup.subtree_control they
/// are now: for its children, of whom the container's cgroup is one, or is below one. Nobody takes
/// them back: whoever does so takes them from everybody who has been made there since.
pub type Enabled = BTreeMap<PathBuf, Vec<String>>;

/// What can be done with a container's cgroups. Every method works from the plan alone, in
/// any process, and treats a directory that does not exist (any more) as empty.
pub trait CgroupManager {
    /// Refuses directories that somebody else uses: ones that hold processes or are frozen.
    /// Changes nothing. Call it before the plan is journalled, so that a journal entry means
    /// "whatever is in there is ours".
    fn claim(&self) -> Result<()>;

    /// Makes what a process has to be born into. Parents may exist, a leaf may only when it is
    /// empty and thawed. What was made is removed again unless it is kept.
    fn begin(&self, limits: &Limits) -> Result<Made>;

    /// The rest, which has time until the process joins, or executes its program. On an error
    /// it has removed what it made itself.
    fn finish(&self, limits: &Limits) -> Result<()>;

    /// What the making of the cgroups, or new limits for them, have enabled above them, so far.
    fn enabled(&self) -> Enabled {
        Enabled::new()
    }

    /// Makes the directory take processes where the kernel has refused one (EOPNOTSUPP): below
    /// a threaded cgroup a new one is invalid until it is threaded itself (cgroups(7)).
    fn admit(&self) -> Result<()> {
        Ok(())
    }

    /// Puts the container's first process, which waits, where it could not be born: systemd
    /// makes a cgroup for a process only, and its limits are written then. Nothing to do where
    /// [`CgroupManager::begin`] and [`CgroupManager::finish`] did it.
    fn place(&self, _limits: &Limits, _pid: i32) -> Result<()> {
        Ok(())
    }

    /// Writes limits to directories that exist (device rules are left as they are).
    fn apply(&self, limits: &Limits) -> Result<()>;

    /// Stops every process, and returns when all have stopped. On an error they run.
    fn freeze(&self) -> Result<()>;

    /// Lets the processes run again.
    fn thaw(&self) -> Result<()>;

    /// Lets everybody who was sent SIGKILL die of it: on v1 a frozen process doesn't, also in
    /// cgroups that the container itself has frozen below its own.
    fn let_die(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the processes are stopped, or about to be, by this or an enclosing cgroup.
    fn frozen(&self) -> Result<bool>;

    /// The host's pids of all processes in the container's cgroup and below, sorted.
    fn processes(&self) -> Result<Vec<i32>>;

    /// Sends `signal` once to every process, below included.
    fn signal_all(&self, signal: Signal) -> Result<()>;

    /// Sends SIGKILL to every process, also to frozen ones and to those forked meanwhile.
    /// Does not wait for them to be gone.
    fn kill(&self) -> Result<()>;

    /// Kills what is left, waits for it, and removes the directories, deepest first.
    /// Fails after ten seconds, naming the process that is in the way.
    fn remove(&self) -> Result<()>;
}

impl CgroupPlan {
    /// A process beside this one that is still there, as `123 (sleep)`.
    pub(crate) fn other_than(&self, pid: i32) -> Option<String> {
        let pids = self.manager().processes().ok()?;
        let other = pids.into_iter().find(|other| *other != pid);
        other.map(members::describe)
    }

    /// The topmost cgroup above these that stops their processes with its own.
    pub(crate) fn frozen_above(&self) -> Option<PathBuf> {
        self.freezers()
            .find_map(|(freezer, group)| freezer.frozen_above(&group.dir()))
    }

    /// Takes a process, which the caller holds, out of a cgroup that [`CgroupPlan::frozen_above`] has
    /// named, so that it can die: on v1 it doesn't there.
    pub(crate) fn take_out(&self, frozen: &Path, pid: i32) -> Result<()> {
        let v1 = self.legacy_of("freezer").map(Group::dir);
        match (v1, frozen.parent()) {
            (Some(dir), Some(above)) if dir.starts_with(frozen) => members::add(above, pid),
            _ => Ok(()),
        }
    }

    fn freezers(&self) -> impl Iterator<Item = (Freezer, &Group)> {
        let v1 = self.legacy_of("freezer").map(|group| (Freezer::V1, group));
        let v2 = self.unified.iter().map(|group| (Freezer::V2, group));
        v1.into_iter().chain(v2)
    }

    /// Removes the directories if nobody is in them; whether they are gone. Those of a unit are
    /// systemd's to remove: they stay.
    pub(crate) fn remove_empty(&self) -> Result<bool> {
        if self.systemd.is_some() {
            return Ok(false);
        }
        let dirs = self.groups().map(|group| group.dir());
        remove::remove_empty(dirs).map(|left| left.is_empty())
    }

    /// Removes what only this container has: its cgroups are another's.
    pub(crate) fn leave(&self) -> Result<()> {
        self.systemd.as_ref().map_or(Ok(()), Unit::forget_program)
    }

    /// Whether one of the other plan's directories is one of these, or below one.
    pub(crate) fn holds(&self, other: &CgroupPlan) -> bool {
        let dirs: Vec<_> = self.groups().map(|group| group.dir()).collect();
        other.groups().any(|group| {
            let there = group.dir();
            dirs.iter().any(|dir| there.starts_with(dir))
        })
    }

    /// The operations on these directories.
    pub fn manager(&self) -> Box<dyn CgroupManager + '_> {
        let directories: Box<dyn CgroupManager + '_> = match (&self.unified, self.version()) {
            (Some(group), Version::V2) => Box::new(v2::V2::new(group)),
            _ => Box::new(v1::V1::new(self)),
        };
        match &self.systemd {
            None => directories,
            Some(unit) => Box::new(systemd::Systemd::new(self, unit, directories)),
        }
    }
}
