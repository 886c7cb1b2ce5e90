//! A procfs that is proven to be one and that no mount of the container covers: all that is
//! written below /proc is written through it (CVE-2019-16884, CVE-2025-52881).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Child;
use super::fds::{Fd, openat2};
use super::mounts::new_mount;
use super::paths::{is_same, kind};
use crate::report::{NOT_PROCFS, Refused, call};
use crate::step::Target;
use crate::sys::mount::resolve;

/// The inode of the root of every procfs (PROC_ROOT_INO of linux/proc_ns.h).
const ROOT_INODE: u64 = 1;

impl Child<'_> {
    /// The container's own, when it has a whole one; else one that nobody else sees; else,
    /// where the kernel refuses that, the one at /proc.
    pub(super) fn procfs(&mut self) -> Result<BorrowedFd<'_>, Refused> {
        if self.procfs.is_none() {
            self.procfs = Some(match new_mount(c"proc", c"proc", &[], None, 0) {
                Err(refused) if refused.errno == Errno::EPERM => at_proc()?,
                made => made?,
            });
        }
        let procfs = self.procfs.as_ref().map(AsFd::as_fd);
        procfs.ok_or(Refused::new("fsmount", Errno::EBADF))
    }
}

/// The procfs at /proc of this process's root.
pub(super) fn at_proc() -> Result<Fd, Refused> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(c"/proc", flags, Mode::empty()).map(Fd::from);
    let root = root.map_err(|errno| Refused::new("open", errno).noting(b"/proc"))?;
    match is_root(root.as_fd())? {
        true => Ok(root),
        false => Err(Refused::new("fstatfs", Errno::ENODEV).noting(b"/proc is not a procfs")),
    }
}

/// Whether a file is the root of a procfs.
fn is_root(file: BorrowedFd<'_>) -> Result<bool, Refused> {
    let procfs = fstatfs(file).map_err(call("fstatfs"))?.filesystem_type() == PROC_SUPER_MAGIC;
    Ok(procfs && kind(file)?.0.st_ino == ROOT_INODE)
}

/// Refuses to bind on /proc what is no whole procfs: every process there takes it for one
/// (CVE-2019-16884).
pub(super) fn only_on_proc(tree: BorrowedFd<'_>, target: &Target) -> Result<(), Refused> {
    match target.path.as_c_str() == c"proc" && !is_root(tree)? {
        true => Err(Refused::new(NOT_PROCFS, Errno::EINVAL)),
        false => Ok(()),
    }
}

/// The same of a place that links of the image may have led to.
pub(super) fn only_on_linked_proc(
    tree: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
) -> Result<(), Refused> {
    let proc = super::paths::open(root, c"proc", libc::O_PATH, false);
    let is_there = proc.is_ok_and(|proc| is_same(proc.as_fd(), place) == Ok(true));
    match is_there && !is_root(tree)? {
        true => {
            let refused = Refused::new(NOT_PROCFS, Errno::EINVAL);
            Err(refused.noting(b"symbolic links lead from there to /proc"))
        }
        false => Ok(()),
    }
}

/// Opens a file of a procfs, and nothing that was mounted over it.
pub(super) fn file(procfs: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<Fd, Refused> {
    // /proc/self is an ordinary link; /proc/PID/fd/N is a magic one.
    let own = resolve::BENEATH | resolve::NO_MAGICLINKS | resolve::NO_XDEV;
    openat2(procfs, path, flags, 0, own).map_err(|errno| {
        let refused = Refused::new("openat2", errno);
        match errno {
            Errno::EXDEV => refused.noting(b"something is mounted over it in /proc"),
            _ => refused,
        }
    })
}
