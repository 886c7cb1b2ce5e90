//! tmpcopyup: what a directory holds, copied into the new file system that will cover it.
//! By descriptors from directory to directory: no link of the image is ever followed, nothing
//! that could block is opened, and the new file system's size ends what would be endless.
//! As with runc, extended attributes stay behind, and each name of a file becomes one of its own.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::fds::{Fd, openat2};
use super::path_text::PATH_BYTES;
use super::paths::kind;
use crate::report::{Refused, call};
use crate::sys::fd::{entries, read_directory, read_link, send_file};
use crate::sys::mount::resolve;

/// Each level costs two descriptors and some stack; deeper than this, somebody means harm.
const DEEPEST: usize = 256;

/// A walk of one step, to what lies in a directory itself.
const OWN: u64 = resolve::BENEATH | resolve::NO_SYMLINKS;

/// Copies what is in `from`, and its owner, to the empty directory `to`.
pub(super) fn all(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Refused> {
    let (stat, kind) = kind(from)?;
    if kind != SFlag::S_IFDIR {
        return Ok(());
    }
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let readable = openat2(from, c".", flags, 0, OWN).map_err(call("openat2"))?;
    directory(readable.as_fd(), to, 0)?;
    own(to, c"", &stat, AtFlags::AT_EMPTY_PATH)
}

fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Refused> {
    if depth == DEEPEST {
        return Err(Refused::new("openat2", Errno::ENAMETOOLONG)
            .noting(b"what it covers has directories deeper than 256 levels"));
    }
    let mut buffer = [0; 1024];
    loop {
        let length = read_directory(from, &mut buffer).map_err(call("getdents64"))?;
        if length == 0 {
            return Ok(());
        }
        for name in entries(buffer.get(..length).unwrap_or_default()) {
            if name != c"." && name != c".." {
                entry(from, to, name, depth).map_err(|refused| match refused.has_note() {
                    true => refused,
                    false => explained(refused).noting(b"copy ").noting(name.to_bytes()),
                })?;
            }
        }
    }
}

fn explained(refused: Refused) -> Refused {
    match refused.errno {
        Errno::ENOSPC => refused.noting(b"what it covers is larger than its size and inodes: "),
        _ => refused,
    }
}

fn entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
) -> Result<(), Refused> {
    let itself = AtFlags::AT_SYMLINK_NOFOLLOW;
    let stat = fstatat(from, name, itself).map_err(call("fstatat"))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).map_err(call("mkdirat"))?;
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let source = openat2(from, name, flags, 0, OWN).map_err(call("openat2"))?;
            let copy = openat2(to, name, libc::O_PATH, 0, OWN).map_err(call("openat2"))?;
            directory(source.as_fd(), copy.as_fd(), depth + 1)?;
        }
        SFlag::S_IFREG => file(from, to, name)?,
        SFlag::S_IFLNK => link(from, to, name)?,
        _ => mknodat(to, name, kind, Mode::S_IRUSR, stat.st_rdev).map_err(call("mknodat"))?,
    }
    own(to, name, &stat, itself)?;
    if kind != SFlag::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        // Nobody else has the new file system: the name is still what was made here.
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).map_err(call("fchmodat"))?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    let itself = UtimensatFlags::NoFollowSymlink;
    utimensat(to, name, &accessed, &modified, itself).map_err(call("utimensat"))
}

/// The owner; one that has no id here stays the root that made the copy.
fn own(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat, flags: AtFlags) -> Result<(), Refused> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match fchownat(to, name, Some(uid), Some(gid), flags) {
        Ok(()) | Err(Errno::EINVAL) => Ok(()),
        Err(errno) => Err(Refused::new("fchownat", errno)),
    }
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
    // A fifo that has taken the file's place meanwhile must not block.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let source = openat2(from, name, flags, 0, OWN).map_err(call("openat2"))?;
    if kind(source.as_fd())?.1 != SFlag::S_IFREG {
        return Err(Refused::new("openat2", Errno::ESTALE));
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let copy: Fd = openat2(to, name, flags, 0o600, OWN).map_err(call("openat2"))?;
    while send_file(copy.as_raw_fd(), source.as_raw_fd()).map_err(call("sendfile"))? > 0 {}
    source.close();
    // Who may write keeps the mount from becoming read-only.
    copy.close();
    Ok(())
}

/// Not inlined: its buffer would be part of every level's stack.
#[inline(never)]
fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
    let mut text = [0; PATH_BYTES];
    read_link(from, name, &mut text).map_err(call("readlinkat"))?;
    let text = CStr::from_bytes_until_nul(&text);
    let text = text.map_err(|_| Refused::new("readlinkat", Errno::ENAMETOOLONG))?;
    symlinkat(text, to, name).map_err(call("symlinkat"))
}
