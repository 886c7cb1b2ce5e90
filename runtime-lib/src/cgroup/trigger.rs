//! Being told when a container's processes wait too long: the triggers of pressure stall
//! information (Linux's Documentation/accounting/psi.rst).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::file;
use super::plan::CgroupPlan;
use crate::error::{Code, Error, Result};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Cpu,
    Memory,
    Io,
}

/// How many of the processes have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    Some,
    Full,
}

/// A bound on waiting: so long in all in any such window. The kernel takes windows of 0.5 to 10
/// seconds, and from a caller without CAP_SYS_RESOURCE only multiples of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub resource: Resource,
    pub waiting: Waiting,
    pub stall: Duration,
    pub window: Duration,
}

impl CgroupPlan {
    /// A descriptor that answers poll(2) with POLLPRI each time the bound is passed, once a
    /// window at most, and with POLLERR when the cgroup is gone.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where the kernel counts no pressure, or there is no cgroup2;
    /// [`Code::Cgroup`].
    pub(crate) fn watch_pressure(&self, trigger: &Trigger) -> Result<OwnedFd> {
        let lacking = |hint: &str| {
            Error::new(Code::Unsupported, "pressure is not counted here").hint(hint.to_owned())
        };
        let Some(group) = &self.unified else {
            return Err(lacking("only cgroup2 counts it"));
        };
        let path = group.dir().join(match trigger.resource {
            Resource::Cpu => "cpu.pressure",
            Resource::Memory => "memory.pressure",
            Resource::Io => "io.pressure",
        });
        let waiting = match trigger.waiting {
            Waiting::Some => "some",
            Waiting::Full => "full",
        };
        let (stall, window) = (trigger.stall.as_micros(), trigger.window.as_micros());
        let refused = |call, errno| match errno {
            Errno::ENOENT | Errno::EOPNOTSUPP => lacking("boot with psi=1").path(&path),
            errno => Error::call(Code::Cgroup, call, errno).path(&path),
        };
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = open(&path, flags, Mode::empty()).map_err(|errno| refused("open", errno))?;
        // The kernel drops the last byte, which is the end of a string to it.
        file::write_to(opened.as_fd(), &format!("{waiting} {stall} {window}\0"))
            .map_err(|errno| refused("write", errno))?;
        Ok(opened)
    }
}
