//! create and run: prepare everything, then claim, journal, place, launch, record.

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;

use super::cgroups::Cgroups;
use super::fifos::Fifos;
use super::handover::Handover;
use super::identity::Identity;
use super::notify;
use super::options::{CreateOptions, Seal};
use super::process::Process;
use super::state::Status;
use super::store::{CONFIG, JOURNAL, STATE, StateDir};
use super::{Container, ContainerId, Runtime};
use crate::error::{Code, Error, Result};
use crate::launch::{Launched, Meanwhile, Surroundings, launch};
use crate::overlay;
use crate::plan::Start;
use crate::plan::hooks::{Hook, HookKind};
use crate::rdt;

/// A container that exists, and its process, which is a child of the caller.
#[derive(Debug)]
pub struct Created {
    pub container: Container,
    pub process: Process,
    /// Of run with [`CreateOptions::notify`]: what its program says to sd_notify(3).
    pub notify: Option<OwnedFd>,
}

impl Runtime {
    /// Creates a container, whose process then waits for [`Container::start`].
    ///
    /// # Errors
    /// Whatever part of the configuration or of the machine refused; nothing is left behind.
    pub fn create(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        seal: &Seal,
    ) -> Result<Created> {
        self.begin(id, options, seal, Start::WhenTold)
            .map_err(|error| error.during(format!("create {id}")))
    }

    /// Creates a container whose process executes its program at once.
    ///
    /// # Errors
    /// As [`Runtime::create`], and the refusal of execve(2).
    pub fn run(&self, id: &ContainerId, options: &CreateOptions, seal: &Seal) -> Result<Created> {
        self.begin(id, options, seal, Start::AtOnce)
            .map_err(|error| error.during(format!("run {id}")))
    }

    fn begin(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
        seal: &Seal,
        start: Start,
    ) -> Result<Created> {
        let Seal::AlreadySealed = seal;
        check_preserved(options.preserve_fds)?;
        let prepared = self.prepare(id, options, start)?;
        for notice in &prepared.plan.notices {
            notice.warn();
        }
        prepared.plan.trace();
        let handover = Handover::connect(
            &options.console,
            options.pidfd_socket.as_deref(),
            options.pid_file.as_deref(),
        )?;
        let listener = prepared.listener()?;

        let mut state_dir = StateDir::claim(&self.root, id)?;
        prepared.cgroup.manager().claim()?;
        let journal = prepared.journal();
        state_dir.belongs_to(journal.overlay_ids.clone());
        let written = state_dir.record(JOURNAL, &journal)?;
        let cgroups = Cgroups::begin(&prepared)?;
        let rdt = prepared.rdt.as_ref().map(rdt::Group::make).transpose()?;
        if let Some(directories) = &prepared.plan.overlay {
            overlay::make(directories, &prepared.bundle.rootfs)?;
        }
        let mut listening = None;
        if options.notify {
            notify::make_directory(&state_dir)?;
            if start == Start::AtOnce {
                listening = notify::listen(state_dir.path())?;
            }
        }
        let fifos = match start {
            Start::WhenTold => Some(Fifos::make(&state_dir)?),
            Start::AtOnce => None,
        };
        let told = prepared.told(id);
        let begun = Cell::new(false);
        let run_hook = |hook: &Hook, newborn: &Launched| {
            begun.set(true);
            let cgroup = &prepared.cgroup;
            told.run_creating(hook, newborn, &prepared.bundle.rootfs, cgroup)
        };
        let give = |filter: OwnedFd, newborn: &Launched| match &listener {
            Some(listener) => {
                let state = told.state(Status::Creating.word(), Some(newborn.pid));
                listener.give(&filter, newborn.pid, state)
            }
            None => Ok(()),
        };
        let record = Cell::new(None);
        let write_down = |newborn: &Launched| {
            let init = Identity::of(newborn.pid, &newborn.pidfd)?;
            let taken = prepared.record(init);
            state_dir.stage_record(STATE, &taken)?;
            record.set(Some(taken));
            Ok(())
        };
        let meanwhile = Meanwhile {
            cgroups: &|| cgroups.finish(),
            rest: &|newborn| {
                state_dir.write(CONFIG, prepared.bundle.spec.text.as_bytes())?;
                prepared.freeze(&state_dir, &self.root)?;
                write_down(newborn)
            },
        };
        let admit = || cgroups.admit();
        let place = |newborn: &Launched| cgroups.place(newborn.pid);
        let around = Surroundings {
            admit: Some(&admit),
            meanwhile: Some(meanwhile),
            place: Some(&place),
            cgroup: cgroups.directory.as_ref().map(|fd| fd.as_fd()),
            handshake: fifos.as_ref().map(Fifos::handshake),
            hooks: Some(&run_hook),
            listener: listener.as_ref().map(|_| &give as _),
            ..Surroundings::default()
        };
        let launched = launch(&prepared.plan, around, |newborn| {
            // Written down meanwhile, unless the process proper has another pid.
            match record.take() {
                Some(taken) if taken.init.pid == newborn.pid => record.set(Some(taken)),
                _ => write_down(newborn)?,
            }
            state_dir.publish(STATE)?;
            handover.give(newborn)?;
            match start {
                Start::AtOnce => prepared.run_inside(&told, newborn),
                Start::WhenTold => Ok(()),
            }
        });
        let launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let error = cgroups.explain_death(error);
                if begun.get() || error.code() == Code::Hook {
                    // What the hooks of create have made, these take back.
                    drop(cgroups);
                    told.run_poststop(&prepared.plan.later);
                }
                return Err(error);
            }
        };
        let process = Process {
            pid: launched.pid,
            pidfd: launched.pidfd,
            terminal: launched.terminal.filter(|_| handover.keeps_terminal()),
        };
        let state_dir = state_dir.keep().inspect_err(|_| {
            // Everything else is taken back by whoever made it.
            let _ = process.signal(libc::SIGKILL);
            let _ = process.wait();
        })?;
        cgroups.keep();
        if let Some(rdt) = rdt {
            rdt.keep();
        }
        let created = Created {
            container: Container {
                runtime: self.clone(),
                id: id.clone(),
                state_dir,
                journal,
                written: Some(written),
                record: record.take(),
            },
            process,
            notify: listening,
        };
        if start == Start::AtOnce {
            let (hooks, pid) = (&prepared.plan.later, Some(created.process.pid));
            if let Err(error) = told.run_here(hooks, HookKind::Poststart, pid) {
                created.undo();
                return Err(error);
            }
        }
        Ok(created)
    }
}

impl Created {
    /// Takes back a container whose program runs already: runtime.md, "Lifecycle", poststart.
    fn undo(self) {
        let Created {
            container, process, ..
        } = self;
        if let Err(error) = container.delete(true) {
            tracing::warn!("{error}");
        }
        // Nobody else may: it is a child of the caller.
        let _ = process.wait();
    }
}

/// Asked before anything is opened here, which could take the missing number.
pub(super) fn check_preserved(count: u32) -> Result<()> {
    for number in 3..3u32.saturating_add(count) {
        crate::sys::fd::is_open(number as i32)
            .map_err(|errno| not_preserved(number, count).errno(errno))?;
    }
    Ok(())
}

/// The refusal of a descriptor that the caller has not passed on, of so many to be preserved.
pub fn not_preserved(number: u32, count: u32) -> Error {
    let tail = format!("stat /proc/self/fd/{number}: no such file or directory");
    Error::new(Code::InvalidArgument, tail)
        .doing(format!("unable to stat preserved-fd {number} (of {count})"))
        .hint("the descriptors after 2 are counted, and those of LISTEN_FDS first")
}
