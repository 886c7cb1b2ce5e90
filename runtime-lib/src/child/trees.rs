//! Removes a directory with all that is in it: what an overlay's user namespace wrote belongs
//! to ids that only root of such a namespace may touch.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::report::{Refused, call};
use crate::sys::fd::{entries, read_directory};
use crate::sys::mount::{openat2, resolve};

/// Each level costs a descriptor and some stack; deeper than this, somebody means harm.
const DEEPEST: usize = 800;

pub(super) fn remove(path: &CStr) -> Result<(), Refused> {
    remove_at(nix::fcntl::AT_FDCWD, path, 0).map_err(|r| r.noting(path.to_bytes()))
}

fn remove_at(parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Refused> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(Refused::new("unlinkat", errno)),
    }
    if depth == DEEPEST {
        return Err(Refused::new("unlinkat", Errno::ELOOP).noting(b"directories lie too deep"));
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let directory =
        openat2(parent, name, flags, 0, resolve::NO_SYMLINKS).map_err(call("openat2"))?;
    let mut buffer = [0; 1024];
    loop {
        let length = read_directory(directory.as_fd(), &mut buffer).map_err(call("getdents64"))?;
        if length == 0 {
            break;
        }
        for entry in entries(buffer.get(..length).unwrap_or_default()) {
            if entry != c"." && entry != c".." {
                remove_at(directory.as_fd(), entry, depth + 1)?;
            }
        }
    }
    // Some file systems pass over entries while others are removed: once more, until none.
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY) if depth < DEEPEST => {
            drop(directory);
            remove_at(parent, name, depth + 1)
        }
        removed => removed.map_err(call("unlinkat")),
    }
}
