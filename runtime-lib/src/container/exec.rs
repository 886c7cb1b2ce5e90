//! exec: another process in a container, born in its cgroup and joined to its namespaces,
//! from the frozen copy of the configuration.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Container;
use super::create::check_preserved;
use super::handover::{Handover, PidfdReceiver};
use super::join::{Joined, stopped};
use super::oom;
use super::options::{ExecOptions, Seal};
use super::process::Process;
use super::seccomp_listener::{self, Listener};
use super::state::{Record, Status};
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error, Result};
use crate::launch::opens::open_directory;
use crate::launch::{Launched, Surroundings, launch};
use crate::plan::{Plan, validate};
use crate::seccomp::Filter;

impl Container {
    /// Executes a program in the container. Returns when execve(2) has happened.
    ///
    /// # Errors
    /// runc's texts for a container that is paused or stopped; what part of the process
    /// could not be had; the refusal of execve(2).
    pub fn exec(&self, options: &ExecOptions, seal: &Seal) -> Result<Process> {
        let killed = self.journal.cgroup.oom_kills();
        self.enter(options, seal)
            .map_err(|error| self.explain(error, killed, options))
            .map_err(|error| error.during(format!("exec in {}", self.id)))
    }

    fn enter(&self, options: &ExecOptions, seal: &Seal) -> Result<Process> {
        let Seal::AlreadySealed = seal;
        check(options)?;
        let (record, init) = self.running_init(options)?;
        let cgroup = match self.journal.cgroup.delegated {
            // Whoever manages the cgroups inside can't give controllers to one with a process.
            Some(_) if options.cgroups.is_empty() => self.cgroup_of_init(record.init.pid)?,
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
        let mut plan = self.plan_exec(options, (record, init), &cgroup, filter.as_ref())?;
        for notice in std::mem::take(&mut plan.notices) {
            notice.warn();
        }
        plan.trace();
        let handover = Handover::connect(
            &options.console,
            options.pidfd_socket.as_deref().map(PidfdReceiver::Socket),
            options.pid_file.as_deref(),
        )?;
        let linux = spec.as_ref().and_then(|spec| spec.config.linux().as_ref());
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        let listener = profile.map(|profile| Listener::connect(profile, asker));
        let listener = listener.transpose()?.flatten();
        let start = |plan: &Plan| self.launch(plan, options, &handover, listener.as_ref());
        let launched = match start(&plan) {
            // systemd inside has moved init below and given its controllers to the children.
            Err(error) if error.os_error() == Some(Errno::EBUSY) && options.cgroups.is_empty() => {
                let (record, init) = self.running_init(options)?;
                let cgroup = self.cgroup_of_init(record.init.pid)?;
                start(&self.plan_exec(options, (record, init), &cgroup, filter.as_ref())?)
            }
            result => result,
        }?;
        Ok(Process {
            pid: launched.pid,
            pidfd: launched.pidfd,
            terminal: launched.terminal.filter(|_| handover.keeps_terminal()),
        })
    }

    fn plan_exec(
        &self,
        options: &ExecOptions,
        (record, init): (&Record, OwnedFd),
        cgroup: &CgroupPlan,
        filter: Option<&Filter>,
    ) -> Result<Plan> {
        let joined = Joined {
            id: self.id.as_str(),
            pid: record.init.pid,
            pidfd: init,
            cgroup,
            rdt: self.journal.rdt.as_ref(),
            conditions: &record.conditions,
            inherits_keyring: record.inherits_keyring,
            filter,
        };
        joined.plan(options, None)
    }

    fn launch(
        &self,
        plan: &Plan,
        options: &ExecOptions,
        handover: &Handover<'_>,
        listener: Option<&Listener<'_>>,
    ) -> Result<Launched> {
        let directory = plan.cgroup.as_deref().map(open_directory).transpose()?;
        let give = |filter: OwnedFd, newborn: &Launched| match listener {
            Some(listener) => {
                let init = self.record.as_ref().map(|record| record.init.pid);
                let state = self.told().state(Status::Running.word(), init);
                listener.give(&filter, newborn.pid, state)
            }
            None => Ok(()),
        };
        let around = Surroundings {
            cgroup: directory.as_ref().map(|fd| fd.as_fd()),
            cancel: options.cancel.as_ref().map(|fd| fd.as_fd()),
            listener: listener.map(|_| &give as _),
            ..Surroundings::default()
        };
        launch(plan, around, |newborn| handover.give(newborn))
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

/// Refuses what is wrong whatever the container is like, before anything is opened here.
fn check(options: &ExecOptions) -> Result<()> {
    let problems = validate::process(&options.process, options.pointer);
    if let Some(error) = validate::first_named(problems) {
        return Err(error);
    }
    options
        .console
        .check(options.process.terminal().unwrap_or(false))?;
    check_preserved(options.preserve_fds)
}
