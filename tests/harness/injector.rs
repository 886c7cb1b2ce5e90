//! Lets one system call of a command fail, or many be interrupted, in it or in a child of its: the kernel is told
//! to do nothing instead (a read is made), and the answer is put in its place. What the command makes of it is for the test to say.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::outcome::{self, LIMIT, Outcome};
use super::tracer;

/// A system call: of the command (0) or of its nth child, and how many of that process's came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub process: usize,
    pub at: usize,
    pub number: c_long,
}

/// Says of a system call whether it fails, and why.
pub type Choose<'a> = &'a mut (dyn FnMut(Call) -> Option<Errno> + Send);

/// Runs `command` and asks about each system call that it and its children make until they execute a program.
///
/// Calls are counted from where the runtime's own code begins: it looks at its standard streams. The end of the
/// command is the end of the watch; a container's process that it leaves goes on by itself.
#[expect(clippy::zombie_processes, reason = "follow reaps it")]
#[track_caller]
pub fn inject(command: &Command, runtime: &Path, choose: Choose<'_>) -> Outcome {
    let (out, err) = (outcome::memory("stdout"), outcome::memory("stderr"));
    let mut gate = tracer::gate(command);
    gate.stdout(out.try_clone().expect("dup"));
    gate.stderr(err.try_clone().expect("dup"));
    let begun = Instant::now();
    let mut child = gate.spawn().expect("a shell");
    let pid = Pid::from_raw(child.id() as i32);
    let followed = std::thread::scope(|scope| {
        // The thread is the tracer: with its end it lets go of everybody.
        let follow = scope.spawn(|| {
            let options = Options::PTRACE_O_TRACESYSGOOD
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE;
            ptrace::seize(pid, options).expect("PTRACE_SEIZE");
            ptrace::interrupt(pid).expect("PTRACE_INTERRUPT");
            drop(child.stdin.take());
            follow(pid, runtime, choose)
        });
        follow.join()
    });
    let what = format!("{command:?}");
    let (stdout, stderr) = (outcome::text(out), outcome::text(err));
    let Ok(code) = followed else {
        panic!("{what}: not followed to its end\n{stdout}{stderr}");
    };
    Outcome {
        what,
        code,
        stdout,
        stderr,
        took: begun.elapsed(),
    }
}

/// One process that is followed.
#[derive(Default)]
struct Process {
    number: usize,
    begun: bool,
    calls: usize,
    /// What the call that it is in shall answer.
    answer: Option<Errno>,
}

fn follow(first: Pid, runtime: &Path, choose: Choose<'_>) -> i32 {
    let mut processes = BTreeMap::from([(first, Process::default())]);
    let begun = Instant::now();
    loop {
        if begun.elapsed() > LIMIT {
            let _ = kill(first, Signal::SIGKILL);
            panic!("not finished after {LIMIT:?}");
        }
        // Only what this thread traces: other tests have children too.
        let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Err(Errno::EINTR) => continue,
            status => status.expect("waitpid"),
        };
        let Some(pid) = status.pid() else { continue };
        let next = processes.len();
        let process = processes.entry(pid).or_insert_with(|| Process {
            number: next,
            begun: true,
            ..Process::default()
        });
        let mut passed = None;
        match status {
            WaitStatus::Exited(pid, code) if pid == first => return code,
            WaitStatus::Signaled(pid, signal, _) if pid == first => return 128 + signal as i32,
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            // A child has become its program, which is nobody's business here.
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_EXEC) if pid != first => {
                let _ = ptrace::detach(pid, None);
                continue;
            }
            WaitStatus::PtraceSyscall(_) => at_call(pid, process, runtime, choose),
            WaitStatus::Stopped(_, signal) => passed = Some(signal),
            _ => {}
        }
        match ptrace::syscall(pid, passed) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => panic!("PTRACE_SYSCALL: {errno}"),
        }
    }
}

/// Looks at a process as it enters or leaves a system call.
fn at_call(pid: Pid, process: &mut Process, runtime: &Path, choose: Choose<'_>) {
    // Whoever was killed meanwhile has no registers.
    let Ok(mut registers) = ptrace::getregs(pid) else {
        return;
    };
    if let Some(errno) = process.answer.take() {
        registers.rax = -i64::from(errno as i32) as u64;
        let _ = ptrace::setregs(pid, registers);
        return;
    }
    // The kernel's answer until it has another one.
    if registers.rax as i64 != -i64::from(Errno::ENOSYS as i32) {
        return;
    }
    let number = registers.orig_rax as c_long;
    if !process.begun {
        let streams = number == libc::SYS_poll && registers.rsi == 3 && registers.rdx == 0;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe"));
        // A sealed runtime has no name.
        process.begun = streams && exe.is_ok_and(|path| path == runtime || path == Path::new("/"));
        return;
    }
    process.calls += 1;
    let call = Call {
        process: process.number,
        at: process.calls,
        number,
    };
    if let Some(errno) = choose(call) {
        process.answer = Some(errno);
        // What is read is read, and only the answer lost: whoever was to send it has done so and goes on.
        if number == libc::SYS_read && errno != Errno::EINTR {
            return;
        }
        // No system call has this number.
        registers.orig_rax = u64::MAX;
        let _ = ptrace::setregs(pid, registers);
    }
}

