//! Which process a container's init is, so that no stranger with its pid is ever taken for it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};
use crate::sys::process::pidfd_open;

/// PID_FS_MAGIC of linux/magic.h, since Linux 6.9: each process has an inode of its own there.
const PIDFS: FsType = FsType(0x5049_4446);

/// A process, identified beyond its pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// The boot that the pid belongs to (random(4)).
    boot_id: String,
    /// The pidfs inode, where the kernel has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// Clock ticks from boot to the process's start (proc_pid_stat(5)), where it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_time: Option<u64>,
}

impl Identity {
    /// The identity of a process that can't be reaped meanwhile, because it is a child of ours.
    pub fn of(pid: i32, pidfd: &OwnedFd) -> Result<Identity> {
        let inode = pidfs_inode(pidfd)?;
        Ok(Identity {
            pid,
            boot_id: boot_id()?,
            inode,
            start_time: match inode {
                Some(_) => None,
                None => start_time(pid),
            },
        })
    }

    /// A pidfd of the process, if it is still the same one and has not ended. A zombie has.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            Err(errno) => return Err(Error::call(Code::Process, "pidfd_open", errno)),
        };
        match self.is(&pidfd)? && !has_ended(&pidfd)? {
            true => Ok(Some(pidfd)),
            false => Ok(None),
        }
    }

    /// How the process has ended, as waitpid(2) will say it, while nobody has waited for it.
    pub fn exit_code(&self) -> Option<i32> {
        let pidfd = pidfd_open(self.pid).ok()?;
        if !self.is(&pidfd).ok()? {
            return None;
        }
        let stat = procfs::process::Process::new(self.pid).ok()?.stat().ok()?;
        (stat.state == 'Z').then_some(stat.exit_code).flatten()
    }

    /// Whether the process of a pidfd is this one: compared after it was opened, as it can't change
    /// its process any more.
    fn is(&self, pidfd: &OwnedFd) -> Result<bool> {
        let same = match self.inode {
            Some(inode) => pidfs_inode(pidfd)? == Some(inode),
            None => self.start_time.is_some() && start_time(self.pid) == self.start_time,
        };
        Ok(same && self.boot_id == boot_id()?)
    }
}

/// Whether the process of a pidfd has ended; it need not be reaped.
pub fn has_ended(pidfd: &OwnedFd) -> Result<bool> {
    wait_end(pidfd, PollTimeout::ZERO)
}

/// Waits until the process of a pidfd has ended; false when the time was up before.
pub fn wait_end(pidfd: &OwnedFd, timeout: PollTimeout) -> Result<bool> {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut polled, timeout) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call(Code::Process, "poll", errno)),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

fn pidfs_inode(pidfd: &OwnedFd) -> Result<Option<u64>> {
    let refused = |errno| Error::call(Code::Process, "fstatfs", errno);
    match fstatfs(pidfd).map_err(refused)?.filesystem_type() {
        PIDFS => Ok(Some(fstat(pidfd).map_err(refused)?.st_ino)),
        _ => Ok(None),
    }
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = procfs::process::Process::new(pid).and_then(|process| process.stat());
    stat.ok().map(|stat| stat.starttime)
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let mut text = [0; 36];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut text))
        .map_err(|error| Error::io(Code::Io, "read", &error).path(path))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
