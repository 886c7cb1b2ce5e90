//! cgroup v1 and hybrid hosts: one directory in each hierarchy, and one in cgroup2 beside
//! them where that is mounted. The controllers are v1's.
//!
//! The processes themselves join, by the `tasks` files: nothing here moves anybody.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::cpuset;
use super::device_files;
use super::devices::DevicePolicy;
use super::freezer::Freezer;
use super::limits::Limits;
use super::made::{Leaf, Made};
use super::members::{self, Members};
use super::plan::{CgroupPlan, Group};
use super::remove::{self, DEADLINE};
use super::settings::write_all;
use super::{CgroupManager, device_attach, file};
use crate::error::{Code, Error, Result};

/// The operations on a v1 or hybrid plan.
pub(super) struct V1<'a> {
    plan: &'a CgroupPlan,
}

impl<'a> V1<'a> {
    pub fn new(plan: &'a CgroupPlan) -> V1<'a> {
        V1 { plan }
    }

    /// Makes the directories, without limits: mounts show them before systemd has begun the unit.
    pub fn make(&self, limits: &Limits) -> Result<Made> {
        let mut made = Made::default();
        for group in self.plan.groups() {
            self.make_one(&mut made, group, limits)?;
        }
        Ok(made)
    }

    fn make_one(&self, made: &mut Made, group: &Group, limits: &Limits) -> Result<()> {
        let leaf = made.leaf(group)?;
        if group.has("cpuset") {
            cpuset::fill(group, leaf, limits)?;
        }
        Ok(())
    }

    /// Writes the limits, and puts the process into all of the directories: systemd has done so
    /// in its own hierarchy, and in some of the others.
    pub fn adopt(&self, limits: &Limits, pid: i32) -> Result<()> {
        for group in self.plan.groups() {
            let adopted = self.adopt_in(group, limits, pid);
            // Another create of this unit has lost, and has removed what was empty: it does so once.
            match adopted.as_ref().map_err(Error::os_error) {
                Err(Some(Errno::ENOENT)) => {
                    let mut made = Made::default();
                    self.make_one(&mut made, group, limits)?;
                    made.keep();
                    self.adopt_in(group, limits, pid)?;
                }
                _ => adopted?,
            }
        }
        Ok(())
    }

    fn adopt_in(&self, group: &Group, limits: &Limits, pid: i32) -> Result<()> {
        write_all(&group.dir(), &limits.of(group), None)?;
        match &limits.devices {
            Some(DevicePolicy::Files(rules)) if group.has("devices") => {
                device_files::write(&group.dir(), rules)?;
            }
            Some(DevicePolicy::Program(rules)) if group.is_unified() => {
                device_attach::put(&group.dir(), rules)?;
            }
            _ => {}
        }
        members::add(&group.dir(), pid)
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.plan.groups().map(Group::dir).collect()
    }

    /// The directory whose freezer stops the container: v1's, as tools look there, else
    /// cgroup2's, which every kernel that has it can freeze.
    fn freezer(&self) -> Option<(Freezer, PathBuf)> {
        let v1 = self.plan.legacy_of("freezer");
        v1.map(|group| (Freezer::V1, group.dir())).or_else(|| {
            self.plan
                .unified
                .as_ref()
                .map(|group| (Freezer::V2, group.dir()))
        })
    }

    fn needed_freezer(&self) -> Result<(Freezer, PathBuf)> {
        self.freezer().ok_or_else(|| {
            Error::new(Code::Cgroup, "freezer cgroup isn't mounted")
                .hint("the container has no cgroup that can be frozen")
        })
    }

    fn refuse_frozen(&self) -> Result<()> {
        self.freezer()
            .map_or(Ok(()), |(freezer, dir)| freezer.refuse_frozen(&dir))
    }

    /// Stops the container for a moment, so that no process is forked between the reading of
    /// the list and the signal. Whether it can be stopped does not matter: the caller looks
    /// again.
    fn kill_round(&self, dirs: &[PathBuf], done: &mut BTreeSet<i32>) -> Result<()> {
        let freezer = self
            .freezer()
            .filter(|(freezer, _)| *freezer == Freezer::V1);
        if let Some((_, dir)) = &freezer {
            let _ = file::write(&dir.join("freezer.state"), "FROZEN");
        }
        let signalled = Members(dirs).signal(Signal::SIGKILL, done);
        if let Some((_, dir)) = &freezer {
            Freezer::thaw_all_v1(dir)?;
        }
        done.append(&mut signalled?);
        Ok(())
    }
}

impl CgroupManager for V1<'_> {
    fn claim(&self) -> Result<()> {
        let mut found = false;
        for dir in self.dirs() {
            found |= remove::refuse_members(&dir)?;
        }
        match found {
            true => self.refuse_frozen(),
            false => Ok(()),
        }
    }

