//! Birth, naming and ending of processes: clone3(2), pidfds, prctl(2), sessions.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::checked;

// Flags of clone3 above 32 bits, which libc's ints can't hold (linux/sched.h).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What [`clone3`] is to make.
#[derive(Clone, Copy)]
pub struct Clone<'fd> {
    /// The new namespaces.
    pub namespaces: CloneFlags,
    /// The cgroup v2 directory to be born in (CLONE_INTO_CGROUP).
    pub cgroup: Option<BorrowedFd<'fd>>,
    /// Become a child of the caller's parent (CLONE_PARENT), without an exit signal.
    pub sibling: bool,
}

/// A process that [`clone3`] made.
pub struct Cloned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Which side of a clone this is.
pub enum Born {
    Child,
    Parent(Cloned),
}

/// clone3(2) without shared memory; returns twice, as fork(2) does.
///
/// The caller may have other threads, so the child must neither allocate nor take a lock
/// until it executes or ends: it has a copy of a heap that another thread may have been
/// changing. Handlers of signals are reset by the kernel (CLONE_CLEAR_SIGHAND).
pub fn clone3(request: Clone<'_>) -> Result<Born> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data for which all zeroes is valid (clone(2)).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(request.namespaces.bits() as u32)
        | libc::CLONE_PIDFD as u64
        | CLONE_CLEAR_SIGHAND;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if request.sibling {
        arguments.flags |= libc::CLONE_PARENT as u64;
        arguments.exit_signal = 0;
    }
    if let Some(cgroup) = request.cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, so the child has its own stack and memory; `arguments` and `pidfd`
    // outlive the call.
    let pid = checked(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Born::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel has stored a new descriptor here.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = pid as i32;
    Ok(Born::Parent(Cloned { pid, pidfd }))
}

/// _exit(2): no destructor and no atexit function runs.
pub fn exit(code: i32) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// pidfd_open(2)
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_getfd(2): a copy of the descriptor that has this number there. Needs to be allowed to
/// trace the process.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })?;
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2); signal 0 only asks whether it may.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is what kill(2) would send.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    })?;
    Ok(())
}

/// setns(2) on a pidfd or a namespace file.
pub fn setns(fd: BorrowedFd<'_>, namespaces: CloneFlags) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::setns(fd.as_raw_fd(), namespaces.bits()) }.into())?;
    Ok(())
}

/// prctl(2) PR_SET_DUMPABLE
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, i32::from(dumpable), 0, 0, 0) }.into())?;
    Ok(())
}

/// prctl(2) PR_SET_NO_NEW_PRIVS
pub fn set_no_new_privileges() -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    Ok(())
}

/// What callers ignore: Rust's and Python's runtimes SIGPIPE, nohup(1) SIGHUP, a shell's background
/// job the keys, daemons the rest. Unlike handlers, CLONE_CLEAR_SIGHAND leaves it ignored.
const OFTEN_IGNORED: [i32; 11] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGTERM,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// An empty signal mask, and the default action for what callers ignore.
pub fn reset_signals() -> Result<()> {
    // SAFETY: sigset_t is plain data; an all-zero one is the empty set on Linux.
    let empty: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `empty` outlives the call and the old mask isn't asked for.
    checked(
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) }
            .into(),
    )?;
    for signal in OFTEN_IGNORED {
        // SAFETY: SIG_DFL installs no handler.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// Overwrites the environment that this process was executed with, which proc_pid_environ(5)
/// shows. Only a child calls it, whose memory is its own and who reads no variable after it.
pub fn scrub_environment() {
    unsafe extern "C" {
        static mut environ: *const *mut libc::c_char;
    }
    // SAFETY: the pointer is set before main and nobody changes it in this process.
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: the array of environ(7) ends with a null pointer, which ends the loop.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: each entry is a NUL-terminated string.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: these bytes are the string's own, in writable memory of this process.
        unsafe { std::ptr::write_bytes(text, 0, length) };
        // SAFETY: an entry that isn't null is followed by another.
        entry = unsafe { entry.add(1) };
    }
}

/// setdomainname(2)
pub fn setdomainname(name: &CStr) -> Result<()> {
    // SAFETY: the pointer and the length are those of `name`.
    checked(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes()) }.into())?;
    Ok(())
}

/// getcwd(2), the call itself: the path as the kernel says it, "(unreachable)…" included.
pub fn getcwd(buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and the length are those of `buffer`.
    let length =
        checked(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(length as usize)
}

/// prlimit(2) on a process; 0 is the caller.
pub fn prlimit(pid: i32, resource: i32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` outlives the call and the old limit isn't asked for.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    })?;
    Ok(())
}
