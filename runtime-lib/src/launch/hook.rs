//! One hook from its clone to its end: it reads the container's state, has its time, and what
//! it says is kept for the error that it may be the cause of.
//!
//! The hook is waited for, not what it leaves behind: a process that outlives it and still
//! holds its output keeps nobody waiting.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::{Launched, Surroundings, launch, opens, reap};
use crate::error::{Code, Error, Result};
use crate::plan::Plan;
use crate::plan::hooks::{Hook, Streams};

/// How much of each output an error repeats: the last bytes.
const TAIL: usize = 4096;

/// What is read at once, and at most of what is left when the hook has ended: a pipe's fill.
const PART: usize = 64 * 1024;

/// Files that get what hooks say, besides the error.
#[derive(Clone, Copy, Default)]
pub struct Copies<'a> {
    pub stdout: Option<BorrowedFd<'a>>,
    pub stderr: Option<BorrowedFd<'a>>,
}

/// Runs a hook, and waits for its end, or until `cancel` is readable. `plan` makes the plan of the
/// child that becomes it.
///
/// # Errors
/// [`Code::Hook`]: it could not be executed, it ended with another status than 0, or it ran
/// past its timeout; with runc's tail. [`Code::Cancelled`]: nobody waits for it any longer.
pub fn run(
    hook: &Hook,
    state: &[u8],
    copies: Copies<'_>,
    cancel: Option<BorrowedFd<'_>>,
    plan: impl FnOnce(Streams) -> Result<Plan>,
) -> Result<()> {
    let (kind, index) = (hook.kind.word(), hook.index);
    let failed = |why: String| {
        Error::new(
            Code::Hook,
            format!("error running {kind} hook #{index}: {why}"),
        )
        .doing(hook.to_string())
        .at(hook.pointer())
    };
    let (launched, mut outputs) = begin(state, copies, cancel, plan).map_err(|error| {
        if error.code() == Code::Cancelled {
            return given_up(hook);
        }
        let path = hook.path.display();
        let mut refused = failed(format!("fork/exec {path}: {}", why(&error)));
        if let Some(errno) = error.os_error() {
            refused = refused.errno(errno);
        }
        match (error.advice(), error.failed_call(), error.os_error()) {
            (Some(hint), ..) => refused.hint(hint),
            (None, Some("stat"), Some(Errno::ENOENT | Errno::ENOTDIR)) => {
                refused.hint(match hook.kind.is_in_root() {
                    true => "its path is one of the container's root filesystem",
                    false => "its path is one of the host, not of the container",
                })
            }
            _ => refused,
        }
    })?;
    let said = |outputs: [Output<'_>; 2]| {
        let [stdout, stderr] = outputs.map(Output::text);
        format!("stdout: {stdout}, stderr: {stderr}")
    };
    match attend(&launched, &mut outputs, hook.timeout, cancel)? {
        End::Itself(Some(WaitStatus::Exited(_, 0))) => Ok(()),
        End::GivenUp => Err(given_up(hook)),
        End::Late => {
            let seconds = hook.timeout.unwrap_or_default();
            let said = said(outputs);
            let why = format!("hook ran past specified timeout of {seconds}.0s, {said}");
            Err(failed(why).hint("its processes were killed"))
        }
        End::Itself(ended) => {
            let how = match ended {
                Some(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
                Some(WaitStatus::Signaled(_, signal, _)) => format!("signal: {}", words(signal)),
                _ => "it is gone".to_owned(),
            };
            Err(failed(format!("{how}, {}", said(outputs))))
        }
    }
}

fn given_up(hook: &Hook) -> Error {
    Error::new(Code::Cancelled, "interrupted")
        .doing(hook.to_string())
        .at(hook.pointer())
        .hint("its processes were killed, and the container was taken back")
}

/// The last part of an error of the launch: an errno, or what had to be done before.
fn why(error: &Error) -> String {
    match (error.step(), error.os_error()) {
        (Some("execute the program" | "find the program"), Some(errno)) => {
            crate::error::errno_text(errno)
        }
        (Some(step), _) => format!("{step}: {}", error.tail()),
        (None, _) => error.tail().to_owned(),
    }
}

/// A signal in Go's words, where it has some of its own.
fn words(signal: Signal) -> String {
    match signal {
        Signal::SIGKILL => "killed".to_owned(),
        Signal::SIGTERM => "terminated".to_owned(),
        Signal::SIGSEGV => "segmentation fault".to_owned(),
        Signal::SIGABRT => "aborted".to_owned(),
        signal => signal.as_str().to_owned(),
    }
}

fn begin<'a>(
    state: &[u8],
    copies: Copies<'a>,
    cancel: Option<BorrowedFd<'_>>,
    plan: impl FnOnce(Streams) -> Result<Plan>,
) -> Result<(Launched, [Output<'a>; 2])> {
    let pipe = || {
        nix::unistd::pipe2(OFlag::O_CLOEXEC)
            .map_err(|errno| Error::call(Code::Process, "pipe2", errno))
    };
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    let plan = plan(Streams([document(state)?, stdout, stderr]))?;
    let cgroup = plan
        .cgroup
        .as_deref()
        .map(opens::open_directory)
        .transpose()?;
    let around = Surroundings {
        cgroup: cgroup.as_ref().map(|fd| fd.as_fd()),
        cancel,
        ..Surroundings::default()
    };
    plan.trace();
    let launched = launch(&plan, around, |_| Ok(()))?;
    let outputs = [(out, copies.stdout), (err, copies.stderr)];
    Ok((
        launched,
        outputs.map(|(pipe, copy)| Output {
            pipe: Some(pipe),
            copy,
            last: Vec::new(),
        }),
    ))
}

/// A file in memory: it is read at the hook's own pace, and nobody has to write along.
fn document(state: &[u8]) -> Result<OwnedFd> {
    let file = memfd_create("state", MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| Error::call(Code::Process, "memfd_create", errno))?;
    let mut file = std::fs::File::from(file);
    file.write_all(state)
        .and_then(|()| file.rewind())
        .map_err(|error| Error::io(Code::Process, "write", &error))?;
    Ok(file.into())
}

/// What ended the wait for a hook.
enum End {
    /// The hook has ended; None: somebody else has reaped it.
    Itself(Option<WaitStatus>),
    /// Its time was up, and its process group was killed.
    Late,
    /// The caller gave up, and its process group was killed.
    GivenUp,
}

fn attend(
    hook: &Launched,
    outputs: &mut [Output<'_>; 2],
    timeout: Option<u64>,
    cancel: Option<BorrowedFd<'_>>,
) -> Result<End> {
    // Safe by number: its leader is a child of ours that nobody has reaped.
    let kill = || {
        let _ = killpg(Pid::from_raw(hook.pid), Signal::SIGKILL);
        reap(hook.pidfd.as_fd());
    };
    let deadline = timeout.and_then(|t| Instant::now().checked_add(Duration::from_secs(t)));
    loop {
        let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(Duration::ZERO) => {
                kill();
                outputs.iter_mut().for_each(Output::read);
                return Ok(End::Late);
            }
            // One more, because a part of a millisecond would be none.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let (ended, given_up) = {
            let mut watched = vec![PollFd::new(hook.pidfd.as_fd(), PollFlags::POLLIN)];
            watched.extend(cancel.map(|cancel| PollFd::new(cancel, PollFlags::POLLIN)));
            let open = outputs.iter().filter_map(|output| output.pipe.as_ref());
            watched.extend(open.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            match poll(&mut watched, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call(Code::Process, "poll", errno)),
            }
            let ready = |at| watched.get(at).and_then(PollFd::any) == Some(true);
            (ready(0), cancel.is_some() && ready(1))
        };
        for output in &mut *outputs {
            output.read();
        }
        if ended {
            return Ok(End::Itself(reap(hook.pidfd.as_fd())));
        }
        if given_up {
            kill();
            return Ok(End::GivenUp);
        }
    }
}

/// One of a hook's two outputs.
struct Output<'a> {
    /// None: nobody writes any more.
    pipe: Option<OwnedFd>,
    copy: Option<BorrowedFd<'a>>,
    last: Vec<u8>,
}

impl Output<'_> {
    /// Takes what there is, without waiting for more.
    fn read(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut ready, PollTimeout::ZERO), Ok(1..)) {
            return;
        }
        let mut part = vec![0; PART];
        match nix::unistd::read(pipe, &mut part) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(count) => {
                let part = part.get(..count).unwrap_or_default();
                if let Some(copy) = self.copy {
                    // A full disk is no failure of the hook's.
                    let _ = nix::unistd::write(copy, part);
                }
                self.last.extend(part);
                let past = self.last.len().saturating_sub(TAIL);
                self.last.drain(..past);
            }
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.last).trim_end().to_owned()
    }
}
