//! tmpcopyup: what a directory holds, copied into the new file system that will cover it.
//! By descriptors from directory to directory: no link of the image is ever followed, nothing
//! that could block is opened, and the new file system's size ends what would be endless.
//! Names of one file stay names of one file, and extended attributes come along as far as a
//! tmpfs and the container's rights take them.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};

use super::fds::{Fd, openat2};
use super::path_text::PATH_BYTES;
use super::paths::kind;
use crate::report::{Refused, call};
use crate::sys::attribute;
use crate::sys::fd::{entries, read_directory, read_link, send_file};
use crate::sys::mount::resolve;
use crate::tree;

/// Each level costs two descriptors and some stack; deeper than this, somebody means harm.
const DEEPEST: usize = 256;

/// An entry changes its kind between a look at it and its opening; so often in a row only when
/// somebody means it.
const TRIES: usize = 128;

/// A walk of one step, to what lies in a directory itself.
const OWN: u64 = resolve::BENEATH | resolve::NO_SYMLINKS;

/// The kinds of extended attributes that are a file's own, and not what a security module thinks
/// of the place where it lies.
const OWN_ATTRIBUTES: [&[u8]; 4] = [
    b"user.",
    b"trusted.",
    b"security.capability",
    b"system.posix_acl_",
];

const FOLDER: i32 = libc::O_RDONLY | libc::O_DIRECTORY;

/// Copies what is in `from`, its owner and its attributes to the empty directory `to`.
pub(super) fn all(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Refused> {
    let (stat, kind) = kind(from)?;
    if kind != SFlag::S_IFDIR {
        return Ok(());
    }
    let from = openat2(from, c".", FOLDER, 0, OWN).map_err(call("openat2"))?;
    let to = openat2(to, c".", FOLDER, 0, OWN).map_err(call("openat2"))?;
    let mut names = Names::new(from.as_fd(), to.as_fd());
    directory(from.as_fd(), to.as_fd(), 0, &mut names)?;
    names.forget()?;
    own(to.as_fd(), c"", &stat, AtFlags::AT_EMPTY_PATH)?;
    attributes(from.as_fd(), to.as_fd())
}

/// Files that have more than one name: of each that was copied, one more name is kept in a folder
/// of the new file system, until all is copied.
struct Names<'fd> {
    from: BorrowedFd<'fd>,
    to: BorrowedFd<'fd>,
    name: [u8; 32],
    folder: Option<Fd>,
}

impl<'fd> Names<'fd> {
    fn new(from: BorrowedFd<'fd>, to: BorrowedFd<'fd>) -> Names<'fd> {
        Names {
            from,
            to,
            name: [0; 32],
            folder: None,
        }
    }

    /// Gives a file that was copied under another name this one, too.
    fn take(&mut self, stat: &FileStat, to: BorrowedFd<'_>, name: &CStr) -> Result<bool, Refused> {
        let mut text = [0; 48];
        let key = key(stat, &mut text);
        match linkat(self.folder()?, key, to, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::ENOSPC) => Err(Refused::new("linkat", Errno::ENOSPC)),
            // It is the first, or may have no more of them.
            Err(_) => Ok(false),
        }
    }

    /// Remembers what was copied. Without the room for that, its other names become files.
    fn keep(&mut self, stat: &FileStat, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
        let mut text = [0; 48];
        let key = key(stat, &mut text);
        let _ = linkat(to, name, self.folder()?, key, AtFlags::empty());
        Ok(())
    }

    fn folder(&mut self) -> Result<BorrowedFd<'_>, Refused> {
        if self.folder.is_none() {
            let mut number = 0_u32;
            loop {
                self.name = [0; 32];
                // Ten digits at the most, so the last byte stays the NUL.
                let _ = write!(&mut self.name[..31], ".names-{number}");
                let name = self.name();
                let is_free = fstatat(self.from, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_err();
                match is_free.then(|| mkdirat(self.to, name, Mode::S_IRWXU)) {
                    Some(Ok(())) => break,
                    None | Some(Err(Errno::EEXIST)) => number = number.wrapping_add(1),
                    Some(Err(errno)) => return Err(Refused::new("mkdirat", errno)),
                }
            }
            let folder =
                openat2(self.to, self.name(), libc::O_PATH, 0, OWN).map_err(call("openat2"))?;
            self.folder = Some(folder);
        }
        let folder = self.folder.as_ref().map(AsFd::as_fd);
        folder.ok_or(Refused::new("openat2", Errno::EBADF))
    }

    /// What the folder is called.
    fn name(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.name).unwrap_or(c".names")
    }

    fn forget(mut self) -> Result<(), Refused> {
        let Some(folder) = self.folder.take() else {
            return Ok(());
        };
        folder.close();
        tree::remove(self.to, self.name())
    }
}

/// The name of a file in [`Names`]: its device and inode.
fn key<'text>(stat: &FileStat, text: &'text mut [u8; 48]) -> &'text CStr {
    // Two times sixteen digits at the most, so the last byte stays the NUL.
    let _ = write!(&mut text[..47], "{:x}-{:x}", stat.st_dev, stat.st_ino);
    CStr::from_bytes_until_nul(text).unwrap_or(c"file")
}

