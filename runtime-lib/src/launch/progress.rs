//! How far a process came that says nothing any more: as its parent's table of processes has it,
//! for as long as nobody has reaped it.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::sys::process::pidfd_send_signal;

/// linux/sched.h: cloned, and no program executed since.
const PF_FORKNOEXEC: u64 = 0x40;

/// What /proc/PID/stat says (proc_pid_stat(5)).
pub struct Progress {
    pid: i32,
    flags: u64,
    /// As wait(2) has it; 0 as long as it goes on, or where the caller may not see it.
    exit: i32,
}

/// The progress of the process of a pidfd; None when somebody has reaped it.
pub fn of(pid: i32, pidfd: BorrowedFd<'_>) -> Option<Progress> {
    // procfs gives the whole line in one read: 52 numbers of at most 20 digits, and a short name.
    let mut line = [0; 1200];
    let length = File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut file| file.read(&mut line))
        .ok()?;
    // Only an unreaped process keeps its pid: another may have had it when the file was read.
    if let Err(Errno::ESRCH) = pidfd_send_signal(pidfd, 0) {
        return None;
    }
    read(pid, std::str::from_utf8(line.get(..length)?).ok()?)
}

fn read(pid: i32, line: &str) -> Option<Progress> {
    // The name is in parentheses, and may hold some itself.
    let (_, fields) = line.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let flags = fields.nth(6)?.parse().ok()?;
    let exit = fields.last().and_then(|field| field.parse().ok());
    Some(Progress {
        pid,
        flags,
        exit: exit.unwrap_or(0),
    })
}

impl Progress {
    /// Whether execve(2) has succeeded.
    pub fn has_executed(&self) -> bool {
        self.flags & PF_FORKNOEXEC == 0
    }

    /// How it ended, where that can be seen.
    pub fn end(&self) -> Option<WaitStatus> {
        let end = WaitStatus::from_raw(Pid::from_raw(self.pid), self.exit).ok()?;
        (self.exit != 0).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::process::pidfd_open;

    #[test]
    fn the_flags_and_the_end_are_read_past_any_name() {
        let line = "7 (a) Z (b)) Z 1 7 7 0 -1 4194380 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0 31\n";
        let progress = read(7, line).expect("a line");
        assert!(!progress.has_executed());
        assert!(matches!(
            progress.end(),
            Some(WaitStatus::Signaled(
                _,
                nix::sys::signal::Signal::SIGSYS,
                false
            ))
        ));
        assert!(read(7, "7 (a) Z 1 7").is_none());
    }

    #[test]
    fn this_process_has_executed_its_program() {
        let pid = std::process::id() as i32;
        let pidfd = pidfd_open(pid).unwrap();
        let own = of(pid, pidfd.as_fd()).expect("a process");
        assert!(own.has_executed() && own.end().is_none());
        assert!(of(i32::MAX, pidfd.as_fd()).is_none());
    }

    #[test]
    fn the_next_process_with_the_pid_is_not_taken_for_the_one_that_was_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pidfd = pidfd_open(child.id() as i32).unwrap();
        child.wait().unwrap();
        // A process that is there stands for the one that has the pid next.
        assert!(of(std::process::id() as i32, pidfd.as_fd()).is_none());
    }
}
