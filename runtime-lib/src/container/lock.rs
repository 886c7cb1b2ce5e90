//! A container's lock: whoever holds it is waited for as long as it can go on.
//!
//! The process that a create has cloned has its parent's lock until it closes what it was born with. Where the
//! runtime was killed and that process can't run (it is stopped, frozen, or in a call that doesn't return), nobody
//! else would ever have the lock.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{FileStat, fstat, stat};
use procfs::process::{Process, Stat};

use crate::cgroup::{CgroupPlan, describe};
use crate::error::{Code, Error, Result};
use crate::sys::fd::try_lock;
use crate::sys::process::{pidfd_open, pidfd_send_signal};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);
/// How long a lock may be held before anybody asks by whom, and how often after that.
const USUAL: Duration = Duration::from_millis(500);
/// How long somebody who can't go on may be in the way, and anybody else before a warning tells of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock of a container's directory.
///
/// `left_in`: the cgroups of a container that is to be removed and that has not come to be. Whom a create that was
/// killed has left in them, and with the lock, is killed.
///
/// # Errors
/// [`Code::Deadline`]: who holds it can't go on, and is named.
pub(super) fn take(
    directory: BorrowedFd<'_>,
    path: &Path,
    left_in: Option<&CgroupPlan>,
) -> Result<()> {
    let begun = Instant::now();
    let mut next_look = USUAL;
    let mut stuck: Option<(i32, Instant)> = None;
    let mut told = false;
    loop {
        match try_lock(directory) {
            Err(Errno::EWOULDBLOCK) => {}
            tried => {
                return tried.map_err(|errno| Error::call(Code::Io, "flock", errno).path(path));
            }
        }
        let waited = begun.elapsed();
        if waited >= next_look {
            next_look = waited + USUAL;
            let holders = Holder::all(directory, path);
            if let Some(cgroup) = left_in {
                let left = holders.iter().filter(|holder| holder.is_left);
                left.for_each(|holder| holder.end(cgroup, directory, path));
            }
            let in_the_way = holders.iter().find(|holder| holder.can_not_go_on());
            stuck = in_the_way.map(|holder| match stuck {
                Some((pid, since)) if pid == holder.pid => (pid, since),
                _ => (holder.pid, Instant::now()),
            });
            match (in_the_way, stuck) {
                (Some(holder), Some((_, since))) if since.elapsed() >= PATIENCE => {
                    return Err(holder.blocks(path));
                }
                (None, _) if waited >= PATIENCE && !told => {
                    told = true;
                    let who = holders.first().map(|holder| describe(holder.pid));
                    let who = who.unwrap_or_else(|| "that can't be seen from here".to_owned());
                    tracing::warn!(
                        "{}: waits for process {who}, which has its lock",
                        path.display()
                    );
                }
                _ => {}
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// A process that has a container's lock.
struct Holder {
    pid: i32,
    /// The letter of proc_pid_stat(5).
    state: char,
    /// Whoever has taken the lock is gone: this is its child.
    is_left: bool,
}

impl Holder {
    /// Those that can be seen from here.
    fn all(directory: BorrowedFd<'_>, path: &Path) -> Vec<Holder> {
        let Ok(file) = fstat(directory).map(|stat| (stat.st_dev, stat.st_ino)) else {
            return Vec::new();
        };
        let processes = procfs::process::all_processes().into_iter().flatten();
        let having = processes.flatten().filter_map(|process| {
            let taker = taker(process.pid, file, path)?;
            Some((process.stat().ok()?, taker))
        });
        let having: Vec<(Stat, i32)> = having.collect();
        let has_it = |pid| having.iter().any(|(stat, _)| stat.pid == pid);
        let holder = |(stat, taker): &(Stat, i32)| Holder {
            pid: stat.pid,
            state: stat.state,
            // Number 0: it is gone, or in a pid namespace that is not ours, and so is its parent then.
            is_left: *taker != stat.pid && !lives(*taker) && stat.ppid != 0 && !has_it(stat.ppid),
        };
        having.iter().map(holder).collect()
    }

    fn can_not_go_on(&self) -> bool {
        self.is_left || self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Kills it, if it is in these cgroups: nobody else's processes are.
    fn end(&self, cgroup: &CgroupPlan, directory: BorrowedFd<'_>, path: &Path) {
        let Ok(pidfd) = pidfd_open(self.pid) else {
            return;
        };
        let manager = cgroup.manager();
        // After the pidfd: its number may have become a stranger's before.
        let is_member = manager
            .processes()
            .is_ok_and(|pids| pids.contains(&self.pid));
        let still = |stat: FileStat| taker(self.pid, (stat.st_dev, stat.st_ino), path).is_some();
        if is_member && fstat(directory).is_ok_and(still) {
            tracing::debug!(
                "kills process {}, which a create has left",
                describe(self.pid)
            );
            let _ = pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
            // Nothing frozen dies of it on v1.
            let _ = manager.let_die();
        }
    }

    fn blocks(&self, path: &Path) -> Error {
        let pid = self.pid;
        let whose = match self.is_left {
            true => ", which a runtime that was killed has left,",
            false => "",
        };
        let how = match (self.is_stopped(), self.is_left) {
            (true, true) => format!("is stopped by a signal: end it with kill -KILL {pid}"),
            (true, false) => format!("is stopped by a signal: let it go on with kill -CONT {pid}"),
            (false, _) => format!(
                "doesn't go on (state {}), for a frozen cgroup or in a call of the kernel: thaw what is frozen, or \
                 end it with kill -KILL {pid}",
                self.state
            ),
        };
        let tail = format!("container is locked by process {}", describe(pid));
        Error::new(Code::Deadline, tail)
            .path(path)
            .hint(format!("it{whose} {how}"))
    }
}

/// Who has taken the lock that this process has on this directory, by its device and inode, as proc_pid_fdinfo(5)
/// says.
fn taker(pid: i32, directory: (u64, u64), path: &Path) -> Option<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    entries.flatten().find_map(|entry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        // The name spares a look at most.
        if link.file_name() != path.file_name() {
            return None;
        }
        let it = stat(&entry.path()).ok()?;
        if (it.st_dev, it.st_ino) != directory {
            return None;
        }
        let number = entry.file_name().into_string().ok()?;
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        info.lines().find_map(locked_by)
    })
}

/// `lock: 1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF`
fn locked_by(line: &str) -> Option<i32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["lock:", _, "FLOCK", _, _, pid, ..] => pid.parse().ok(),
        _ => None,
    }
}

fn lives(pid: i32) -> bool {
    let stat = Process::new(pid).and_then(|process| process.stat());
    pid > 0 && stat.is_ok_and(|stat| stat.state != 'Z')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_lock_is_read() {
        let line = "lock:\t1: FLOCK  ADVISORY  WRITE 1234 00:1a:567 0 EOF";
        assert_eq!(locked_by(line), Some(1234));
        let none = [
            "",
            "lock:",
            "pos:\t0",
            "lock:\t1: POSIX  ADVISORY  WRITE 1 0:0:567 0 EOF",
        ];
        assert!(none.iter().all(|line| locked_by(line).is_none()));
    }

    #[test]
    fn a_lock_of_this_process_is_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let open = || std::fs::File::open(folder.path()).unwrap();
        let (held, other) = (open(), open());
        take(held.as_fd(), folder.path(), None).unwrap();
        let holders = Holder::all(other.as_fd(), folder.path());
        let found: Vec<_> = holders
            .iter()
            .map(|it| (it.pid, it.can_not_go_on()))
            .collect();
        assert_eq!(found, [(std::process::id().cast_signed(), false)]);
    }
}
