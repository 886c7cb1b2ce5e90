//! start: releases a created container and learns whether its program was executed.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::Container;
use super::hooks::copy;
use super::identity::has_ended;
use super::join::Joined;
use super::oom;
use super::options::Seal;
use super::state::{Record, Status};
use super::store::{GO, RESULT};
use crate::error::{Code, Error, Result};
use crate::launch::{progress, refusal};
use crate::plan::hooks::HookKind;
use crate::report::{REPORT_BYTES, Report};
use crate::sys::fd::retry;
use crate::sys::ioctl;

/// How often start looks whether the init that it waits for can move at all, in milliseconds.
const LOOK_AGAIN: u16 = 1_000;
/// How many looks it waits for one that is stopped.
const PATIENCE: u32 = 8;

const STOPPED: &str = "cannot start a container that has stopped";

fn already_running() -> Error {
    Error::new(
        Code::WrongStatus,
        "cannot start an already running container",
    )
    .hint("capsid exec runs a further command in it")
}

/// How a process ended that is gone already, where the kernel keeps account of it.
fn reaped(pidfd: &OwnedFd) -> Option<WaitStatus> {
    let end = ioctl::end_of_reaped(pidfd.as_fd())?;
    // Whose end it is, is known.
    WaitStatus::from_raw(Pid::from_raw(0), end).ok()
}

fn killed_by_filter(end: Option<WaitStatus>) -> bool {
    matches!(end, Some(WaitStatus::Signaled(_, Signal::SIGSYS, _)))
}

impl Container {
    /// Starts the program. Returns when execve(2) is known to have happened: a program whose
    /// file is cut short may still die of it.
    ///
    /// # Errors
    /// runc's texts for a container that is not `created`; the refusal of execve(2); a hook's
    /// failure ([`Code::Hook`]), after which the container is deleted.
    pub fn start(&self, seal: &Seal) -> Result<()> {
        let Seal::AlreadySealed = seal;
        self.locked()
            .and_then(Container::start_locked)
            .map_err(|error| {
                self.explain_start(error)
                    .during(format!("start {}", self.id))
            })
    }

    /// Names want of memory where init may have died of it.
    fn explain_start(&self, error: Error) -> Error {
        if error.tail() != STOPPED {
            return oom::explain(&self.journal.cgroup, error, 0, true);
        }
        // A start that succeeds leaves no fifo.
        let waited = self.state_dir.has(GO).unwrap_or(false);
        match self.oom_killed().filter(|it| waited && it.may_be_init()) {
            Some(killed) => {
                let limit = killed.memory_limit;
                let limit = limit.map_or_else(String::new, |n| {
                    format!(", with a memory limit of {n} bytes")
                });
                error.hint(format!(
                    "its init was possibly OOM-killed while it waited{limit}"
                ))
            }
            None => error.hint("delete it, and create it again"),
        }
    }

    /// Whether start enters the container, and so needs the seal.
    pub fn start_joins(&self) -> bool {
        let mut hooks = self.journal.hooks.iter();
        hooks.any(|hook| hook.kind == HookKind::StartContainer)
    }

    fn start_locked(self) -> Result<()> {
        match self.release() {
            Err(error) if error.code() == Code::Hook => {
                // runtime.md, "Lifecycle": the container is stopped and destroyed.
                if let Err(left) = self.dismantle() {
                    tracing::warn!("{left}");
                }
                Err(error)
            }
            result => result,
        }
    }

