//! The parent's end of the socket to its child: reads what the child says, acts at its barriers,
//! and lets it go on; or ends it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::devices::Moved;
use super::{GiveListener, Launched, Meanwhile, RunHook, StartUnit, Surroundings, WhileSilent};
use super::{actions, progress, reap, refusal};
use crate::error::{Code, Error, Result};
use crate::plan::{Plan, Planned, seccomp};
use crate::report::{self, REPORT_BYTES, Report};
use crate::step::{Barrier, Step};
use crate::sys::{fd, process};

/// How long a killed process may take to end before it is left to itself, in milliseconds.
const LAST_BREATH: u16 = 200;

/// How often a child that says nothing is looked after.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Serves one child; dropped early, it kills and reaps it.
pub(super) struct Server<'a> {
    plan: &'a Plan,
    channel: OwnedFd,
    newborn: Option<Launched>,
    /// They return with the child's end.
    devices: Moved,
    /// The intermediate has not yet named the process proper.
    forks: bool,
    waits_for_start: bool,
    hooks: Option<RunHook<'a>>,
    start_unit: Option<StartUnit<'a>>,
    cancel: Option<BorrowedFd<'a>>,
    listener: Option<GiveListener<'a>>,
    silent: Option<WhileSilent<'a>>,
    deadline: Option<Instant>,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        channel: OwnedFd,
        newborn: Launched,
        around: &Surroundings<'a>,
    ) -> Server<'a> {
        let forks = |planned: &Planned| matches!(planned.step, Step::Fork { .. });
        Server {
            plan,
            channel,
            newborn: Some(newborn),
            devices: Moved::default(),
            forks: plan.steps.iter().any(forks),
            waits_for_start: around.handshake.is_some(),
            hooks: around.hooks,
            start_unit: around.start_unit,
            cancel: around.cancel,
            listener: around.listener,
            silent: around.silent,
            deadline: around.patience.map(|patience| Instant::now() + patience),
        }
    }

    /// What is done while the child does what needs nobody.
    pub(super) fn meanwhile(&self, meanwhile: Meanwhile<'_>) -> Result<()> {
        let files = (meanwhile.cgroups)()?;
        self.send_all(&files)?;
        fd::close_all(files);
        match &self.newborn {
            Some(newborn) => (meanwhile.rest)(newborn),
            None => Ok(()),
        }
    }

    /// Serves the child up to its program, or to waiting for start; see [`super::launch`].
    pub(super) fn serve(
        &mut self,
        ready: impl FnOnce(&mut Launched) -> Result<()>,
    ) -> Result<Launched> {
        let mut ready = Some(ready);
        // Both processes of a fork write to one socket: a barrier may overtake the pid, and so may a
        // failure, after which a process that nobody has adopted would stay a zombie.
        let mut early = None;
        loop {
            let report = match early.take() {
                Some(report) if !self.forks => Some(report),
                kept => {
                    early = kept;
                    self.receive()?
                }
            };
            match report {
                Some(Report::Forked { pid }) => self.adopt(pid)?,
                Some(Report::Terminal | Report::Shown) => {}
                Some(
                    report @ (Report::Reached(_) | Report::Listener { .. } | Report::Failed { .. }),
                ) if self.forks && !self.is_intermediates(&report) => early = Some(report),
                Some(Report::Listener { number }) => self.fetch_listener(number)?,
                Some(Report::Reached(barrier)) => {
                    let newborn = self.newborn.as_mut().ok_or_else(gone)?;
                    let (hooks, unit) = (self.hooks, self.start_unit);
                    actions::perform(self.plan, barrier, newborn, hooks, unit, &mut self.devices)?;
                    if barrier == Barrier::Ready
                        && let Some(ready) = ready.take()
                        && let Err(refusal) = ready(newborn)
                    {
                        self.send_back()?;
                        return Err(refusal);
                    }
                    // Not write(2), whose SIGPIPE would be the caller's.
                    match fd::send(self.channel.as_raw_fd(), &report::GO, &[]) {
                        Ok(()) => {}
                        Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(self.death()),
                        Err(errno) => return Err(Error::call(Code::Process, "sendmsg", errno)),
                    }
                    if barrier == Barrier::Ready && self.waits_for_start {
                        break;
                    }
                }
                Some(failed @ Report::Failed { .. }) => {
                    let failed = self.last_word(failed);
                    return Err(self.refused(&failed));
                }
                // Every copy of the socket is closed: by execve after Ready, else by death.
                None if ready.is_none() && self.has_executed() => break,
                None => {
                    return Err(match early {
                        // The intermediate's own: it has not forked.
                        Some(failed @ Report::Failed { .. }) => self.refused(&failed),
                        _ => self.death(),
                    });
                }
            }
        }
        self.devices.keep();
        self.newborn.take().ok_or_else(gone)
    }

    /// The child of a refused plan takes back what it has made in places that outlast it; all
    /// others are just killed.
    fn send_back(&mut self) -> Result<()> {
        let makes = |planned: &Planned| matches!(planned.step, Step::MakeMount(_));
        if self.plan.steps.iter().any(makes)
            && fd::send(self.channel.as_raw_fd(), &report::BACK, &[]).is_ok()
        {
            self.receive()?;
        }
        Ok(())
    }

    /// Only a filter keeps a process from saying that it wasn't executed.
    fn has_executed(&self) -> bool {
        let newborn = self.newborn.as_ref();
        self.plan.filter().is_none()
            || newborn
                .and_then(|newborn| progress::of(newborn.pid, newborn.pidfd.as_fd()))
                .is_none_or(|progress| progress.has_executed())
    }

    /// A program that was not executed is reported twice: the second time with the reason, as
    /// far as the process could look for it.
    fn last_word(&mut self, mut failed: Report) -> Report {
        let executes = |report: &Report| match report {
            Report::Failed { step, .. } => self.plan.steps.get(*step),
            _ => None,
        };
        if executes(&failed).is_some_and(|planned| planned.step == Step::Execute)
            && let Ok(Some(fuller @ Report::Failed { .. })) = self.receive()
        {
            failed = fuller;
        }
        failed
    }

    /// A child that has ended meanwhile is found out about by the next to receive.
    fn send_all(&self, files: &[OwnedFd]) -> Result<()> {
        for some in files.chunks(fd::AT_ONCE) {
            let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            match fd::send(self.channel.as_raw_fd(), b"c", &some) {
                Ok(()) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
                Err(errno) => return Err(Error::call(Code::Process, "sendmsg", errno)),
            }
        }
        Ok(())
    }

    /// Whether it is the intermediate that has reached this, on its way to the fork.
    fn is_intermediates(&self, report: &Report) -> bool {
        let Report::Reached(reached) = report else {
            return false;
        };
        let mut steps = self.plan.steps.iter().map(|planned| &planned.step);
        let first =
            steps.find(|step| matches!(step, Step::Fork { .. }) || **step == Step::Meet(*reached));
        matches!(first, Some(Step::Meet(_)))
    }

    /// A failure in the words of its step.
    fn refused(&self, report: &Report) -> Error {
        match report {
            Report::Failed {
                step,
                errno,
                call,
                note,
            } => refusal::refused(self.plan, *step, *errno, call, note),
            _ => gone(),
        }
    }

    /// The next report; None at the end of the stream.
    fn receive(&mut self) -> Result<Option<Report>> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        let refused = |errno| Error::call(Code::Process, "recvmsg", errno);
        let mut record = [0; REPORT_BYTES];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let (bytes, fd) = loop {
            let mut parts = [std::io::IoSliceMut::new(&mut record)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(
                self.channel.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                flags,
            ) {
                // The child has ended without reading all, which is said once: its last record
                // comes next.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                // See [`super::LOOK_UP`].
                Err(Errno::EAGAIN) => self.wait_or_cancel()?,
                Err(errno) => return Err(refused(errno)),
                Ok(message) => {
                    let mut passed = None;
                    for control in message.cmsgs().map_err(refused)? {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            passed = fds.first().map(|number| fd::take(*number));
                        }
                    }
                    break (message.bytes, passed);
                }
            }
        };
        if bytes == 0 {
            return Ok(None);
        }
        let report = Report::parse(&record)
            .ok_or_else(|| Error::new(Code::Process, "unreadable record from the child"))?;
        if let (Some(fd), Some(newborn)) = (fd, self.newborn.as_mut()) {
            match report {
                Report::Shown => newborn.shown.push(fd),
                _ => newborn.terminal = Some(fd),
            }
        }
        Ok(Some(report))
    }

    /// Waits for the child, for the caller to give it up, or for the end of its time.
    fn wait_or_cancel(&mut self) -> Result<()> {
        let given_up = loop {
            if let (Some(silent), Some(newborn)) = (self.silent, &self.newborn)
                && let Err(refusal) = silent(newborn)
            {
                break refusal;
            }
            let left = match self.deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            let next = match self.silent {
                Some(_) => left.min(LOOK_AGAIN),
                None => left,
            };
            let timeout = match next {
                Duration::MAX => PollTimeout::NONE,
                next => PollTimeout::try_from(next).unwrap_or(PollTimeout::MAX),
            };
            let mut watched = [Some(self.channel.as_fd()), self.cancel]
                .map(|fd| PollFd::new(fd.unwrap_or(self.channel.as_fd()), PollFlags::POLLIN));
            match poll(&mut watched, timeout) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::call(Code::Process, "poll", errno)),
                Ok(0) if left.is_zero() => {
                    break Error::new(Code::Deadline, "deadline exceeded").hint(
                        "a file system of the container didn't answer, and the process that \
                         waited for it was killed",
                    );
                }
                Ok(0) => continue,
                Ok(_) => {}
            }
            match watched.map(|fd| fd.any() == Some(true)) {
                [false, true] => {
                    break Error::new(Code::Cancelled, "interrupted")
                        .hint("the process had not executed its program yet, and was killed");
                }
                _ => return Ok(()),
            }
        };
        if let Some(newborn) = self.newborn.take() {
            // In a frozen cgroup v1 it ends when that is thawed, and in a call to a FUSE server
            // when that answers: nobody waits for it.
            let _ = process::pidfd_send_signal(newborn.pidfd.as_fd(), libc::SIGKILL);
            let mut ended = [PollFd::new(newborn.pidfd.as_fd(), PollFlags::POLLIN)];
            if let Ok(1) = fd::retry(|| poll(&mut ended, PollTimeout::from(LAST_BREATH))) {
                reap(newborn.pidfd.as_fd());
            }
        }
        Err(given_up)
    }

    /// Takes the listener out of the waiting child and gives it away, then lets the child go on.
    fn fetch_listener(&self, number: i32) -> Result<()> {
        let newborn = self.newborn.as_ref().ok_or_else(gone)?;
        let fetched = process::pidfd_getfd(newborn.pidfd.as_fd(), number);
        let listener = fetched.map_err(|errno| {
            Error::call(Code::Process, "pidfd_getfd", errno).at(seccomp::POINTER)
        })?;
        if let Some(give) = self.listener {
            give(listener, newborn)?;
        }
        fd::send(self.channel.as_raw_fd(), &report::GO, &[])
            .map_err(|errno| Error::call(Code::Died, "sendmsg", errno))
    }

    /// The process proper takes the place of the intermediate, which has ended.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        // Safe by number: it is a child of ours that nobody has reaped.
        let pidfd = process::pidfd_open(pid)
            .map_err(|errno| Error::call(Code::Process, "pidfd_open", errno))?;
        let proper = Launched {
            pid,
            pidfd,
            // The terminal may have overtaken the pid, too.
            terminal: self.newborn.as_mut().and_then(|it| it.terminal.take()),
            shown: Vec::new(),
        };
        if let Some(intermediate) = self.newborn.replace(proper) {
            reap(intermediate.pidfd.as_fd());
        }
        self.forks = false;
        Ok(())
    }

    /// The child is gone without a word.
    fn death(&mut self) -> Error {
        let how = self
            .newborn
            .take()
            .and_then(|newborn| reap(newborn.pidfd.as_fd()));
        let joins = |planned: &Planned| matches!(planned.step, Step::JoinProcess { .. });
        let who = match self.plan.steps.iter().any(joins) {
            true => "the process",
            false => refusal::INIT,
        };
        refusal::died(how, who, self.plan.filter().is_some())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if let Some(newborn) = self.newborn.take() {
            // It may have ended by itself, which is as good.
            let _ = process::pidfd_send_signal(newborn.pidfd.as_fd(), libc::SIGKILL);
            reap(newborn.pidfd.as_fd());
        }
    }
}

fn gone() -> Error {
    Error::new(Code::Died, "container process is gone")
}