/// The system calls that a command makes which is left alone and ends with this status, for which a failure is imaginable.
#[track_caller]
pub fn calls(command: &Command, runtime: &Path, code: i32) -> Vec<Call> {
    let mut calls = Vec::new();
    let outcome = inject(command, runtime, &mut |call| {
        calls.push(call);
        None
    });
    outcome.exits(code);
    calls.retain(|call| imaginable(call.number).is_some());
    calls
}

/// How a system call might fail for no fault of its caller's. None: it can't, or (memory) its failure ends any program.
pub fn imaginable(number: c_long) -> Option<Errno> {
    let errno = match number {
        libc::SYS_open
        | libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_open_tree
        | libc::SYS_fsopen
        | libc::SYS_fsmount
        | libc::SYS_socket
        | libc::SYS_socketpair
        | libc::SYS_pipe2
        | libc::SYS_pidfd_open
        | libc::SYS_pidfd_getfd
        | libc::SYS_dup
        | libc::SYS_dup3
        | libc::SYS_eventfd2
        | libc::SYS_signalfd4
        | libc::SYS_epoll_create1 => Errno::EMFILE,
        libc::SYS_read
        | libc::SYS_pread64
        | libc::SYS_getdents64
        | libc::SYS_readlink
        | libc::SYS_readlinkat
        | libc::SYS_statx
        | libc::SYS_newfstatat
        | libc::SYS_fstat
        | libc::SYS_stat
        | libc::SYS_statfs
        | libc::SYS_fstatfs
        | libc::SYS_unlink
        | libc::SYS_unlinkat
        | libc::SYS_rmdir => Errno::EIO,
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_mkdir
        | libc::SYS_mkdirat
        | libc::SYS_mknodat
        | libc::SYS_symlinkat
        | libc::SYS_ftruncate
        | libc::SYS_rename
        | libc::SYS_renameat
        | libc::SYS_renameat2
        | libc::SYS_fsync => Errno::ENOSPC,
        libc::SYS_clone3 | libc::SYS_clone | libc::SYS_fork | libc::SYS_vfork => Errno::EAGAIN,
        libc::SYS_execve | libc::SYS_execveat => Errno::ENOMEM,
        libc::SYS_access
        | libc::SYS_faccessat
        | libc::SYS_faccessat2
        | libc::SYS_chdir
        | libc::SYS_fchdir
        | libc::SYS_getcwd => Errno::EACCES,
        libc::SYS_setns
        | libc::SYS_unshare
        | libc::SYS_setuid
        | libc::SYS_setresuid
        | libc::SYS_setresgid
        | libc::SYS_setgroups
        | libc::SYS_setsid
        | libc::SYS_capset
        | libc::SYS_capget
        | libc::SYS_prctl
        | libc::SYS_sethostname
        | libc::SYS_setdomainname
        | libc::SYS_prlimit64
        | libc::SYS_fchown
        | libc::SYS_fchownat
        | libc::SYS_fchmod
        | libc::SYS_fchmodat
        | libc::SYS_bpf
        | libc::SYS_mount_setattr
        | libc::SYS_mount
        | libc::SYS_pidfd_send_signal
        | libc::SYS_kill
        | libc::SYS_ioctl => Errno::EPERM,
        libc::SYS_move_mount
        | libc::SYS_fsconfig
        | libc::SYS_sendmsg
        | libc::SYS_sendto
        | libc::SYS_recvmsg
        | libc::SYS_recvfrom
        | libc::SYS_poll
        | libc::SYS_ppoll
        | libc::SYS_epoll_ctl
        | libc::SYS_epoll_wait
        | libc::SYS_seccomp
        | libc::SYS_connect
        | libc::SYS_bind
        | libc::SYS_listen => Errno::ENOMEM,
        libc::SYS_pivot_root | libc::SYS_umount2 => Errno::EBUSY,
        libc::SYS_keyctl => Errno::EDQUOT,
        libc::SYS_flock => Errno::ENOLCK,
        libc::SYS_close_range | libc::SYS_fcntl => Errno::EINVAL,
        _ => return None,
    };
    Some(errno)
}

/// Whether a signal may interrupt a system call (signal(7)): it has then done nothing. Of those that open, only
/// that of a fifo could be, which is no other call.
pub fn interruptible(number: c_long) -> bool {
    [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_waitid,
        libc::SYS_wait4,
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_connect,
        libc::SYS_accept4,
        libc::SYS_flock,
    ]
    .contains(&number)
}
