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
        let mut above = Vec::new();
        let mut refused: Vec<(&str, Errno)> = Vec::new();
        while let Some(parent) = parents.pop() {
            if !refused.is_empty() {
                above.push(parent.parent().unwrap_or(parent).join(CONTROL));
                refused.clear();
            }
            let path = parent.join(CONTROL);
            let there = file::read_line(&path).unwrap_or_default();
            let is_there = |controller: &&str| there.split(' ').any(|name| name == *controller);
            let lacking = controllers.iter().copied().filter(|it| !is_there(it));
            let lacking: Vec<_> = lacking.collect();
            if lacking.is_empty() {
                continue;
            }
            if file::write(&path, &plus(&lacking)).is_ok() {
                self.remember(parent, &lacking);
                continue;
            }
            // All or nothing: the others can be had all the same.
            for controller in lacking {
                match file::write(&path, &plus(&[controller])) {
                    Ok(()) => self.remember(parent, &[controller]),
                    Err(errno) => refused.push((controller, errno)),
                }
            }
        }
        match refused.first() {
            Some(_) => Err(why_not(&refused, &leaf, &above)),
            None => Ok(()),
        }
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

const CONTROL: &str = "cgroup.subtree_control";

/// The controllers as the file takes them.
fn plus(controllers: &[&str]) -> String {
    format!("+{}", controllers.join(" +"))
}

/// What systemd can give to a user (systemd.resource-control(5), `Delegate=`).
const OF_A_USER: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
const DROP_IN: &str = "/etc/systemd/system/user@.service.d";

/// Why the parent of `leaf` doesn't have these controllers, all of them, and the line that gives them.
/// `above`: the files further up that lack some as well.
fn why_not(refused: &[(&str, Errno)], leaf: &Path, above: &[PathBuf]) -> String {
    let mut kinds: Vec<(Errno, Vec<&str>)> = Vec::new();
    for (controller, errno) in refused {
        match kinds.iter_mut().find(|kind| kind.0 == *errno) {
            Some(kind) => kind.1.push(controller),
            None => kinds.push((*errno, vec![controller])),
        }
    }
    let parent = leaf.parent().unwrap_or(leaf);
    let told = kinds
        .iter()
        .map(|(errno, controllers)| why(*errno, controllers, parent, above));
    told.collect::<Vec<_>>().join("; ")
}

/// Whether the cgroup of this file has all of these to give, as far as it says.
fn may_give(file: &Path, controllers: &[&str]) -> bool {
    let has = file::read_line(&file.with_file_name("cgroup.controllers"));
    has.map_or(true, |has| {
        let has: Vec<&str> = has.split(' ').collect();
        controllers.iter().all(|it| has.contains(it))
    })
}

fn why(errno: Errno, controllers: &[&str], parent: &Path, above: &[PathBuf]) -> String {
    let of_user = |part: &Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b"user@");
    let names = controllers.join(", ");
    let place = parent.display();
    match errno {
        Errno::ENOENT
            if parent.components().any(|part| of_user(&part))
                && controllers.iter().all(|it| OF_A_USER.contains(it)) =>
        {
            format!(
                "not delegated to {place}: {names}; as root: mkdir -p {DROP_IN} && \
                 (echo '[Service]'; echo 'Delegate={}') >{DROP_IN}/delegate.conf && \
                 systemctl daemon-reload; then log in anew",
                OF_A_USER.join(" ")
            )
        }
        Errno::ENOENT
            if above
                .first()
                .is_some_and(|file| may_give(file, controllers)) =>
        {
            let files: Vec<String> = above
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            format!(
                "not delegated to {place}: {names}; as root: echo '{}' | tee {}",
                plus(controllers),
                files.join(" ")
            )
        }
        Errno::ENOENT => {
            format!("not delegated to {place}: {names}; its cgroup.controllers lists what it has")
        }
        Errno::EBUSY => {
            format!("processes are in {place}, so that it can't enable {names}: move them below it")
        }
        Errno::EACCES | Errno::EPERM => {
            format!("no permission to enable {names} in {place}/{CONTROL}")
        }
        Errno::EOPNOTSUPP => format!("{names} cannot be enabled in {place}: {THREADED}"),
        _ => format!("{names} cannot be enabled in {place}"),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::limits::Version;
    use crate::spec::Resources;

    /// Why a group without any file of a cgroup can't have limits of memory and pids.
    fn refusal(mount: &Path, path: &str) -> String {
        let group = Group {
            controllers: Vec::new(),
            mount: mount.to_path_buf(),
            path: path.into(),
        };
        std::fs::create_dir_all(group.dir()).unwrap();
        let asked = json!({"memory": {"limit": 4194304}, "pids": {"limit": 5}});
        let resources = Resources::new(asked).unwrap();
        let typed = resources.typed().unwrap();
        let limits = Limits::read(Version::V2, Some(&typed), Some(resources.asked())).unwrap();
        V2::new(&group).write_all(&limits).unwrap_err().to_string()
    }

    #[test]
    fn every_controller_that_is_not_delegated_is_named_with_the_line_that_gives_it() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        let told = refusal(mount, "/user@1000.service/app.slice/x");
        let expected = format!(
            "(/linux/resources/memory/limit): \
             not delegated to {0}/user@1000.service/app.slice: memory, pids; as root: \
             mkdir -p /etc/systemd/system/user@.service.d && (echo '[Service]'; \
             echo 'Delegate=cpu cpuset io memory pids') >/etc/systemd/system/user@.service.d/delegate.conf && \
             systemctl daemon-reload; then log in anew: ",
            mount.display()
        );
        assert!(told.contains(&expected), "{told}\n{expected}");
    }

    #[test]
    fn whoever_has_no_systemd_is_told_the_files_above() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        let told = refusal(mount, "/a/b/x");
        let expected = format!(
            "not delegated to {0}/a/b: memory, pids; as root: echo '+memory +pids' | \
             tee {0}/cgroup.subtree_control {0}/a/cgroup.subtree_control: ",
            mount.display()
        );
        assert!(told.contains(&expected), "{told}\n{expected}");
        // What the topmost has not can't be had by writing.
        std::fs::write(mount.join("cgroup.controllers"), "cpu pids\n").unwrap();
        let told = refusal(mount, "/a/b/x");
        assert!(!told.contains("tee"), "{told}");
        let told = refusal(mount, "/x");
        let expected = format!(
            "not delegated to {}: memory, pids; its cgroup.controllers lists what it has: ",
            mount.display()
        );
        assert!(told.contains(&expected), "{told}\n{expected}");
    }
}