    fn release(&self) -> Result<()> {
        let wrong = |tail| Err(Error::new(Code::WrongStatus, tail));
        let instead = |tail, hint| wrong(tail).map_err(|error: Error| error.hint(hint));
        match self.status()? {
            Status::Created => {}
            Status::Stopped => return wrong(STOPPED),
            Status::Running => return Err(already_running()),
            Status::Paused => {
                let hint = "capsid resume lets it go on";
                return instead("cannot start a container in the paused state", hint);
            }
            Status::Creating => return wrong("cannot start a container that is being created"),
        }
        let Some(record) = &self.record else {
            return wrong(STOPPED);
        };
        let Some(pidfd) = record.init.open()? else {
            return wrong(STOPPED);
        };
        self.hooks_inside(&pidfd)?;
        let open = |name, flags| {
            self.state_dir
                .open_fifo(name, flags)
                .map_err(|errno| match errno {
                    Errno::ENXIO => self.unheard(),
                    errno => {
                        Error::call(Code::Io, "open", errno).path(self.state_dir.path().join(name))
                    }
                })
        };
        let result = open(RESULT, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        let go = open(GO, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?;
        retry(|| nix::unistd::write(&go, b"g")).map_err(|errno| match errno {
            Errno::EPIPE => self.unheard(),
            errno => Error::call(Code::Io, "write", errno),
        })?;
        match self.outcome(&result, &go, &pidfd)? {
            None if self.has_died(record, &pidfd)? => {
                let end = progress::of(record.init.pid, pidfd.as_fd());
                let end = end.and_then(|progress| progress.end());
                let end = end.or_else(|| reaped(&pidfd));
                Err(refusal::died(end, refusal::INIT, record.seccomp))
            }
            // Whoever waits for init was quicker than the look at how far it came.
            None if record.seccomp && killed_by_filter(reaped(&pidfd)) => {
                Err(refusal::killed_at_once(refusal::INIT))
            }
            None => {
                // Nobody reads them any more: left behind, they only lie about.
                for fifo in [GO, RESULT] {
                    if let Err(error) = self.state_dir.unlink(fifo) {
                        tracing::warn!("{error}");
                    }
                }
                let (hooks, pid) = (&self.journal.hooks, Some(record.init.pid));
                self.told().run_here(hooks, HookKind::Poststart, pid)
            }
            Some(error) => Err(error),
        }
    }

    /// Nobody reads `go` any more: between the look and now, init has died, or has executed its program
    /// because of a start that was killed since.
    fn unheard(&self) -> Error {
        match self.status() {
            Ok(Status::Running) => already_running(),
            _ => Error::new(Code::WrongStatus, STOPPED),
        }
    }

    /// Runs the startContainer hooks.
    fn hooks_inside(&self, pidfd: &OwnedFd) -> Result<()> {
        let (Some(record), true) = (&self.record, self.start_joins()) else {
            return Ok(());
        };
        let filter = self.own_filter(record)?;
        let joined = Joined {
            id: self.id.as_str(),
            pid: record.init.pid,
            pidfd: copy(pidfd)?,
            cgroup: &self.journal.cgroup,
            rdt: self.journal.rdt.as_ref(),
            conditions: &record.conditions,
            inherits_keyring: record.inherits_keyring,
            filter: filter.as_ref(),
        };
        let told = self.told();
        told.run_inside(&self.journal.hooks, &joined, &self.process()?)
    }

    /// Whether the init whose descriptors are closed has died without executing its program.
    fn has_died(&self, record: &Record, pidfd: &OwnedFd) -> Result<bool> {
        match progress::of(record.init.pid, pidfd.as_fd()) {
            Some(progress) => Ok(!progress.has_executed()),
            // Reaped: all that is left is whether it was released at all.
            None => self.is_unread(),
        }
    }

    /// Whether the word that releases init is still in the fifo.
    fn is_unread(&self) -> Result<bool> {
        let refused = |call| {
            move |errno| Error::call(Code::Io, call, errno).path(self.state_dir.path().join(GO))
        };
        let go = self
            .state_dir
            .open_fifo(GO, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
            .map_err(refused("open"))?;
        match retry(|| nix::unistd::read(&go, &mut [0])) {
            Err(Errno::EAGAIN) => Ok(false),
            read => Ok(read.map_err(refused("read"))? > 0),
        }
    }

    /// The end of `result` without a record is execve(2): the descriptor closed by itself.
    fn outcome(&self, result: &OwnedFd, go: &OwnedFd, pidfd: &OwnedFd) -> Result<Option<Error>> {
        // A start that was killed may have released init already. Where execve(2) closed `result`
        // before it was opened here, it never tells its end, but `go`, which is closed after it, does.
        let mut go = Some(go);
        let mut looks = 0;
        let mut said = None;
        // What comes last says most.
        let told = |said: Option<[u8; REPORT_BYTES]>| said.map(|it| self.refusal(&it)).transpose();
        loop {
            let mut polled = vec![
                PollFd::new(result.as_fd(), PollFlags::POLLIN),
                PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            ];
            polled.extend(go.map(|go| PollFd::new(go.as_fd(), PollFlags::empty())));
            match poll(&mut polled, PollTimeout::from(LOOK_AGAIN)) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::call(Code::Io, "poll", errno)),
                Ok(0) if looks == PATIENCE && self.is_stopped_by_signal() => {
                    return Ok(Some(
                        Error::new(Code::Deadline, "container init is stopped by a signal")
                            .hint("send it SIGCONT: it is released and will go on"),
                    ));
                }
                Ok(0) => {
                    looks = (looks + 1).min(PATIENCE);
                    continue;
                }
                Ok(_) => {}
            }
            if polled.get(2).and_then(PollFd::any) == Some(true) {
                go = None;
            }
            let mut record = [0; REPORT_BYTES];
            match nix::unistd::read(result, &mut record) {
                Ok(0) => return told(said),
                Ok(_) => said = Some(record),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    if has_ended(pidfd)? {
                        return match said {
                            None => Ok(Some(refusal::died(None, refusal::INIT, false))),
                            said => told(said),
                        };
                    }
                }
                Err(errno) => return Err(Error::call(Code::Io, "read", errno)),
            }
        }
    }

    /// SIGSTOP, or a tracer's stop: it would never come to its program by itself.
    fn is_stopped_by_signal(&self) -> bool {
        let pid = self.record.as_ref().map_or(0, |record| record.init.pid);
        let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| matches!(stat.state, 'T' | 't'))
    }

    fn refusal(&self, record: &[u8; REPORT_BYTES]) -> Result<Error> {
        let Some(Report::Failed {
            errno, call, note, ..
        }) = Report::parse(record)
        else {
            return Err(Error::new(
                Code::Process,
                "unreadable record from the child",
            ));
        };
        let spec = self.spec()?;
        let Some(process) = spec.config.process() else {
            return Ok(
                Error::new(Code::InvalidConfig, "process property must not be empty")
                    .at("/process"),
            );
        };
        let name = process
            .args()
            .as_ref()
            .and_then(|args| args.first().cloned());
        let name = name.unwrap_or_default();
        Ok(refusal::after_start(&name, &call, errno, &note))
    }
}
