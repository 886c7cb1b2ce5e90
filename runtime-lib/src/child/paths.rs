//! Paths of the container, walked below its root by descriptors only (openat2(2)).

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat, mknodat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::fds::{Fd, openat2};
use super::path_text::PathText;
use super::{links, procfs};
use crate::report::{Refused, call};
use crate::step::{Links, Target};
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
    open_saying(root, path, flags, plain).map(|(found, _)| found)
}

/// The same, and whether links have led there.
fn open_saying(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    plain: bool,
) -> nix::Result<(Fd, bool)> {
    let found = walk(root, path, flags, resolve::NO_SYMLINKS);
    if plain || found.as_ref().err() != Some(&Errno::ELOOP) {
        return found.map(|found| (found, false));
    }
    let found = walk(root, path, flags, resolve::NO_MAGICLINKS)?;
    // A link of the image must not turn what is meant for a directory into a change of what
    // the kernel says through /proc (CVE-2019-16884).
    match fstatfs(&found)?.filesystem_type() {
        PROC_SUPER_MAGIC if !path.to_bytes().starts_with(b"proc/") => Err(Errno::EXDEV),
        _ => Ok((found, true)),
    }
}

/// What something is to be mounted on.
pub struct Place {
    found: Fd,
    /// Links of the image may have led there.
    by_link: bool,
}

impl Place {
    /// Opens it, with O_PATH and `flags`.
    ///
    /// # Errors
    /// EBUSY: links of the image have led to the root itself. What is mounted there hides all of
    /// the container from whoever enters it later, and only the destination / asks for that.
    pub fn open(root: BorrowedFd<'_>, target: &Target, flags: i32) -> nix::Result<Place> {
        let (found, by_link) = open_target_saying(root, target, flags)?;
        match by_link && is_same(found.as_fd(), root)? {
            true => Err(Errno::EBUSY),
            false => Ok(Place { found, by_link }),
        }
    }

    /// The place of this mount: links must not have led it to /proc, unless it is a procfs.
    pub fn of(self, mount: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<Fd, Refused> {
        if self.by_link {
            procfs::only_on_linked_proc(mount, root, self.as_fd())?;
        }
        Ok(self.found)
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.found.as_fd()
    }
}

/// Whether two descriptors are on one file.
pub fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> nix::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
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
    open_target_saying(root, target, 0).map(|(found, _)| found)
}

/// The same with further `flags`, and whether links have led there.
pub fn open_target_saying(
    root: BorrowedFd<'_>,
    target: &Target,
    flags: i32,
) -> nix::Result<(Fd, bool)> {
    let flags = flags_of(target, libc::O_PATH | flags);
    open_saying(root, &target.path, flags, target.links == Links::Refuse)
}

fn flags_of(target: &Target, flags: i32) -> i32 {
    match target.links {
        Links::KeepLast => flags | libc::O_NOFOLLOW,
        Links::Follow | Links::Refuse => flags,
    }
}

/// Opens a target with O_PATH; what is missing is made first: directories 0755, a file 0644.
pub fn ensure(root: BorrowedFd<'_>, target: &Target, missing: Missing) -> Result<Fd, Refused> {
    ensure_place(root, target, missing).map(|place| place.found)
}

/// The same, of what something is to be mounted on.
pub fn ensure_place(
    root: BorrowedFd<'_>,
    target: &Target,
    missing: Missing,
) -> Result<Place, Refused> {
    match Place::open(root, target, 0) {
        Err(Errno::ENOENT) => {}
        result => return result.map_err(|errno| describe("openat2", errno, target)),
    }
    let (parent, mut rest) = ensure_parent(root, target)?;
    let refused = |name| move |errno| describe(name, errno, target);
    let name = rest.name().map_err(refused("openat2"))?;
    match make(parent.as_fd(), name, missing) {
        // Either somebody was faster, or a symbolic link leads nowhere: the open tells.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(describe("mkdirat", errno, target)),
    }
    let (found, by_link) = match openat2(parent.as_fd(), name, libc::O_PATH, 0, OWN) {
        Err(Errno::ELOOP) if target.links != Links::Refuse => {
            (links::ensure(root, &target.path, missing), true)
        }
        // Links in the directory's path change no name but those before the last.
        made => (made, name == c"proc"),
    };
    let found = found.map_err(refused("openat2"))?;
    Ok(Place { found, by_link })
}

/// A step down must lead to what was just made.
pub const OWN: u64 = resolve::BENEATH | resolve::NO_SYMLINKS;

/// The last component of a target.
pub struct LastName(PathText);

impl LastName {
    pub fn name(&mut self) -> nix::Result<&CStr> {
        let end = self.0.length();
        let from = self.0.parent(end).map_or(0, |slash| slash + 1);
        self.0.part(from, end)
    }
}

/// The deepest directory above a target that exists, and where its path ends. From there on: a
/// thousand mounts below each other then cost a thousand walks, not their square.
pub fn deepest(root: BorrowedFd<'_>, target: &Target) -> Result<(Fd, usize), Refused> {
    let refused = |errno| describe("openat2", errno, target);
    let mut path = PathText::new(target.path.to_bytes()).map_err(refused)?;
    let mut end = path.parent(path.length()).unwrap_or(0);
    loop {
        let prefix = match end {
            0 => Ok(c"."),
            end => path.part(0, end),
        };
        let plain = target.links == Links::Refuse;
        match prefix.and_then(|prefix| open(root, prefix, libc::O_PATH, plain)) {
            Err(Errno::ENOENT) if end > 0 => end = path.parent(end).unwrap_or(0),
            found => return Ok((found.map_err(refused)?, end)),
        }
    }
}

/// Opens the directory that a target lies in, made if it is missing.
pub fn ensure_parent(root: BorrowedFd<'_>, target: &Target) -> Result<(Fd, LastName), Refused> {
    let refused = |name| move |errno| describe(name, errno, target);
    let plain = target.links == Links::Refuse;
    let (mut parent, mut end) = deepest(root, target)?;
    let mut path = PathText::new(target.path.to_bytes()).map_err(refused("openat2"))?;
    let whole = path.parent(path.length()).unwrap_or(0);
    while end < whole {
        let Some((from, to)) = path.component(end) else {
            break;
        };
        let name = path.part(from, to).map_err(refused("openat2"))?;
        match make(parent.as_fd(), name, Missing::Directory) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(describe("mkdirat", errno, target)),
        }
        parent = match openat2(parent.as_fd(), name, libc::O_PATH, 0, OWN) {
            Err(Errno::ELOOP) if !plain => {
                let directory = path.part(0, whole).map_err(refused("openat2"))?;
                end = whole;
                links::ensure(root, directory, Missing::Directory).map_err(refused("openat2"))?
            }
            made => {
                end = to;
                made.map_err(refused("openat2"))?
            }
        };
    }
    Ok((parent, LastName(path)))
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

fn describe(name: &'static str, errno: Errno, target: &Target) -> Refused {
    let refused = Refused::new(name, errno);
    match errno {
        Errno::ELOOP if target.links == Links::Refuse => {
            refused.noting(b"the path has a symbolic link, and must be an ordinary directory")
        }
        Errno::EBUSY if name == "openat2" => refused.noting(
            b"symbolic links lead from there to the container's root: the destination / asks for that",
        ),
        Errno::EXDEV => refused.noting(b"a symbolic link in the path leads into /proc"),
        Errno::ELOOP => refused.noting(b"symbolic links in the path go round in a circle"),
        Errno::EACCES | Errno::EROFS if name == "mkdirat" => {
            refused.noting(b"the place for it doesn't exist, and can't be made")
        }
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
