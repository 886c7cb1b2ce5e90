//! cgroup v1 and hybrid hosts: one directory in each hierarchy, and one in cgroup2 beside
//! them where that is mounted. The controllers are v1's.
//!
//! The processes themselves join, by the `tasks` files: nothing here moves anybody.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::devices::{DevicePolicy, Exceptions};
use super::freezer::Freezer;
use super::limits::{Limits, Setting};
use super::made::{Leaf, Made};
use super::members::{self, Members};
use super::plan::{CgroupPlan, Group};
use super::remove::{self, DEADLINE};
use super::v2::attach_devices;
use super::{CgroupManager, file};
use crate::error::{Code, Error, Result};

/// The operations on a v1 or hybrid plan.
pub(super) struct V1<'a> {
    plan: &'a CgroupPlan,
}

impl<'a> V1<'a> {
    pub fn new(plan: &'a CgroupPlan) -> V1<'a> {
        V1 { plan }
    }

    fn dirs(&self) -> Vec<PathBuf> {
        self.plan.groups().map(Group::dir).collect()
    }

    /// The directory whose freezer stops the container: v1's, as tools look there, else
    /// cgroup2's, which every kernel that has it can freeze.
    fn freezer(&self) -> Option<(Freezer, PathBuf)> {
        let v1 = self.plan.legacy.iter().find(|group| group.has("freezer"));
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
        match self.freezer() {
            Some((freezer, dir)) if freezer.frozen(&dir)? => {
                Err(Error::new(Code::Cgroup, "container's cgroup unexpectedly frozen").path(dir))
            }
            _ => Ok(()),
        }
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
        for dir in self.dirs() {
            remove::refuse_members(&dir)?;
        }
        self.refuse_frozen()
    }

    fn prepare(&self, limits: &Limits) -> Result<()> {
        let mut made = Made::default();
        for group in self.plan.groups() {
            let leaf = made.leaf(group)?;
            if leaf == Leaf::Found {
                remove::refuse_members(&group.dir())?;
            }
            if group.has("cpuset") {
                cpuset(group, leaf, limits)?;
            }
            write_all(&group.dir(), &limits.of(group))?;
            match &limits.devices {
                Some(DevicePolicy::Files(rules)) if group.has("devices") => {
                    write_devices(&group.dir(), rules)?;
                }
                Some(DevicePolicy::Program(rules)) if group.controllers.is_empty() => {
                    attach_devices(&group.dir(), rules)?;
                }
                _ => {}
            }
            if leaf == Leaf::Found && group.has("freezer") {
                self.refuse_frozen()?;
            }
        }
        made.keep();
        Ok(())
    }

    fn apply(&self, limits: &Limits) -> Result<()> {
        for group in &self.plan.legacy {
            write_all(&group.dir(), &limits.of(group))?;
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

/// Writes the settings of one directory, in the order of the table.
///
/// # Errors
/// [`Code::Cgroup`], with the file, the value, the JSON pointer and what the kernel accepts.
pub(super) fn write_all(dir: &Path, settings: &[&Setting]) -> Result<()> {
    let mut rest = settings;
    while let [setting, after @ ..] = rest {
        rest = after;
        let path = dir.join(setting.file);
        match file::write(&path, &setting.value) {
            Err(Errno::EINVAL) if setting.row.with_next => {
                if let [next, after @ ..] = rest
                    && next.row.controller == setting.row.controller
                {
                    rest = after;
                    write_one(dir, next)?;
                }
                write_one(dir, setting)?;
            }
            result => written(setting, &path, result)?,
        }
    }
    Ok(())
}

fn write_one(dir: &Path, setting: &Setting) -> Result<()> {
    let path = dir.join(setting.file);
    written(setting, &path, file::write(&path, &setting.value))
}

/// Turns the outcome of a write into an error that says all about it.
pub(super) fn written(setting: &Setting, path: &Path, result: nix::Result<()>) -> Result<()> {
    let errno = match result {
        Ok(()) => return Ok(()),
        Err(Errno::ENOENT) if setting.may_be_absent() => return Ok(()),
        Err(errno) => errno,
    };
    let tail = format!(
        "write {}: {}",
        path.display(),
        crate::error::errno_text(errno)
    );
    let error = Error::new(Code::Cgroup, tail)
        .syscall("write")
        .errno(errno)
        .doing(format!("set {} to {}", setting.file, setting.value))
        .at(setting.row.pointer)
        .path(path);
    Err(match errno {
        Errno::ENOENT if setting.row.pointer.ends_with("swap") => {
            error.hint("this kernel does not account swap (boot option swapaccount=1)")
        }
        Errno::ENOENT => error.hint(format!(
            "the {} controller is not available here",
            setting.row.controller
        )),
        Errno::EBUSY => error.hint("more is in use already"),
        Errno::EOPNOTSUPP => error.hint("the parent is in a threaded subtree (cgroup.type)"),
        Errno::EINVAL | Errno::ERANGE | Errno::ENOSPC => error.hint(setting.row.range),
        Errno::EACCES | Errno::EPERM => {
            error.hint(format!("{}; or no permission", setting.row.range))
        }
        _ => error,
    })
}

const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// A new cpuset is empty, and nothing can join it then: what the config does not set is
/// copied from the parent.
fn cpuset(group: &Group, leaf: Leaf, limits: &Limits) -> Result<()> {
    let dir = group.dir();
    let parents_are_new = leaf == Leaf::New { parents: true };
    if parents_are_new {
        seed_parent(&group.mount, &dir)?;
    }
    let set = limits.of(group);
    for name in CPUSET
        .into_iter()
        .filter(|name| !set.iter().any(|s| s.file == *name))
    {
        if leaf == Leaf::Found && !read_cpuset(&dir, name)?.is_empty() {
            continue;
        }
        seed(&group.mount, &dir, name)?;
    }
    Ok(())
}

fn seed_parent(mount: &Path, dir: &Path) -> Result<()> {
    match dir
        .parent()
        .filter(|parent| *parent != mount && parent.starts_with(mount))
    {
        Some(parent) => {
            CPUSET
                .into_iter()
                .try_for_each(|name| match read_cpuset(parent, name)?.is_empty() {
                    true => seed(mount, parent, name),
                    false => Ok(()),
                })
        }
        None => Ok(()),
    }
}

/// Fills an empty file from the parent's, and the parent's first where that is empty too.
fn seed(mount: &Path, dir: &Path, name: &str) -> Result<()> {
    let Some(parent) = dir.parent().filter(|parent| parent.starts_with(mount)) else {
        return Ok(());
    };
    let mut value = read_cpuset(parent, name)?;
    if value.is_empty() {
        seed(mount, parent, name)?;
        value = read_cpuset(parent, name)?;
    }
    let path = dir.join(name);
    file::write(&path, &value).map_err(|errno| {
        Error::call(Code::Cgroup, "write", errno)
            .doing(format!("copy the parent's {name}, {value}"))
            .path(path)
    })
}

fn read_cpuset(dir: &Path, name: &str) -> Result<String> {
    let path = dir.join(name);
    file::read_line(&path).map_err(|errno| Error::call(Code::Cgroup, "read", errno).path(path))
}

/// Each line is one write to an open file. `a` resets the exceptions too.
fn write_devices(dir: &Path, rules: &Exceptions) -> Result<()> {
    let [default, other] = rules.files();
    let lines = rules.lines();
    let lines = lines.iter().map(String::as_str);
    commands(&dir.join(default), std::iter::once("a"))?;
    commands(&dir.join(other), lines)
}

fn commands<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Result<()> {
    let refused = |line: &str, errno| {
        Error::call(Code::Cgroup, "write", errno)
            .doing(format!("write {line} to {}", path.display()))
            .at("/linux/resources/devices")
            .hint("a cgroup cannot allow what its parent denies")
    };
    let mut lines = lines.peekable();
    let Some(first) = lines.peek() else {
        return Ok(());
    };
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| refused(first, errno))?;
    for line in lines {
        file::write_to(file.as_fd(), line).map_err(|errno| refused(line, errno))?;
    }
    Ok(())
}
