//! create and run: prepare everything, connect what the answer goes to, claim, journal, begin the cgroups, launch
//! (the rest of the cgroups and the record are made while the child works).

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;

use super::birth::{Birth, Ground};
use super::handover::{Handover, PidfdReceiver};
use super::options::{CreateOptions, Seal};
use super::prepared::Prepared;
use super::process::Process;
use super::seccomp_listener::Listener;
use super::told::Told;
use super::{Container, ContainerId, Runtime};
use crate::error::{Code, Error, Result};
use crate::plan::Start;
use crate::plan::hooks::HookKind;
use crate::seal;

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
        let told = prepared.told(id);
        let handover = Handover::connect(
            &options.console,
            PidfdReceiver::of(options.pidfd_socket.as_deref(), told.annotations),
            options.pid_file.as_deref(),
        )?;
        let listener = listener(&prepared)?;

        let ground = Ground::lay(self, id, &prepared, options, start)?;
        let cancel = options.cancel.as_ref().map(|fd| fd.as_fd());
        let birth = Birth {
            prepared: &prepared,
            ground: &ground,
            handover: &handover,
            listener: listener.as_ref(),
            told: Told { cancel, ..told },
            root: &self.root,
            start,
            record: RefCell::default(),
            hooked: Cell::default(),
        };
        let launched = match birth.launch() {
            Ok(launched) => launched,
            Err(error) => {
                let error = ground.explain_death(error);
                let hooked = birth.has_run_hooks(&error);
                drop(ground);
                if hooked {
                    told.run_poststop(&prepared.plan.later);
                }
                return Err(error);
            }
        };
        let record = birth.record();
        let process = Process {
            pid: launched.pid,
            pidfd: launched.pidfd,
            terminal: launched.terminal.filter(|_| handover.keeps_terminal()),
        };
        let kept = ground.keep().inspect_err(|_| {
            // Everything else is taken back by whoever made it.
            let _ = process.signal(libc::SIGKILL);
            let _ = process.wait();
        })?;
        let created = Created {
            container: Container {
                runtime: self.clone(),
                id: id.clone(),
                state_dir: kept.state_dir,
                journal: kept.journal,
                written: Some(kept.written),
                record,
            },
            process,
            notify: kept.listening,
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

/// Connects to whoever listens to the filter.
fn listener(prepared: &Prepared) -> Result<Option<Listener<'_>>> {
    match prepared.seccomp() {
        Some((profile, filter)) if filter.listens() => {
            Listener::connect(profile, prepared.bundle.listens)
        }
        _ => Ok(None),
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
    if count > 0 {
        // Its number is not one of the caller's.
        seal::let_go();
    }
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
