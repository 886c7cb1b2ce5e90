//! cgroup v2 alone: one directory, born into by CLONE_INTO_CGROUP.
//!
//! Controllers are enabled down the path only when a file that is to be written is missing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::devices::DevicePolicy;
use super::freezer::Freezer;
use super::limits::{Limits, Setting};
use super::made::{Leaf, Made};
use super::members::{self, Members};
use super::plan::Group;
use super::settings::write_all;
use super::{CgroupManager, Enabled, delegate, device_attach, file, remove};
use crate::error::{Code, Error, Result};

/// The operations on a v2 plan.
pub(super) struct V2<'a> {
    group: &'a Group,
    /// The directory is of our own making: nobody can have put a program on it.
    fresh: Cell<bool>,
    enabled: RefCell<Enabled>,
}

impl<'a> V2<'a> {
    pub fn new(group: &'a Group) -> V2<'a> {
        V2 {
            group,
            fresh: Cell::new(false),
            enabled: RefCell::default(),
        }
    }

    /// Writes the limits to the directory that systemd has made, or that was made below it. The
    /// device program may be there already. A slice gets its process here.
    pub fn adopt(&self, limits: &Limits, programmed: bool, pid: Option<i32>) -> Result<()> {
        let dir = self.group.dir();
        self.write_all(limits)?;
        if let Some(DevicePolicy::Program(rules)) = &limits.devices
            && !programmed
        {
            device_attach::put(&dir, rules)?;
        }
        if let Some(owner) = limits.owner {
            delegate::give(&dir, owner)?;
        }
        pid.map_or(Ok(()), |pid| members::add(&dir, pid))
    }

    fn write_all(&self, limits: &Limits) -> Result<()> {
        let settings: Vec<_> = limits.settings.iter().collect();
        let enable = || self.enable(&settings);
        let written = write_all(&self.group.dir(), &settings, Some(&enable));
        written.map_err(|error| match error.os_error() {
            Some(Errno::ENOENT) => self.explain_threads(error),
            _ => error,
        })
    }

    /// A file may be missing because its controller does not exist for threads.
    fn explain_threads(&self, error: Error) -> Error {
        let mode = match self.mode().as_str() {
            "" | "domain" => return error,
            "domain invalid" => "an invalid state".to_owned(),
            mode => format!("{mode} mode"),
        };
        let dir = self.group.dir();
        let tail =
            format!("cannot enter cgroupv2 {dir:?} with domain controllers -- it is in {mode}");
        let threaded = Error::new(Code::Cgroup, tail).path(dir).hint(THREADED);
        match error.pointer() {
            Some(pointer) => threaded.at(pointer.to_owned()),
            None => threaded,
        }
    }

    fn mode(&self) -> String {
        file::read_line(&self.group.dir().join(TYPE)).unwrap_or_default()
    }

    /// Enables the controllers of these settings in every parent, from the mount down. What
    /// cannot be enabled may be enabled already (above a delegated subtree), so that only the
    /// missing file tells: an error here is the explanation for it.
    fn enable(&self, settings: &[&Setting]) -> std::result::Result<(), String> {
        let controllers: BTreeSet<_> = settings.iter().map(|s| s.controller_v2()).collect();
        let controllers: Vec<_> = controllers.into_iter().filter(|c| *c != "cgroup").collect();
        let leaf = self.group.dir();
        let mut parents: Vec<_> = leaf
            .ancestors()
            .skip(1)
            .take_while(|p| p.starts_with(&self.group.mount))
            .collect();
        let mut outcome = Ok(());
        while let Some(parent) = parents.pop() {
            let path = parent.join("cgroup.subtree_control");
            let there = file::read_line(&path).unwrap_or_default();
            let is_there = |controller: &&str| there.split(' ').any(|name| name == *controller);
            let lacking = controllers.iter().copied().filter(|it| !is_there(it));
            let lacking: Vec<_> = lacking.collect();
            if lacking.is_empty() {
                continue;
            }
            if file::write(&path, &format!("+{}", lacking.join(" +"))).is_ok() {
                self.remember(parent, &lacking);
                continue;
            }
            // All or nothing: the others can be had all the same.
            for controller in lacking {
                match file::write(&path, &format!("+{controller}")) {
                    Ok(()) => self.remember(parent, &[controller]),
                    Err(errno) => outcome = Err(why_not(controller, &path, errno)),
                }
            }
        }
        outcome
    }

    fn remember(&self, parent: &Path, controllers: &[&str]) {
        let mut enabled = self.enabled.borrow_mut();
        let list = enabled.entry(parent.to_path_buf()).or_default();
        list.extend(controllers.iter().map(|name| (*name).to_owned()));
    }
}

const TYPE: &str = "cgroup.type";
const THREADED: &str = "a parent is threaded, and threads have only the controllers cpu, cpuset, \
                        perf_event and pids";

fn why_not(controller: &str, path: &Path, errno: Errno) -> String {
    let of_user = |part: &Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b"user@");
    let unit = path.components().find(of_user);
    let path = path.display();
    match errno {
        Errno::ENOENT if unit.is_some() => format!(
            "{controller} is not delegated to {path}: as root, systemctl edit user@.service, with the lines \
             [Service] and Delegate=cpu cpuset io memory pids; then log in anew"
        ),
        Errno::EBUSY => format!("{controller} cannot be enabled in {path}: processes are in it"),
        Errno::ENOENT => format!("{controller} is not delegated to {path}"),
        Errno::EACCES | Errno::EPERM => format!("no permission to enable {controller} in {path}"),
        Errno::EOPNOTSUPP => format!("{controller} cannot be enabled in {path}: {THREADED}"),
        _ => format!("{controller} cannot be enabled in {path}"),
    }
}

