//! What the parent does while a container comes to be: what has to be there before its first
//! process, and what that process is given while it works or waits.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::cgroups::Cgroups;
use super::fifos::Fifos;
use super::filters;
use super::handover::Handover;
use super::hooks::copy;
use super::identity::Identity;
use super::join::Joined;
use super::options::CreateOptions;
use super::prepared::Prepared;
use super::seccomp_listener::Listener;
use super::state::{Journal, Record, Status};
use super::store::{CONFIG, JOURNAL, STATE, StateDir};
use super::told::Told;
use super::{ContainerId, Runtime};
use super::{notify, overlay_dir};
use crate::error::{Code, Error, Result};
use crate::launch::{Launched, Meanwhile, Surroundings, launch};
use crate::overlay;
use crate::plan::Start;
use crate::plan::hooks::Hook;
use crate::rdt;

/// What is on the machine before the process. Each part takes itself back unless it is kept, in
/// this order.
pub(super) struct Ground<'plan> {
    fifos: Option<Fifos>,
    /// What the program of run says to sd_notify(3).
    listening: Option<OwnedFd>,
    rdt: Option<rdt::Made>,
    cgroups: Cgroups<'plan>,
    journal: Journal,
    /// The journal's file.
    written: File,
    state_dir: StateDir,
}

impl<'plan> Ground<'plan> {
    /// Claims the id, writes down what there may be to take back, and makes it.
    pub(super) fn lay(
        runtime: &Runtime,
        id: &ContainerId,
        prepared: &'plan Prepared,
        options: &CreateOptions,
        start: Start,
    ) -> Result<Ground<'plan>> {
        let mut state_dir = StateDir::claim(runtime.root(), id)?;
        prepared.cgroup.manager().claim()?;
        let overlay_dir = prepared.overlay_dir.as_deref();
        let claimed = overlay_dir
            .map(|directory| overlay_dir::claim(runtime, id, directory))
            .transpose()?;
        let journal = prepared.journal();
        state_dir.belongs_to(journal.overlay_ids.clone());
        let written = state_dir.record(JOURNAL, &journal)?;
        drop(claimed);
        tracing::debug!(
            "what is to be made is noted in {}",
            state_dir.path().display()
        );
        let cgroups = Cgroups::begin(prepared)?;
        let rdt = prepared.rdt.as_ref().map(rdt::Group::make).transpose()?;
        if let Some(directories) = &prepared.plan.overlay {
            overlay::make(directories, &prepared.bundle.rootfs)?;
        }
        if options.notify {
            notify::make_directory(&state_dir)?;
        }
        let listening = match start {
            Start::AtOnce if options.notify => notify::listen(state_dir.path())?,
            _ => None,
        };
        let fifos = match start {
            Start::WhenTold => Some(Fifos::make(&state_dir)?),
            Start::AtOnce => None,
        };
        Ok(Ground {
            fifos,
            listening,
            rdt,
            cgroups,
            journal,
            written,
            state_dir,
        })
    }

    /// The container exists: what it needs stays, and others may have its lock.
    pub(super) fn keep(self) -> Result<Kept> {
        let state_dir = self.state_dir.keep()?;
        self.cgroups.keep();
        if let Some(rdt) = self.rdt {
            rdt.keep();
        }
        Ok(Kept {
            state_dir,
            journal: self.journal,
            written: self.written,
            listening: self.listening,
        })
    }

    /// Names want of memory where the process has died of it.
    pub(super) fn explain_death(&self, error: Error) -> Error {
        self.cgroups.explain_death(error)
    }
}

/// What is left of [`Ground`] when the container exists.
pub(super) struct Kept {
    pub state_dir: StateDir,
    pub journal: Journal,
    pub written: File,
    pub listening: Option<OwnedFd>,
}

/// What the launch asks of a create, in the order in which it does.
pub(super) struct Birth<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) ground: &'a Ground<'a>,
    pub(super) handover: &'a Handover<'a>,
    pub(super) listener: Option<&'a Listener<'a>>,
    pub(super) told: Told<'a>,
    /// The state root.
    pub(super) root: &'a Path,
    pub(super) start: Start,
    /// The state as it was staged.
    pub(super) record: RefCell<Option<Record>>,
    /// A hook has begun.
    pub(super) hooked: Cell<bool>,
}