fn directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    depth: usize,
    names: &mut Names<'_>,
) -> Result<(), Refused> {
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
                entry(from, to, name, depth, names).map_err(|refused| {
                    match refused.has_note() {
                        true => refused,
                        false => explained(refused).noting(b"copy ").noting(name.to_bytes()),
                    }
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
    names: &mut Names<'_>,
) -> Result<(), Refused> {
    let itself = AtFlags::AT_SYMLINK_NOFOLLOW;
    let (source, mut stat, kind) = open(from, name)?;
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    let has_names = kind != SFlag::S_IFDIR && stat.st_nlink > 1;
    if has_names && names.take(&stat, to, name)? {
        source.close();
        return Ok(());
    }
    let copy = match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).map_err(call("mkdirat"))?;
            let copy = openat2(to, name, FOLDER, 0, OWN).map_err(call("openat2"))?;
            directory(source.as_fd(), copy.as_fd(), depth + 1, names)?;
            Some(copy)
        }
        SFlag::S_IFREG => {
            let copy = file(source.as_fd(), to, name)?;
            // Who may write to a file takes its set-id bits away by that: what was written before
            // it was read must not have them.
            stat = fstat(source.as_fd()).map_err(call("fstat"))?;
            Some(copy)
        }
        SFlag::S_IFLNK => {
            link(source.as_fd(), to, name)?;
            None
        }
        _ => {
            mknodat(to, name, kind, Mode::S_IRUSR, stat.st_rdev).map_err(call("mknodat"))?;
            None
        }
    };
    let mode = own(to, name, &stat, itself)?;
    if kind != SFlag::S_IFLNK {
        // Nobody else has the new file system: the name is still what was made here.
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).map_err(call("fchmodat"))?;
    }
    if let Some(copy) = copy {
        // A change of owner takes capabilities away, and one of the mode changes the list of access.
        attributes(source.as_fd(), copy.as_fd())?;
        // Who may write keeps the mount from becoming read-only.
        copy.close();
    }
    source.close();
    if has_names {
        names.keep(&stat, to, name)?;
    }
    let itself = UtimensatFlags::NoFollowSymlink;
    utimensat(to, name, &accessed, &modified, itself).map_err(call("utimensat"))
}

/// Opens an entry as its kind has to be opened. Others may put something else in its place at any
/// time: all that is copied comes from this one descriptor, or one file's owner and mode would go
/// with another's content.
fn open(from: BorrowedFd<'_>, name: &CStr) -> Result<(Fd, FileStat, SFlag), Refused> {
    let mut last = Errno::ESTALE;
    for _ in 0..TRIES {
        // Says how to open it, and nothing else.
        let seen = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(call("fstatat"))?;
        let expected = SFlag::from_bits_truncate(seen.st_mode & SFlag::S_IFMT.bits());
        let flags = match expected {
            SFlag::S_IFDIR => FOLDER,
            // A fifo that has taken the file's place meanwhile must not block.
            SFlag::S_IFREG => libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
            _ => libc::O_PATH | libc::O_NOFOLLOW,
        };
        last = match openat2(from, name, flags, 0, OWN) {
            Ok(source) => {
                let (stat, kind) = kind(source.as_fd())?;
                if kind == expected {
                    return Ok((source, stat, kind));
                }
                source.close();
                Errno::ESTALE
            }
            // What a link, a file, a socket or a device without a driver says to that.
            Err(errno @ (Errno::ELOOP | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV)) => errno,
            Err(errno) => return Err(Refused::new("openat2", errno)),
        };
    }
    Err(Refused::new("openat2", last))
}

/// The owner, and the mode that goes with it. One that has no id here stays the root that made the
/// copy: a program of theirs must not run as root for that.
fn own(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat, flags: AtFlags) -> Result<Mode, Refused> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match fchownat(to, name, Some(uid), Some(gid), flags) {
        Ok(()) => Ok(Mode::from_bits_truncate(stat.st_mode & 0o7777)),
        Err(Errno::EINVAL) => Ok(Mode::from_bits_truncate(stat.st_mode & 0o1777)),
        Err(errno) => Err(Refused::new("fchownat", errno)),
    }
}

fn file(source: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<Fd, Refused> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let copy: Fd = openat2(to, name, flags, 0o600, OWN).map_err(call("openat2"))?;
    while send_file(copy.as_raw_fd(), source.as_raw_fd()).map_err(call("sendfile"))? > 0 {}
    Ok(copy)
}

/// Most files have none: then neither buffer is touched.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Refused> {
    match attribute::list(from, &mut []) {
        Ok(0) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Ok(_) => copy_attributes(from, to),
        Err(errno) => Err(Refused::new("flistxattr", errno)),
    }
}

/// Not inlined, as [`link`].
#[inline(never)]
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Refused> {
    let (mut list, mut value) = ([0; attribute::LONGEST], [0; attribute::LONGEST]);
    let length = attribute::list(from, &mut list).map_err(call("flistxattr"))?;
    for name in list
        .get(..length)
        .unwrap_or_default()
        .split_inclusive(|byte| *byte == 0)
    {
        let Ok(text) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if !OWN_ATTRIBUTES.iter().any(|own| name.starts_with(own)) {
            continue;
        }
        // One that is gone, or that has no meaning in this user namespace.
        let Ok(length) = attribute::get(from, text, &mut value) else {
            continue;
        };
        match attribute::set(to, text, value.get(..length).unwrap_or_default()) {
            Ok(()) => {}
            // The tmpfs has none of this kind; only others may give it; it names ids without a map.
            Err(Errno::EOPNOTSUPP | Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => return Err(Refused::new("fsetxattr", errno)),
        }
    }
    Ok(())
}

/// Not inlined: its buffer would be part of every level's stack.
#[inline(never)]
fn link(source: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
    let mut text = [0; PATH_BYTES];
    read_link(source, c"", &mut text).map_err(call("readlinkat"))?;
    let text = CStr::from_bytes_until_nul(&text);
    let text = text.map_err(|_| Refused::new("readlinkat", Errno::ENAMETOOLONG))?;
    symlinkat(text, to, name).map_err(call("symlinkat"))
}

#[cfg(test)]
mod tests;
