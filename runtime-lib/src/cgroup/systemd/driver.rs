//! The operations on a container that has a unit: systemd is asked where it keeps something of its
//! own, the directories are used where it doesn't.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::signal::Signal;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::manager::Manager;
use super::value::Value;
use super::{Unit, devices};
use crate::cgroup::devices::DevicePolicy;
use crate::cgroup::limits::{Limits, Version};
use crate::cgroup::v1::V1;
use crate::cgroup::v2::V2;
use crate::cgroup::{
    CgroupManager, CgroupPlan, Enabled, Group, Made, device_attach, members, remove,
};
use crate::error::{Code, Error, Result};

/// How long a systemd that has not answered is asked to take back what it may have begun.
const SHORT: Duration = Duration::from_secs(2);

/// The operations on a plan with a unit.
pub(in crate::cgroup) struct Systemd<'a> {
    plan: &'a CgroupPlan,
    unit: &'a Unit,
    directories: Box<dyn CgroupManager + 'a>,
    /// What has come of the attempt to start the unit.
    start: Cell<Start>,
    enabled: RefCell<Enabled>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// It was asked for, perhaps by an earlier process: systemd knows whether it has it.
    Asked,
    /// systemd was not asked, or somebody else's unit has the name: there is none to take back.
    None,
    /// systemd did not answer.
    Silent,
}

impl<'a> Systemd<'a> {
    pub fn new(
        plan: &'a CgroupPlan,
        unit: &'a Unit,
        directories: Box<dyn CgroupManager + 'a>,
    ) -> Self {
        let start = Cell::new(Start::Asked);
        Systemd {
            plan,
            unit,
            directories,
            start,
            enabled: RefCell::default(),
        }
    }

    fn start(&self, limits: &Limits, pid: i32) -> Result<()> {
        if let (Some(path), Some(DevicePolicy::Program(rules))) =
            (&self.unit.program, &limits.devices)
        {
            devices::keep(rules, path)?;
        }
        let mut properties = limits.unit.clone();
        if !self.unit.is_slice() {
            let pids = Value::array("u", vec![Value::Uint32(pid.cast_unsigned())]);
            properties.push(("PIDs".to_owned(), pids));
        }
        let mut manager = Manager::connect(&self.unit.manager)?;
        self.start.set(Start::Asked);
        let started = manager.start(&self.unit.name, &properties);
        started.inspect_err(|error| match (error.code(), error.os_error()) {
            (Code::Deadline, _) => self.start.set(Start::Silent),
            (_, Some(Errno::EEXIST)) => self.start.set(Start::None),
            _ => {}
        })
    }

    /// systemd has to have made what the plan says, or delete would look in the wrong place.
    fn check(&self, pid: i32) -> Result<()> {
        let group = self.plan.groups().find(|group| systemd_has(group));
        group.map_or(Ok(()), |group| has_put(&group.dir(), pid))
    }

    /// From the unit's own cgroup into the one below. The unit's must be empty before its controllers
    /// are given to that (cgroups(7), "no internal processes").
    fn descend(&self, group: &Group, unit: &Path, pid: i32) -> Result<()> {
        if !self.unit.is_slice() {
            has_put(unit, pid)?;
        }
        let mut made = Made::default();
        made.leaf(group)?;
        made.keep();
        members::add(&group.dir(), pid)
    }

    fn stop(&self) -> Result<()> {
        let limit = match self.start.get() {
            Start::Silent => SHORT,
            _ => super::bus::LIMIT,
        };
        let stopped = Manager::connect_within(&self.unit.manager, limit)
            .and_then(|mut manager| self.stop_by(&mut manager));
        match stopped {
            // There is no systemd (any more) that could have the unit.
            Err(error) if matches!(error.os_error(), Some(Errno::ENOENT | Errno::ECONNREFUSED)) => {
                tracing::warn!("unit {} is not stopped: {error}", self.unit.name);
                Ok(())
            }
            result => result,
        }
    }