impl Birth<'_> {
    /// The process at its program, or waiting for start.
    pub(super) fn launch(&self) -> Result<Launched> {
        let around = Surroundings {
            cgroup: self.ground.cgroups.directory.as_ref().map(AsFd::as_fd),
            handshake: self.ground.fifos.as_ref().map(Fifos::handshake),
            admit: Some(&|| self.ground.cgroups.admit()),
            meanwhile: Some(Meanwhile {
                cgroups: &|| self.ground.cgroups.finish(),
                rest: &|newborn| self.write_files(newborn),
            }),
            start_unit: Some(&|newborn| self.ground.cgroups.place(newborn.pid)),
            hooks: Some(&|hook, newborn| self.run_hook(hook, newborn)),
            cancel: self.told.cancel,
            silent: Some(&|newborn| self.look_for_frozen(newborn)),
            listener: match self.listener {
                Some(_) => Some(&|filter, newborn| self.give_filter(filter, newborn)),
                None => None,
            },
            ..Surroundings::default()
        };
        launch(&self.prepared.plan, around, |newborn| self.ready(newborn))
    }

    /// While the process mounts.
    fn write_files(&self, newborn: &Launched) -> Result<()> {
        let (state_dir, bundle) = (&self.ground.state_dir, &self.prepared.bundle);
        tracing::debug!("process {} is at its steps", newborn.pid);
        // Nobody reads it before the state is published.
        state_dir.write_first(CONFIG, bundle.spec.text.as_bytes())?;
        self.freeze()?;
        self.stage(newborn)
    }

    /// Keeps the filter for exec, and for the next container.
    fn freeze(&self) -> Result<()> {
        let prepared = self.prepared;
        let (Some((_, filter)), Some(known)) = (prepared.seccomp(), &prepared.filter) else {
            return Ok(());
        };
        let (state_dir, found) = (&self.ground.state_dir, known.found.as_ref());
        filters::freeze(state_dir, &known.key, filter, found)?;
        // One that came with notices is compiled anew, so that they are said again.
        let below = |pointer: &str| pointer.starts_with("/linux/seccomp/syscalls");
        let quiet = !prepared.plan.notices.iter().any(|it| below(&it.pointer));
        if found.is_none()
            && quiet
            && let Err(error) = filters::keep(state_dir, self.root, &known.key)
        {
            tracing::debug!("the seccomp filter is not kept for later: {error}");
        }
        Ok(())
    }

    fn stage(&self, newborn: &Launched) -> Result<()> {
        let init = Identity::of(newborn.pid, &newborn.pidfd)?;
        let enabled = self.ground.cgroups.enabled();
        let record = self.prepared.record(init, enabled);
        self.ground.state_dir.stage_record(STATE, &record)?;
        self.record.replace(Some(record));
        Ok(())
    }

    /// While the process says nothing: nobody would thaw it.
    fn look_for_frozen(&self, newborn: &Launched) -> Result<()> {
        let cgroup = &self.prepared.cgroup;
        let Some(above) = cgroup.frozen_above() else {
            return Ok(());
        };
        if let Err(error) = cgroup.take_out(&above, newborn.pid) {
            tracing::warn!("{error}");
        }
        Err(
            Error::new(Code::Cgroup, "container's cgroup unexpectedly frozen")
                .path(above)
                .hint("the container's lies below it, and nothing in it would run"),
        )
    }

    /// At a barrier.
    fn run_hook(&self, hook: &Hook, newborn: &Launched) -> Result<()> {
        self.hooked.set(true);
        let (rootfs, cgroup) = (&self.prepared.bundle.rootfs, &self.prepared.cgroup);
        self.told.run_creating(hook, newborn, rootfs, cgroup)
    }

    /// While the process waits for it.
    fn give_filter(&self, filter: OwnedFd, newborn: &Launched) -> Result<()> {
        let Some(listener) = self.listener else {
            return Ok(());
        };
        let state = self.told.state(Status::Creating.word(), Some(newborn.pid));
        listener.give(&filter, newborn.pid, state)
    }

    /// The process would execute its program next.
    fn ready(&self, newborn: &Launched) -> Result<()> {
        tracing::debug!("process {} has done them up to its program", newborn.pid);
        // The process proper may be a child of the one that was cloned, and systemd may have made its
        // cgroup since.
        let enabled = self.ground.cgroups.enabled();
        let as_it_is =
            |staged: &Record| staged.init.pid == newborn.pid && staged.subtree_control == enabled;
        let staged = self.record.borrow().as_ref().is_some_and(as_it_is);
        if !staged {
            self.stage(newborn)?;
        }
        self.ground.cgroups.delegate(newborn.pid)?;
        self.ground.state_dir.publish(STATE)?;
        self.handover.give(newborn)?;
        match self.start {
            Start::AtOnce => self.run_inside(newborn),
            Start::WhenTold => Ok(()),
        }
    }

    /// Runs the startContainer hooks of a process that waits to execute its program.
    fn run_inside(&self, newborn: &Launched) -> Result<()> {
        let prepared = self.prepared;
        let process = prepared.bundle.spec.config.process();
        let (Some(process), false) = (process, prepared.plan.later.is_empty()) else {
            return Ok(());
        };
        let joined = Joined {
            id: self.told.id,
            pid: newborn.pid,
            pidfd: copy(&newborn.pidfd)?,
            cgroup: &prepared.cgroup,
            rdt: prepared.rdt.as_ref(),
            conditions: &prepared.conditions,
            inherits_keyring: prepared.inherits_keyring,
            filter: prepared.plan.filter(),
        };
        self.told.run_inside(&prepared.plan.later, &joined, process)
    }

    /// Whether hooks have made what the poststop hooks are there to take back.
    pub(super) fn has_run_hooks(&self, error: &Error) -> bool {
        self.hooked.get() || error.code() == Code::Hook
    }

    pub(super) fn record(self) -> Option<Record> {
        self.record.into_inner()
    }
}