impl CgroupManager for V2<'_> {
    fn claim(&self) -> Result<()> {
        remove::refuse_members(&self.group.dir())?;
        Freezer::V2.refuse_frozen(&self.group.dir())
    }

    fn begin(&self, limits: &Limits) -> Result<Made> {
        let mut made = Made::default();
        let leaf = made.leaf(self.group)?;
        self.fresh.set(leaf != Leaf::Found);
        if leaf == Leaf::Found {
            self.claim()?;
            limits.check_usage(&self.group.dir())?;
        }
        self.write_all(limits)?;
        if let Some(owner) = limits.owner {
            delegate::give(&self.group.dir(), owner)?;
        }
        Ok(made)
    }

    /// Compiling and loading the device program takes the kernel 0.2 ms.
    fn finish(&self, limits: &Limits) -> Result<()> {
        let dir = self.group.dir();
        match &limits.devices {
            Some(DevicePolicy::Program(rules)) if self.fresh.get() => {
                device_attach::first(&dir, rules)
            }
            Some(DevicePolicy::Program(rules)) => device_attach::put(&dir, rules),
            _ => Ok(()),
        }
    }

    fn enabled(&self) -> Enabled {
        self.enabled.borrow().clone()
    }

    fn admit(&self) -> Result<()> {
        if self.mode() != "domain invalid" {
            return Ok(());
        }
        let path = self.group.dir().join(TYPE);
        let threaded = file::write(&path, "threaded");
        threaded.map_err(|errno| {
            Error::call(Code::Cgroup, "write", errno)
                .doing(format!("set {} to threaded", path.display()))
                .hint(THREADED)
        })
    }

    fn apply(&self, limits: &Limits) -> Result<()> {
        limits.check_usage(&self.group.dir())?;
        self.write_all(limits)
    }

    fn freeze(&self) -> Result<()> {
        Freezer::V2.freeze(&self.group.dir())
    }

    fn thaw(&self) -> Result<()> {
        Freezer::V2.thaw(&self.group.dir())
    }

    fn frozen(&self) -> Result<bool> {
        Freezer::V2.frozen(&self.group.dir())
    }

    fn processes(&self) -> Result<Vec<i32>> {
        Ok(members::pids(&self.group.dir())?.into_iter().collect())
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        if signal == Signal::SIGKILL {
            return self.kill();
        }
        let dirs: [PathBuf; 1] = [self.group.dir()];
        Members(&dirs).signal(signal, &BTreeSet::new()).map(drop)
    }

    fn kill(&self) -> Result<()> {
        kill(&self.group.dir())
    }

    fn remove(&self) -> Result<()> {
        remove::remove(vec![self.group.dir()], || self.kill())
    }
}

/// cgroup.kill (cgroups(7), since Linux 5.14): all at once, below included, frozen or not,
/// and those that are being forked.
pub(super) fn kill(dir: &Path) -> Result<()> {
    match file::write(&dir.join("cgroup.kill"), "1") {
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(Error::call(Code::Cgroup, "write", errno).path(dir.join("cgroup.kill"))),
    }
}
