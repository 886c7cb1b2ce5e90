//! A process that the library started: a child of the caller, held by its pidfd.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::error::{Code, Error, Result};
use crate::sys::process::pidfd_send_signal;

/// A child of the caller. It isn't killed or reaped when this is dropped.
///
/// The caller must not ignore SIGCHLD, else the kernel keeps no status to wait for. When it
/// holds a container's init and processes exec'd into the same pid namespace, init's pidfd
/// stays silent until the others are reaped: poll all, reap in any order.
#[derive(Debug)]
pub struct Process {
    /// The pid as the caller's pid namespace numbers it.
    pub pid: i32,
    /// Becomes readable when the process has ended (pidfd_open(2)).
    pub pidfd: OwnedFd,
    /// The master of its terminal, when it has one and the caller asked for it.
    pub terminal: Option<OwnedFd>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this status, 0 to 255.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The status as a shell gives it: 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl Process {
    /// Waits for the end and reaps it.
    ///
    /// # Errors
    /// ECHILD when it was reaped already, or SIGCHLD is ignored.
    pub fn wait(&self) -> Result<Exit> {
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::__WALL;
            match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call(Code::Process, "waitid", errno)),
                Ok(WaitStatus::Exited(_, code)) => return Ok(Exit::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Exit::Signal(signal as i32)),
                Ok(_) => {}
            }
        }
    }

    /// Sends a signal by number; real-time ones as well.
    ///
    /// # Errors
    /// ESRCH when the process has been reaped; EINVAL for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<()> {
        pidfd_send_signal(self.pidfd.as_fd(), signal)
            .map_err(|errno| Error::call(Code::Process, "pidfd_send_signal", errno))
    }
}
