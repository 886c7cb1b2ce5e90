//! Kills a runtime at its Nth system call: it is traced, its children are not. The tracer only counts
//! and kills; what the kill has left is for the test to look at.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::outcome::{LIMIT, around};

/// How a traced command ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status, after as many system calls.
    Itself { code: i32, calls: usize },
    /// By the tracer.
    Killed,
}

/// A shell that waits for a line, or the end, of its input, and becomes the command.
pub(super) fn gate(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "read go; exec \"$@\" </dev/null", "sh"]);
    let mut gate = around(shell, command);
    gate.stdin(Stdio::piped());
    gate
}

/// Runs `command`, and kills it as it enters its system call number `at` (the first is 1): what came before
/// has happened, that one has not. Counting begins when it executes `runtime`.
#[expect(clippy::zombie_processes, reason = "follow reaps it")]
#[track_caller]
pub fn kill_at(command: &Command, runtime: &Path, at: usize) -> Ended {
    let mut gate = gate(command);
    gate.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = gate.spawn().expect("a shell");
    let pid = Pid::from_raw(child.id() as i32);
    let options =
        Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).expect("PTRACE_SEIZE");
    // From here on each execve stops it.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"go\n").expect("a word for the shell");
    }
    let (in_time, end) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = end.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        late && kill(pid, Signal::SIGKILL).is_ok()
    });
    let ended = follow(pid, runtime, at);
    drop(in_time);
    let late = watch.join().expect("the watch");
    assert!(!late, "{command:?}: not finished after {LIMIT:?}");
    ended
}

/// How many system calls a command makes that is left alone.
#[track_caller]
pub fn calls(command: &Command, runtime: &Path) -> usize {
    match kill_at(command, runtime, usize::MAX) {
        Ended::Itself { code: 0, calls } if calls > 0 => calls,
        other => panic!("{command:?}: {other:?}"),
    }
}

fn follow(pid: Pid, runtime: &Path, at: usize) -> Ended {
    let exe = format!("/proc/{pid}/exe");
    let (mut executed, mut calls, mut entering) = (false, 0, true);
    loop {
        let status = match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => continue,
            status => status.expect("waitpid"),
        };
        let mut passed = None;
        match status {
            WaitStatus::Exited(_, code) => return Ended::Itself { code, calls },
            WaitStatus::Signaled(..) => return Ended::Killed,
            WaitStatus::PtraceSyscall(_) if executed => {
                calls += usize::from(entering);
                if entering && calls == at {
                    kill(pid, Signal::SIGKILL).expect("SIGKILL");
                }
                entering = !entering;
            }
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) => {
                executed = executed || std::fs::read_link(&exe).is_ok_and(|path| path == runtime);
                // The end of this execve is still to come.
                entering = false;
            }
            WaitStatus::Stopped(_, signal) => passed = Some(signal),
            _ => {}
        }
        match ptrace::syscall(pid, passed) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("PTRACE_SYSCALL: {errno}"),
        }
    }
}

/// Runs `command` with every process that comes of it traced, and shows each to `look` as it enters the system call
/// `number`. Says how often that was.
#[expect(clippy::zombie_processes, reason = "waitpid reaps it")]
#[track_caller]
pub fn entering(command: &Command, number: libc::c_long, mut look: impl FnMut(Pid)) -> usize {
    let mut gate = gate(command);
    gate.stdout(Stdio::null());
    let mut child = gate.spawn().expect("a shell");
    let first = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(first, options).expect("PTRACE_SEIZE");
    ptrace::interrupt(first).expect("PTRACE_INTERRUPT");
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"go\n").expect("a word for the shell");
    }
    let (mut seen, begun) = (0, std::time::Instant::now());
    loop {
        assert!(
            begun.elapsed() < LIMIT,
            "{command:?}: not finished after {LIMIT:?}"
        );
        // Only what this thread traces: other tests have children too.
        let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return seen,
            status => status.expect("waitpid"),
        };
        let (pid, passed) = match status {
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            WaitStatus::PtraceSyscall(pid) => {
                let call =
                    std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
                // At its end the call is shown as well; the second look is one too many.
                if call.split_whitespace().next() == Some(&number.to_string()) {
                    seen += 1;
                    look(pid);
                }
                (pid, None)
            }
            WaitStatus::PtraceEvent(pid, ..) => (pid, None),
            _ => continue,
        };
        match ptrace::syscall(pid, passed) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("PTRACE_SYSCALL: {errno}"),
        }
    }
}
