//! Walking a cgroup directory and everything below it, deepest first.
//!
//! By descriptors and one name at a time: a container may nest its cgroups deeper than a path
//! can be long or a process has descriptors. Directories that vanish meanwhile are passed over.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::Result;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Calls `visit` with every directory, `top` last. A `top` that does not exist is no error.
pub(super) fn visit(top: &Path, visit: impl FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    walk(top, visit, |_, _| Ok(()))
}

/// Removes every directory, `top` last. A `top` that does not exist is no error.
///
/// # Errors
/// EBUSY while there is a process in one of them.
pub(super) fn remove(top: &Path) -> Result<()> {
    walk(
        top,
        |_| Ok(()),
        |parent, name| ignore_gone(rmdir_at(parent, name)),
    )?;
    ignore_gone(unlinkat(AT_FDCWD, top, UnlinkatFlags::RemoveDir))
}

fn rmdir_at(parent: BorrowedFd<'_>, name: &CString) -> Result<()> {
    unlinkat(parent, name.as_c_str(), UnlinkatFlags::RemoveDir)
}

fn ignore_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// A directory on the way down: its own name, and its children still to be visited.
struct Level {
    name: CString,
    children: Vec<CString>,
}

fn walk(
    top: &Path,
    mut enter: impl FnMut(BorrowedFd<'_>) -> Result<()>,
    mut left: impl FnMut(BorrowedFd<'_>, &CString) -> Result<()>,
) -> Result<()> {
    let mut here = match openat(AT_FDCWD, top, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    let mut levels = vec![Level {
        name: CString::default(),
        children: children(&here)?,
    }];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.children.pop() {
            match openat(&here, name.as_c_str(), DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                below => here = below?,
            }
            levels.push(Level {
                name,
                children: children(&here)?,
            });
            continue;
        }
        ignore_gone(enter(here.as_fd()))?;
        let done = levels.pop();
        if levels.is_empty() {
            break;
        }
        // A cgroup cannot be moved to another parent, so that `..` is where we came from.
        here = match openat(&here, c"..", DIRECTORY, Mode::empty()) {
            // The whole branch was removed under us: so is everything we would visit.
            Err(Errno::ENOENT) => return Ok(()),
            above => above?,
        };
        if let Some(level) = done {
            left(here.as_fd(), &level.name)?;
        }
    }
    Ok(())
}

fn children(directory: &OwnedFd) -> Result<Vec<CString>> {
    // A description of its own, for the offset is shared by duplicates.
    let opened = openat(directory, c".", DIRECTORY, Mode::empty());
    let mut dir = match opened {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        other => Dir::from_fd(other?)?,
    };
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
