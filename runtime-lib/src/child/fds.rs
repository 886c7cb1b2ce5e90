//! The child's own descriptors, and the calls that make them.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::Result;
use nix::sys::resource::{Resource, getrlimit};

use crate::sys::{fd, mount};

/// From this number on a descriptor is closed when it is done with. Below, it stays open
/// until CloseExtraFds closes all at once: dozens of calls fewer for every container, and
/// still a bounded table for one with a thousand mounts.
const CROWDED: RawFd = 128;

/// The same, where the table has less room than that. Of the child's own memory.
static FULL: AtomicI32 = AtomicI32::new(CROWDED);

/// Looks how much room there is: half of it may be taken by what is done with.
pub fn mind_the_limit() {
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let half = RawFd::try_from(soft / 2).unwrap_or(CROWDED);
        FULL.store(half.min(CROWDED), Ordering::Relaxed);
    }
}

/// A descriptor that only this child has, and whose end nobody waits for.
#[derive(Debug)]
pub struct Fd(RawFd);

impl From<OwnedFd> for Fd {
    fn from(owned: OwnedFd) -> Fd {
        Fd(owned.into_raw_fd())
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        fd::borrow(self.0)
    }
}

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Fd {
    /// Closes it at once, crowded or not: where it is in somebody's way.
    pub fn close(self) {
        drop(fd::take(self.0));
        std::mem::forget(self);
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.0 >= FULL.load(Ordering::Relaxed) {
            drop(fd::take(self.0));
        }
    }
}

/// See [`mount::openat2`].
pub fn openat2(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    mode: u32,
    resolve: u64,
) -> Result<Fd> {
    mount::openat2(directory, path, flags, mode, resolve).map(Fd::from)
}

/// See [`mount::clone_tree`].
pub fn clone_tree(directory: RawFd, path: &CStr, recursive: bool) -> Result<Fd> {
    mount::clone_tree(directory, path, recursive).map(Fd::from)
}

/// See [`mount::clone_tree_with`].
pub fn clone_tree_with(
    directory: RawFd,
    path: &CStr,
    set: u64,
    propagation: u64,
    recursive: bool,
) -> Result<Fd> {
    mount::clone_tree_with(directory, path, set, propagation, recursive).map(Fd::from)
}

/// See [`mount::fsopen`].
pub fn fsopen(fstype: &CStr) -> Result<Fd> {
    mount::fsopen(fstype).map(Fd::from)
}

/// See [`mount::fsmount`].
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<Fd> {
    mount::fsmount(context, attributes).map(Fd::from)
}
