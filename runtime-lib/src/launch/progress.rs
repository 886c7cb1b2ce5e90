//! How far a process came that says nothing any more: as its parent's table of processes has it,
//! for as long as nobody has reaped it.

use std::fs::File;
use std::io::Read;

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

/// linux/sched.h: cloned, and no program executed since.
const PF_FORKNOEXEC: u64 = 0x40;

/// What /proc/PID/stat says (proc_pid_stat(5)).
pub struct Progress {
    pid: i32,
    flags: u64,
    /// As wait(2) has it; 0 as long as it goes on, or where the caller may not see it.
    exit: i32,
}

/// The progress of a process; None when there is no such process any more.
pub fn of(pid: i32) -> Option<Progress> {
    // procfs gives the whole line in one read: 52 numbers of at most 20 digits, and a short name.
    let mut line = [0; 1200];
    let length = File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut file| file.read(&mut line))
        .ok()?;
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
    use super::*;

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
        let own = of(std::process::id() as i32).expect("a process");
        assert!(own.has_executed() && own.end().is_none());
        assert!(of(i32::MAX).is_none());
    }
}
