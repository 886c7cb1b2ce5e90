//! What create does to a container's cgroups, as `explain` prints it: one line an action, by when the
//! methods of [`super::CgroupManager`] do it.

use super::limits::{Limits, Version};
use super::plan::{CgroupPlan, Group};
use super::systemd::Unit;

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// [`super::CgroupManager::begin`]: before the first process.
    pub begin: Vec<String>,
    /// [`super::CgroupManager::finish`]: while that works, before it joins.
    pub finish: Vec<String>,
    /// [`super::CgroupManager::place`]: while it waits to be put into its unit.
    pub place: Vec<String>,
    /// When it is ready to execute its program.
    pub delegate: Vec<String>,
}

impl CgroupPlan {
    /// What will be done to these directories.
    pub fn describe(&self, limits: &Limits) -> Actions {
        let mut actions = Actions::default();
        match &self.systemd {
            Some(unit) => self.describe_unit(unit, limits, &mut actions),
            None => self.describe_directories(limits, &mut actions),
        }
        if let Some(group) = self.given_away() {
            let dir = group.dir();
            let dir = dir.display();
            let line = format!("mkdir {dir}, and move the waiting process there");
            actions.delegate.push(line);
        }
        actions
    }

    fn describe_directories(&self, limits: &Limits, actions: &mut Actions) {
        if let Some(group) = &self.unified {
            actions.begin.push(mkdir(group));
            actions.begin.extend(limits.describe_writes(group));
            let devices = limits.describe_devices(group);
            match self.version() {
                Version::V1 => actions.begin.extend(devices),
                Version::V2 => {
                    actions.begin.extend(limits.describe_gift(group));
                    actions.finish.extend(devices);
                }
            }
        }
        for group in &self.legacy {
            actions.finish.push(mkdir(group));
            actions.finish.extend(seed(group, limits));
            actions.finish.extend(limits.describe_writes(group));
            actions.finish.extend(limits.describe_devices(group));
        }
    }

    fn describe_unit(&self, unit: &Unit, limits: &Limits, actions: &mut Actions) {
        actions.place.extend(unit.describe_program(limits));
        actions.place.push(unit.describe(limits));
        let v1 = self.version() == Version::V1;
        for group in self.groups() {
            if v1 {
                actions.begin.push(mkdir(group));
                actions.begin.extend(seed(group, limits));
            } else if unit.has_subgroup() {
                let below = format!("{}, and move the waiting process there", mkdir(group));
                actions.place.push(below);
            }
            actions.place.extend(limits.describe_writes(group));
            if unit.program.is_none() {
                actions.place.extend(limits.describe_devices(group));
            }
            actions.place.extend(limits.describe_gift(group));
            if v1 || (unit.is_slice() && !unit.has_subgroup()) {
                let dir = group.dir();
                let moved = format!("move the waiting process to {}", dir.display());
                actions.place.push(moved);
            }
        }
    }
}

fn mkdir(group: &Group) -> String {
    format!("mkdir {}", group.dir().display())
}

fn seed(group: &Group, limits: &Limits) -> Option<String> {
    let seeded = group.has("cpuset") && !limits.sets_whole_cpuset();
    let what = "copy cpuset.cpus and cpuset.mems from the parent to";
    seeded.then(|| format!("{what} {}", group.dir().display()))
}
