//! Paths of the container, walked below its root by descriptors only (openat2(2)).

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::fds::{Fd, openat2};
use super::links;
use crate::report::{Refused, call};
use crate::step::Target;
use crate::sys::mount::resolve;

/// What is made where a target does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Directory,
    File,
}

/// Renames elsewhere in the tree make a walk over `..` fail with EAGAIN; so often in a row
/// only when somebody means it.
const WALKS: usize = 128;

/// Opens `path` below `root` without following it out.
pub fn open(root: BorrowedFd<'_>, path: &CStr, flags: i32, plain: bool) -> nix::Result<Fd> {
    let found = walk(root, path, flags, resolve::NO_SYMLINKS);
    if plain || found.as_ref().err() != Some(&Errno::ELOOP) {
        return found;
    }
    let found = walk(root, path, flags, resolve::NO_MAGICLINKS)?;
    // A link of the image must not turn what is meant for a directory into a change of what
    // the kernel says through /proc (CVE-2019-16884).
    match fstatfs(&found)?.filesystem_type() {
        PROC_SUPER_MAGIC if !path.to_bytes().starts_with(b"proc/") => Err(Errno::EXDEV),
        _ => Ok(found),
    }
}

fn walk(root: BorrowedFd<'_>, path: &CStr, flags: i32, links: u64) -> nix::Result<Fd> {
    let mut walked = Err(Errno::EAGAIN);
    for _ in 0..WALKS {
        walked = openat2(root, path, flags, 0, resolve::IN_ROOT | links);
        if walked.as_ref().err() != Some(&Errno::EAGAIN) {
            break;
        }
    }
    walked
}

/// Opens a target with O_PATH.
pub fn open_target(root: BorrowedFd<'_>, target: &Target) -> nix::Result<Fd> {
    open(root, &target.path, libc::O_PATH, target.plain)
}

/// Opens a target with O_PATH; what is missing is made first: directories 0755, a file 0644.
pub fn ensure(root: BorrowedFd<'_>, target: &Target, missing: Missing) -> Result<Fd, Refused> {
    let refused = |name| move |errno| describe(name, errno, target);
    match open_target(root, target) {
        Err(Errno::ENOENT) => {}
        result => return result.map_err(refused("openat2")),
    }
    let prefixes = &target.prefixes;
    // The deepest prefix that exists, and how many are to be made below it.
    let (mut at, mut depth) = (None, prefixes.len());
    while depth > 0 && at.is_none() {
        depth -= 1;
        at = match depth {
            0 => Some(open(root, c".", libc::O_PATH, true)),
            _ => match prefixes.get(depth - 1) {
                Some(prefix) => match open(root, prefix, libc::O_PATH, target.plain) {
                    Err(Errno::ENOENT) => None,
                    result => Some(result),
                },
                None => None,
            },
        };
    }
    let mut parent = at
        .unwrap_or(Err(Errno::ENOENT))
        .map_err(refused("openat2"))?;
    let missed = prefixes.get(depth..).unwrap_or_default();
    for (left, prefix) in (1..=missed.len()).rev().zip(missed) {
        let name = last_name(prefix);
        let kind = if left == 1 {
            missing
        } else {
            Missing::Directory
        };
        match make(parent.as_fd(), name, kind) {
            // Either somebody was faster, or a symbolic link leads nowhere: the open tells.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(describe("mkdirat", errno, target)),
        }
        let beneath = resolve::BENEATH | resolve::NO_SYMLINKS;
        parent = match openat2(parent.as_fd(), name, libc::O_PATH, 0, beneath) {
            Err(Errno::ELOOP) if !target.plain => {
                return links::ensure(root, &target.path, missing).map_err(refused("openat2"));
            }
            made => made.map_err(refused("openat2"))?,
        };
    }
    Ok(parent)
}

/// Makes what is missing; EEXIST when it is not.
pub fn make(parent: BorrowedFd<'_>, name: &CStr, missing: Missing) -> nix::Result<()> {
    match missing {
        Missing::Directory => mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Missing::File => {
            let mode = Mode::from_bits_truncate(0o644);
            mknodat(parent, name, SFlag::S_IFREG, mode, 0)
        }
    }
}

/// The last component of a cleaned path.
fn last_name(path: &CString) -> &CStr {
    let bytes = path.to_bytes_with_nul();
    let start = bytes
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |at| at + 1);
    CStr::from_bytes_with_nul(bytes.get(start..).unwrap_or(bytes)).unwrap_or(path)
}

fn describe(name: &'static str, errno: Errno, target: &Target) -> Refused {
    let refused = Refused::new(name, errno);
    match errno {
        Errno::ELOOP if target.plain => {
            refused.noting(b"the path has a symbolic link, and must be an ordinary directory")
        }
        Errno::EXDEV => refused.noting(b"a symbolic link in the path leads into /proc"),
        Errno::ELOOP => refused.noting(b"symbolic links in the path go round in a circle"),
        _ => refused,
    }
}

/// The kind of file that a descriptor is open on.
pub fn kind(file: BorrowedFd<'_>) -> Result<(FileStat, SFlag), Refused> {
    let stat = fstat(file).map_err(call("fstat"))?;
    Ok((
        stat,
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()),
    ))
}