    /// A unit of this name in another slice is another's: whoever asked for this one was killed
    /// before that, or was refused.
    fn stop_by(&self, manager: &mut Manager) -> Result<()> {
        let Unit { name, slice, .. } = self.unit;
        if !self.unit.is_slice() {
            match manager.slice_of(name)? {
                Some(other) if other == *slice => {}
                Some(other) => {
                    tracing::debug!("unit {name} is not stopped: it is another's, in {other}");
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
        manager.stop(name)
    }
}

impl Unit {
    /// Has systemd put a further process into the unit, whom the caller may not put there itself.
    ///
    /// # Errors
    /// systemd's own words.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let below = self.subgroup.join(&self.below);
        Manager::connect(&self.manager)?.attach(&self.name, &below, pid.cast_unsigned())
    }

    /// Removes the file of the device program.
    pub(in crate::cgroup) fn forget_program(&self) -> Result<()> {
        self.program.as_deref().map_or(Ok(()), devices::remove)
    }
}

fn has_put(dir: &Path, pid: i32) -> Result<()> {
    if members::pids(dir)?.contains(&pid) {
        return Ok(());
    }
    let tail = format!("systemd has not put process {pid} into the unit's cgroup");
    Err(Error::new(Code::Cgroup, tail)
        .path(dir)
        .hint("it may have another root of its cgroups than what is mounted here"))
}

/// The hierarchy that systemd puts processes into by itself.
fn systemd_has(group: &Group) -> bool {
    group.is_unified() || group.controllers.iter().any(|name| name == "name=systemd")
}

impl CgroupManager for Systemd<'_> {
    fn claim(&self) -> Result<()> {
        self.directories.claim()
    }

    /// A unit needs a process; only v1's directories can be there before it.
    fn begin(&self, limits: &Limits) -> Result<Made> {
        self.start.set(Start::None);
        match self.plan.version() {
            Version::V2 => Ok(Made::default()),
            Version::V1 => V1::new(self.plan).make(limits),
        }
    }

    /// The limits are for [`CgroupManager::place`] to write.
    fn finish(&self, _limits: &Limits) -> Result<()> {
        Ok(())
    }

    fn enabled(&self) -> Enabled {
        let mut enabled = self.enabled.borrow().clone();
        // What create has enabled and what update has are never both there.
        enabled.extend(self.directories.enabled());
        enabled
    }

    fn admit(&self) -> Result<()> {
        self.directories.admit()
    }

    fn place(&self, limits: &Limits, pid: i32) -> Result<()> {
        self.start(limits, pid)?;
        let joins = self.unit.is_slice();
        match (&self.plan.unified, self.plan.version()) {
            (Some(group), Version::V2) => {
                let dir = group.dir();
                let unit = self.unit.dir(&dir);
                let below = self.unit.has_subgroup();
                if below {
                    self.descend(group, unit, pid)?;
                }
                let joins = (joins && !below).then_some(pid);
                let programmed = self.unit.program.is_some() && device_attach::has_program(unit)?;
                let directory = V2::new(group);
                directory.adopt(limits, programmed, joins)?;
                self.enabled.replace(directory.enabled());
            }
            _ => V1::new(self.plan).adopt(limits, pid)?,
        }
        self.check(pid)
    }

    fn apply(&self, limits: &Limits) -> Result<()> {
        // Before anything is changed (memory.checkBeforeUpdate).
        let counts = |group: &&Group| group.is_unified() || group.has("memory");
        for group in self.plan.groups().filter(counts) {
            limits.check_usage(&group.dir())?;
        }
        let properties = self.unit.resources(limits);
        if !properties.is_empty() {
            Manager::connect(&self.unit.manager)?.set(&self.unit.name, &properties)?;
        }
        self.directories.apply(limits)
    }

    fn freeze(&self) -> Result<()> {
        self.directories.freeze()
    }

    fn thaw(&self) -> Result<()> {
        self.directories.thaw()
    }

    fn let_die(&self) -> Result<()> {
        self.directories.let_die()
    }

    fn frozen(&self) -> Result<bool> {
        self.directories.frozen()
    }

    fn processes(&self) -> Result<Vec<i32>> {
        self.directories.processes()
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        self.directories.signal_all(signal)
    }

    fn kill(&self) -> Result<()> {
        self.directories.kill()
    }

    /// The processes first, whom systemd would give a minute and a half.
    fn remove(&self) -> Result<()> {
        if self.start.get() == Start::None {
            // What was made here is empty; what is not is somebody else's. On v2 nothing was.
            let v1 = self.plan.version() == Version::V1;
            for group in self.plan.groups().filter(|_| v1) {
                let _ = unlinkat(AT_FDCWD, &group.dir(), UnlinkatFlags::RemoveDir);
            }
        } else {
            match (&self.plan.unified, self.plan.version()) {
                // A systemd that is stopping the unit already waits for word that the cgroup is empty,
                // which the kernel does not give of one that is gone.
                (Some(group), Version::V2) => {
                    remove::drain(self.unit.dir(&group.dir()))?;
                    let stopped = self.stop();
                    self.directories.remove()?;
                    stopped?;
                }
                _ => {
                    self.directories.remove()?;
                    self.stop()?;
                }
            }
        }
        self.unit.forget_program()
    }
}
