//! What everybody needs to join a container that exists: exec, the hooks and the mounts that go
//! in, and start, whose init is one that waits.

use std::os::fd::OwnedFd;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::stat;
use nix::unistd::geteuid;
use oci_spec::runtime::Process as Described;

use super::Container;
use super::filters;
use super::identity::wait_end;
use super::options::ExecOptions;
use super::state::Record;
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error, Result};
use crate::host::{Modules, in_user_namespace};
use crate::launch::opens::open_directory;
use crate::plan::hooks::{Hook, Streams};
use crate::plan::{self, Conditions, ExecRequest, Limiter, Plan, Scorer};
use crate::rdt;
use crate::seccomp::{self, Filter};
use crate::step::words::NAMESPACES;

/// How long a process may take from losing its namespaces to its end, in milliseconds.
const LAST_BREATH: u16 = 1_000;

/// A container's init, and what else a process that joins it has to know.
pub(super) struct Joined<'a> {
    pub id: &'a str,
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub cgroup: &'a CgroupPlan,
    pub rdt: Option<&'a rdt::Group>,
    pub conditions: &'a Conditions,
    pub inherits_keyring: bool,
    pub filter: Option<&'a Filter>,
}

impl Joined<'_> {
    /// The plan of the process, or of the hook that takes its place.
    pub fn plan(self, options: &ExecOptions, hook: Option<(&Hook, Streams)>) -> Result<Plan> {
        let namespaces = differing_namespaces(self.pid)?;
        let shared = !namespaces.contains(CloneFlags::CLONE_NEWNS);
        plan::exec(ExecRequest {
            id: self.id,
            scorer: scorer(&options.process),
            init: self.pidfd,
            // A hook runs before init has gone into its root.
            root: match shared && hook.is_none() {
                true => Some(open_directory(format!("/proc/{}/root", self.pid).as_ref())?),
                false => None,
            },
            namespaces,
            groups_denied: groups_denied(self.pid),
            cgroup: self.cgroup,
            rdt: self.rdt,
            conditions: self.conditions,
            modules: Modules::probe(Some(&options.process), None),
            options,
            limiter: limiter(),
            inherits_keyring: self.inherits_keyring,
            filter: self.filter,
            hook,
        })
    }
}

impl Container {
    /// Whether an error of whoever joins the container is one because it has ended.
    pub(super) fn has_ended_under(&self, error: &Error) -> bool {
        match error.code() {
            Code::Died | Code::Namespace | Code::Cgroup | Code::Process => {}
            _ => return false,
        }
        // Whoever has lost its namespaces is past its end, however long the kernel takes with
        // the rest: init's last act is to wait for all others of its pid namespace.
        if error.code() == Code::Namespace
            && error.failed_call() == Some("stat")
            && error.os_error() == Some(Errno::ENOENT)
        {
            return true;
        }
        // A dying process loses its namespaces a moment before its pidfd says so.
        let patience = match error.os_error() {
            None | Some(Errno::ENOENT | Errno::ESRCH | Errno::ENODEV) => LAST_BREATH,
            _ => 0,
        };
        match self.record.as_ref().map(|record| record.init.open()) {
            Some(Ok(Some(init))) => wait_end(&init, patience.into()).unwrap_or(false),
            Some(Ok(None)) => true,
            _ => false,
        }
    }

    /// The seccomp filter that the container was created with.
    pub(super) fn own_filter(&self, record: &Record) -> Result<Option<Filter>> {
        if !record.seccomp {
            return Ok(None);
        }
        if let Some(filter) = filters::frozen(&self.state_dir)? {
            return Ok(Some(filter));
        }
        let spec = self.spec()?;
        let linux = spec.config.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        Ok(profile.map(|profile| seccomp::compile(profile, seccomp::native()).filter))
    }
}

/// Who may limit a process in the caller's own user namespace.
fn limiter() -> Limiter {
    match caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE) {
        Ok(true) => Limiter::Parent,
        _ => Limiter::Child,
    }
}

/// Who sets the OOM score of a process that joins.
fn scorer(process: &Described) -> Scorer {
    let scored = process.oom_score_adj().is_some();
    match geteuid().is_root() {
        false => Scorer::Child,
        true if scored && in_user_namespace() => Scorer::LenientParent,
        true => Scorer::Parent,
    }
}

pub(super) fn stopped() -> Error {
    Error::new(Code::NotRunning, "cannot exec in a stopped container")
}

/// The namespaces of a process that are not the caller's: setns(2) refuses some that are.
pub(super) fn differing_namespaces(pid: i32) -> Result<CloneFlags> {
    let mut differing = CloneFlags::empty();
    for (flag, _, name) in NAMESPACES {
        let inode = |who: &str| stat(format!("/proc/{who}/ns/{name}").as_str()).map(|s| s.st_ino);
        match (inode("self"), inode(&pid.to_string())) {
            (Ok(ours), Ok(theirs)) if ours != theirs => differing |= flag,
            // A kind that this kernel doesn't have.
            (Ok(_), Ok(_)) | (Err(Errno::ENOENT), _) => {}
            (_, Err(errno)) | (Err(errno), _) => {
                return Err(Error::call(Code::Namespace, "stat", errno)
                    .path(format!("/proc/{pid}/ns/{name}")));
            }
        }
    }
    Ok(differing)
}

/// A user namespace whose gid_map its owner wrote without privileges allows no setgroups(2).
fn groups_denied(pid: i32) -> bool {
    let said = std::fs::read_to_string(format!("/proc/{pid}/setgroups"));
    said.is_ok_and(|word| word.trim_end() == "deny")
}
