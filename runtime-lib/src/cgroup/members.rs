//! The processes in a container's directories, and signalling them.
//!
//! A pid is a name that may pass to a stranger at any moment. So a signal goes through a
//! pidfd, and only if its pid is still a member after the pidfd was opened: then the pidfd is
//! a member's, or refers to a process that has ended.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::{file, tree};
use crate::error::{Code, Error, Result};
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// A set of directories, which hold the same processes as a rule: one for each hierarchy.
pub(super) struct Members<'a>(pub &'a [PathBuf]);

impl Members<'_> {
    /// The pids in any of the directories and below. Directories that are gone are empty.
    pub fn pids(&self) -> Result<BTreeSet<i32>> {
        let mut all = BTreeSet::new();
        for dir in self.0 {
            all.append(&mut pids(dir)?);
        }
        Ok(all)
    }

    /// Signals every member that is not in `except`, and returns whom it signalled. Members
    /// that come later are not signalled.
    pub fn signal(&self, signal: Signal, except: &BTreeSet<i32>) -> Result<BTreeSet<i32>> {
        let mut rest: Vec<i32> = self.pids()?.difference(except).copied().collect();
        let mut signalled = BTreeSet::new();
        while !rest.is_empty() {
            let handles = handles(&mut rest)?;
            let still = self.pids()?;
            for (pid, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
                send(*pid, handle, signal)?;
                signalled.insert(*pid);
            }
        }
        Ok(signalled)
    }

    /// Pidfds of some of the members, to wait on. None: there is no member.
    pub fn handles(&self) -> Result<Vec<OwnedFd>> {
        let handles = handles(&mut self.pids()?.into_iter().collect())?;
        Ok(handles.into_iter().map(|(_, handle)| handle).collect())
    }
}

/// Moves a process, which the caller holds, into a directory.
pub(super) fn add(dir: &Path, pid: i32) -> Result<()> {
    let path = dir.join("cgroup.procs");
    file::write(&path, &pid.to_string()).map_err(|errno| {
        Error::call(Code::Cgroup, "write", errno)
            .doing(format!("put process {pid} into the cgroup"))
            .path(path)
    })
}

fn send(pid: i32, handle: &OwnedFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(handle.as_fd(), signal as i32) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call(Code::Process, "pidfd_send_signal", errno)
            .doing(format!("signal process {pid}"))),
    }
}

/// How many descriptors to use at once.
const BATCH: usize = 128;

/// Takes pids off the list and opens them, as many as there are descriptors for. A pid whose
/// process has ended is taken off as well.
fn handles(pids: &mut Vec<i32>) -> Result<Vec<(i32, OwnedFd)>> {
    let mut handles = Vec::new();
    while handles.len() < BATCH {
        let Some(pid) = pids.pop() else { break };
        match pidfd_open(pid) {
            Ok(handle) => handles.push((pid, handle)),
            // EINVAL: its leader has ended, and another process may have the number.
            Err(Errno::ESRCH | Errno::EINVAL) => {}
            Err(Errno::EMFILE | Errno::ENFILE) if !handles.is_empty() => {
                pids.push(pid);
                break;
            }
            Err(errno) => return Err(Error::call(Code::Process, "pidfd_open", errno)),
        }
    }
    Ok(handles)
}

/// The pids in one directory and below.
pub(super) fn pids(dir: &Path) -> Result<BTreeSet<i32>> {
    Ok(pids_if_there(dir)?.unwrap_or_default())
}

/// The same; None where there is no such directory.
pub(super) fn pids_if_there(dir: &Path) -> Result<Option<BTreeSet<i32>>> {
    let mut all = BTreeSet::new();
    let mut there = false;
    let read = tree::visit(dir, |here| {
        there = true;
        let list = match read_at(here, c"cgroup.procs") {
            // A threaded cgroup (cgroup v2) lists threads only.
            Err(Errno::EOPNOTSUPP) => read_at(here, c"cgroup.threads")?,
            other => other?,
        };
        // 0 stands for a process of another pid namespace, which has no name here.
        all.extend(
            list.lines()
                .filter_map(|line| line.parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        );
        Ok(())
    });
    read.map_err(|errno| Error::call(Code::Cgroup, "read", errno).path(dir.join("cgroup.procs")))?;
    Ok(there.then_some(all))
}

fn read_at(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<String> {
    let opened = openat(dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    file::read_to_end(opened.as_fd())
}

/// `123 (sleep)`, for messages.
pub(crate) fn describe(pid: i32) -> String {
    match file::read_line(&PathBuf::from(format!("/proc/{pid}/comm"))) {
        Ok(comm) => format!("{pid} ({comm})"),
        Err(_) => pid.to_string(),
    }
}
