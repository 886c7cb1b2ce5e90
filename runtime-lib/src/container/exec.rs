//! exec: another process in a container, born in its cgroup and joined to its namespaces,
//! from the frozen copy of the configuration.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::stat;
use nix::unistd::geteuid;
use oci_spec::runtime::Process as Described;

use super::Container;
use super::create::check_preserved;
use super::filters;
use super::handover::{Handover, PidfdReceiver};
use super::identity::wait_end;
use super::oom;
use super::options::{ExecOptions, Seal};
use super::process::Process;
use super::seccomp_listener::{self, Listener};
use super::state::{Record, Status};
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error, Result};
use crate::launch::opens::open_directory;
use crate::launch::{Launched, Surroundings, launch};
use crate::plan::hooks::{Hook, Streams};
use crate::plan::{
    self, Conditions, ExecRequest, Limiter, Modules, Plan, Scorer, in_user_namespace, validate,
};
use crate::rdt;
use crate::seccomp::{self, Filter};
use crate::step::words::NAMESPACES;

/// How long a process may take from losing its namespaces to its end, in milliseconds.
const LAST_BREATH: u16 = 1_000;

impl Container {
    /// Executes a program in the container. Returns when execve(2) has happened.
    ///
    /// # Errors
    /// runc's texts for a container that is paused or stopped; what part of the process
    /// could not be had; the refusal of execve(2).
    pub fn exec(&self, options: &ExecOptions, seal: &Seal) -> Result<Process> {
        let killed = self.journal.cgroup.oom_kills();
        self.join(options, seal)
            .map_err(|error| self.explain(error, killed, options))
            .map_err(|error| error.during(format!("exec in {}", self.id)))
    }

    fn join(&self, options: &ExecOptions, seal: &Seal) -> Result<Process> {
        let Seal::AlreadySealed = seal;
        let problems = validate::process(&options.process, options.pointer);
        if let Some(error) = validate::first_named(problems) {
            return Err(error);
        }
        options
            .console
            .check(options.process.terminal().unwrap_or(false))?;
        check_preserved(options.preserve_fds)?;
        let (record, init) = self.running_init(options)?;
        let pid = record.init.pid;
        let cgroup = match self.journal.cgroup.delegated {
            // Whoever manages the cgroups inside can't give controllers to one with a process.
            Some(_) if options.cgroups.is_empty() => self.cgroup_of_init(pid)?,
            _ => self.journal.cgroup.below(&options.cgroups)?,
        };
        let filter = self.own_filter(record)?;
        let mut spec = match &filter {
            Some(filter) if filter.listens() => Some(self.spec()?),
            _ => None,
        };
        let receiver = options.seccomp_receiver.as_deref();
        let asker = spec
            .as_mut()
            .and_then(|spec| seccomp_listener::name(spec, receiver));
        let plan = |pidfd, cgroup| {
            let joined = Joined {
                id: self.id.as_str(),
                pid,
                pidfd,
                cgroup,
                rdt: self.journal.rdt.as_ref(),
                conditions: &record.conditions,
                inherits_keyring: record.inherits_keyring,
                filter: filter.as_ref(),
            };
            joined.plan(options, None)
        };
        let mut first = plan(init, &cgroup)?;
        for notice in std::mem::take(&mut first.notices) {
            notice.warn();
        }
        first.trace();
        let handover = Handover::connect(
            &options.console,
            options.pidfd_socket.as_deref().map(PidfdReceiver::Socket),
            options.pid_file.as_deref(),
        )?;
        let linux = spec.as_ref().and_then(|spec| spec.config.linux().as_ref());
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        let listener = profile.map(|profile| Listener::connect(profile, asker));
        let listener = listener.transpose()?.flatten();
        let give = |filter: OwnedFd, newborn: &Launched| match &listener {
            Some(listener) => {
                let state = self
                    .told()
                    .state(Status::Running.word(), Some(record.init.pid));
                listener.give(&filter, newborn.pid, state)
            }
            None => Ok(()),
        };
        let start = |plan: &Plan| {
            let directory = plan.cgroup.as_deref().map(open_directory).transpose()?;
            let around = Surroundings {
                cgroup: directory.as_ref().map(|fd| fd.as_fd()),
                cancel: options.cancel.as_ref().map(|fd| fd.as_fd()),
                listener: listener.as_ref().map(|_| &give as _),
                ..Surroundings::default()
            };
            launch(plan, around, |newborn| handover.give(newborn))
        };
        let launched = match start(&first) {
            // systemd inside has moved init below and given its controllers to the children.
            Err(error) if error.os_error() == Some(Errno::EBUSY) && options.cgroups.is_empty() => {
                let (_, init) = self.running_init(options)?;
                start(&plan(init, &self.cgroup_of_init(pid)?)?)
            }
            result => result,
        }?;
        Ok(Process {
            pid: launched.pid,
            pidfd: launched.pidfd,
            terminal: launched.terminal.filter(|_| handover.keeps_terminal()),
        })
    }

    /// The container may have ended at any moment of the join: whatever refused, that is why.
    fn explain(&self, error: Error, killed: u64, options: &ExecOptions) -> Error {
        let named = error.code() == Code::Cgroup && !options.cgroups.is_empty();
        if named {
            let paths = options.cgroups.iter().map(|one| one.path.to_string_lossy());
            let paths: Vec<_> = paths.collect();
            let error = error.doing(format!(
                "put the process into the cgroup {}",
                paths.join(", ")
            ));
            return match error.os_error() {
                Some(Errno::ENOENT) => error.hint("it is below the container's, and has to exist"),
                _ => error,
            };
        }
        match self.has_ended_under(&error) {
            true => stopped().hint("it has ended meanwhile, or is about to"),
            false => oom::explain(&self.journal.cgroup, error, killed, false),
        }
    }

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

    /// The init process of a container that exec may enter.
    fn running_init(&self, options: &ExecOptions) -> Result<(&Record, OwnedFd)> {
        match self.status()? {
            Status::Created | Status::Running => {}
            Status::Paused if options.ignore_paused => {}
            Status::Paused => {
                return Err(Error::new(
                    Code::WrongStatus,
                    "cannot exec in a paused container (use --ignore-paused to override)",
                ));
            }
            Status::Stopped | Status::Creating => return Err(stopped()),
        }
        let record = self.record.as_ref().ok_or_else(stopped)?;
        let pidfd = record.init.open()?.ok_or_else(stopped)?;
        Ok((record, pidfd))
    }

    /// The container's cgroups, but the unified one is the one that init is in now.
    fn cgroup_of_init(&self, pid: i32) -> Result<CgroupPlan> {
        let path = format!("/proc/{pid}/cgroup");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::io(Code::Cgroup, "read", &error).path(&path))?;
        let mut cgroup = self.journal.cgroup.clone();
        let own = text.lines().find_map(|line| line.strip_prefix("0::"));
        match (&mut cgroup.unified, own) {
            (Some(group), Some(own)) => {
                if let Some(unit) = &mut cgroup.systemd
                    && let Ok(below) = Path::new(own).strip_prefix(&group.path)
                {
                    unit.below = below.to_path_buf();
                }
                group.path = PathBuf::from(own);
                Ok(cgroup)
            }
            _ => Err(Error::new(Code::Cgroup, "cgroup not exist").path(&path)),
        }
    }
}

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
            limiter: Limiter::here(),
            inherits_keyring: self.inherits_keyring,
            filter: self.filter,
            hook,
        })
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