    fn begin(&self, limits: &Limits) -> Result<Made> {
        let mut made = Made::default();
        let Some(group) = &self.plan.unified else {
            return Ok(made);
        };
        let leaf = made.leaf(group)?;
        if leaf == Leaf::Found {
            remove::refuse_members(&group.dir())?;
        }
        write_all(&group.dir(), &limits.of(group), None)?;
        if let Some(DevicePolicy::Program(rules)) = &limits.devices {
            match leaf {
                Leaf::Found => device_attach::put(&group.dir(), rules)?,
                Leaf::New { .. } => device_attach::first(&group.dir(), rules)?,
            }
        }
        Ok(made)
    }

    fn finish(&self, limits: &Limits) -> Result<()> {
        let mut made = Made::default();
        for group in &self.plan.legacy {
            let leaf = made.leaf(group)?;
            if leaf == Leaf::Found {
                remove::refuse_members(&group.dir())?;
            }
            if group.has("cpuset") {
                cpuset::fill(group, leaf, limits)?;
            }
            if leaf == Leaf::Found && group.has("memory") {
                limits.check_usage(&group.dir())?;
            }
            write_all(&group.dir(), &limits.of(group), None)?;
            if let (Some(DevicePolicy::Files(rules)), true) =
                (&limits.devices, group.has("devices"))
            {
                device_files::write(&group.dir(), rules)?;
            }
            if leaf == Leaf::Found && group.has("freezer") {
                self.refuse_frozen()?;
            }
        }
        made.keep();
        Ok(())
    }

    fn apply(&self, limits: &Limits) -> Result<()> {
        for group in self.plan.legacy.iter().filter(|g| g.has("memory")) {
            limits.check_usage(&group.dir())?;
        }
        for group in &self.plan.legacy {
            write_all(&group.dir(), &limits.of(group), None)?;
        }
        Ok(())
    }

    fn freeze(&self) -> Result<()> {
        let (freezer, dir) = self.needed_freezer()?;
        freezer.freeze(&dir)
    }

    fn thaw(&self) -> Result<()> {
        let (freezer, dir) = self.needed_freezer()?;
        freezer.thaw(&dir)
    }

    fn let_die(&self) -> Result<()> {
        match self.freezer() {
            Some((Freezer::V1, dir)) => Freezer::thaw_all_v1(&dir),
            _ => Ok(()),
        }
    }

    fn frozen(&self) -> Result<bool> {
        self.freezer()
            .map_or(Ok(false), |(freezer, dir)| freezer.frozen(&dir))
    }

    fn processes(&self) -> Result<Vec<i32>> {
        // All hierarchies hold the same processes; cgroup2 is the first that they are in.
        let group = self.plan.unified.as_ref().or(self.plan.legacy.first());
        let pids =
            group.map_or_else(|| Ok(BTreeSet::new()), |group| members::pids(&group.dir()))?;
        Ok(pids.into_iter().collect())
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        if signal == Signal::SIGKILL {
            return self.kill();
        }
        Members(&self.dirs())
            .signal(signal, &BTreeSet::new())
            .map(drop)
    }

    fn kill(&self) -> Result<()> {
        if let Some(unified) = &self.plan.unified {
            super::v2::kill(&unified.dir())?;
        }
        let dirs = self.dirs();
        let deadline = Instant::now() + DEADLINE;
        let mut done = BTreeSet::new();
        while !Members(&dirs).pids()?.is_subset(&done) && Instant::now() < deadline {
            self.kill_round(&dirs, &mut done)?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        remove::remove(self.dirs(), || self.kill())
    }
}
