//! Removes a directory with all that is in it, however deep and whoever made it. By descriptors
//! only, a bounded number of them: what lies deeper is moved up to the top and removed from there,
//! so that neither the limit of open files, nor the longest path, nor the stack ends it. No link
//! is followed, no mount is entered, and nothing is allocated: a child may run it.
//!
//! The crates for it (std's remove_dir_all, remove_dir_all, cap-std) hold a descriptor a level.

#![allow(
    clippy::result_large_err,
    reason = "a refusal carries its text: the child can't box"
)]

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{UnlinkatFlags, Whence, lseek, unlinkat};

use crate::report::{Refused, call};
use crate::sys::fd::{entries, read_directory, statx};
use crate::sys::mount::{openat2, resolve};

/// Each level costs a descriptor and some stack.
const DEEPEST: usize = 16;

/// From then on, what is made is counted: a tree may be large, but who still
/// makes files in it then doesn't end.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many of those are one too many.
const LATE: usize = 1000;

/// How often a directory is read again that was not empty after all: somebody may fill it
/// meanwhile, and some file systems pass over entries while others are removed.
const ROUNDS: usize = 100;

/// Removes what `name` is in `parent`; nothing is as good.
pub fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
    for _ in 0..ROUNDS {
        if is_gone(parent, name)? {
            return Ok(());
        }
        if let Some(directory) = open(parent, name)? {
            empty(directory.as_fd())?;
        }
    }
    Err(filled(name))
}

/// Removes what is in a directory that is open for reading.
pub fn empty(directory: BorrowedFd<'_>) -> Result<(), Refused> {
    let mut top = Top {
        directory,
        moved: 0,
        begun: Instant::now(),
        since: None,
        excused: 0,
        late: 0,
    };
    let mut rounds = 0;
    while rounds < ROUNDS {
        let moved = top.moved;
        lseek(directory, 0, Whence::SeekSet).map_err(call("lseek"))?;
        if top.remove_all(directory, 0)? == 0 {
            return Ok(());
        }
        if moved == top.moved {
            rounds += 1;
        }
    }
    Err(filled(c""))
}

/// The directory that is emptied.
struct Top<'fd> {
    directory: BorrowedFd<'fd>,
    /// The number of the last that was moved up to it.
    moved: u64,
    begun: Instant,
    /// When patience ended, as file systems tell the time.
    since: Option<TimeSpec>,
    /// So many names were changed since then by the removal itself.
    excused: usize,
    late: usize,
}

impl Top<'_> {
    /// Removes what a directory shows in one pass, and tells how much that was.
    fn remove_all(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<usize, Refused> {
        let (mut seen, mut buffer) = (0, [0; 1024]);
        loop {
            let length = read_directory(directory, &mut buffer).map_err(call("getdents64"))?;
            if length == 0 {
                return Ok(seen);
            }
            for name in entries(buffer.get(..length).unwrap_or_default()) {
                if name == c"." || name == c".." {
                    continue;
                }
                seen += 1;
                self.refuse_endless(directory, name, depth)?;
                if is_gone(directory, name)? {
                    continue;
                }
                if depth == DEEPEST {
                    self.move_up(directory, name)?;
                } else if let Some(below) = open(directory, name)? {
                    self.remove_all(below.as_fd(), depth + 1)?;
                    // One that is not empty after all has its turn in the next round.
                    is_gone(directory, name)?;
                }
            }
        }
    }

    /// Ends where somebody makes files as fast as they are removed.
    fn refuse_endless(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> Result<(), Refused> {
        if self.begun.elapsed() < PATIENCE {
            return Ok(());
        }
        let since = match self.since {
            Some(since) => since,
            None => clock_gettime(ClockId::CLOCK_REALTIME).map_err(call("clock_gettime"))?,
        };
        self.since = Some(since);
        let asked = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
        let Ok(seen) = statx(directory, name, libc::AT_SYMLINK_NOFOLLOW, asked) else {
            return Ok(());
        };
        if self.is_late(&seen, since, depth) {
            self.late += 1;
        }
        match self.late > LATE {
            true => Err(filled(name)),
            false => Ok(()),
        }
    }

    /// Whether somebody else made the name, or moved it here, since then. By the times that
    /// nobody can set: a file is written in 1970 if its owner says so.
    fn is_late(&mut self, seen: &libc::statx, since: TimeSpec, depth: usize) -> bool {
        let after = |time: libc::statx_timestamp| {
            TimeSpec::new(time.tv_sec, i64::from(time.tv_nsec)) > since
        };
        let is_directory = u32::from(seen.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        let has_birth = seen.stx_mask & libc::STATX_BTIME != 0;
        if !after(seen.stx_ctime) {
            // What loses a name, is moved, or loses what is in it, is changed when seen again.
            self.excused += match is_directory {
                true => usize::from(!has_birth),
                false => (seen.stx_nlink as usize).saturating_sub(1),
            };
            return false;
        }
        // Nothing that deep was touched by the removal yet.
        if is_directory && (has_birth || depth == DEEPEST) {
            return depth == DEEPEST || after(seen.stx_btime);
        }
        // A new name of an old file tells only by the change.
        match self.excused.checked_sub(1) {
            Some(rest) => self.excused = rest,
            None => return true,
        }
        false
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Result<(), Refused> {
        let mut number = self.moved;
        loop {
            number += 1;
            let mut new = [0; 32];
            // Twenty digits at the most, so the last byte stays the NUL.
            let _ = write!(&mut new[..31], ".moved-{number}");
            let new = CStr::from_bytes_until_nul(&new).unwrap_or(c".moved");
            match renameat(directory, name, self.directory, new) {
                Ok(()) => {
                    self.moved = number;
                    return Ok(());
                }
                Err(Errno::ENOENT) => return Ok(()),
                // Another has that name.
                Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
                Err(errno) => return Err(Refused::new("rename", errno).noting(name.to_bytes())),
            }
        }
    }
}

/// Whether it was no directory, or an empty one, and is gone.
fn is_gone(parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Refused> {
    let refused = |call, errno| Err(Refused::new(call, errno).noting(name.to_bytes()));
    let first = match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        // Not all file systems say EISDIR.
        Err(errno @ (Errno::EISDIR | Errno::EPERM)) => errno,
        Err(errno) => return refused("unlink", errno),
    };
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(Errno::ENOTDIR) if first == Errno::EPERM => refused("unlink", first),
        // A file has taken its place.
        Err(Errno::ENOTDIR) => Ok(false),
        Err(errno) => refused("rmdir", errno),
    }
}

/// None: it is no directory any more.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Refused> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let how = resolve::NO_SYMLINKS | resolve::NO_XDEV;
    match openat2(parent, name, flags, 0, how) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(Errno::EXDEV) => {
            Err(Refused::new("openat2", Errno::EBUSY).noting(b"something is mounted there"))
        }
        Err(errno) => Err(Refused::new("openat2", errno).noting(name.to_bytes())),
    }
}

fn filled(name: &CStr) -> Refused {
    Refused::new("rmdir", Errno::ENOTEMPTY)
        .noting(b"somebody makes files in it while they are removed: ")
        .noting(name.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, open, renameat2};
    use nix::sys::resource::{Resource, getrlimit};
    use nix::sys::stat::{Mode, mkdirat};

    use super::*;

    fn directory(path: &Path) -> OwnedFd {
        open(path, OFlag::O_DIRECTORY, Mode::empty()).unwrap()
    }

    /// A chain of directories, each with a file and a link in it.
    fn chain(top: &Path, levels: usize) {
        let mut at = directory(top);
        for level in 0..levels {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            if level % 100 == 0 {
                nix::unistd::symlinkat("/", &at, "link").unwrap();
                nix::unistd::mkfifoat(&at, "fifo", Mode::S_IRWXU).unwrap();
            }
            at = nix::fcntl::openat(&at, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn directories_deeper_than_the_longest_path_and_the_table_of_descriptors_go() {
        let folder = tempfile::tempdir().unwrap();
        let levels = getrlimit(Resource::RLIMIT_NOFILE).unwrap().0.min(9000) as usize + 100;
        std::fs::create_dir(folder.path().join("top")).unwrap();
        chain(&folder.path().join("top"), levels.max(2200));
        // Names that the moved ones would get.
        std::fs::create_dir_all(folder.path().join("top/.moved-1/x/y")).unwrap();
        std::fs::write(folder.path().join("top/.moved-2"), "").unwrap();
        let above = directory(folder.path());
        assert!(remove(above.as_fd(), c"top").is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(remove(above.as_fd(), c"top").is_ok());
    }

    /// One pass whose patience ended then.
    fn late_pass(folder: &Path, since: TimeSpec) -> Result<usize, Refused> {
        let above = directory(folder);
        let mut top = Top {
            directory: above.as_fd(),
            moved: 0,
            begun: Instant::now().checked_sub(2 * PATIENCE).unwrap(),
            since: Some(since),
            excused: 0,
            late: 0,
        };
        top.remove_all(above.as_fd(), 0)
    }

    fn now() -> TimeSpec {
        clock_gettime(ClockId::CLOCK_REALTIME).unwrap()
    }

    #[test]
    fn what_somebody_fills_meanwhile_is_given_up_by_name_and_what_is_only_large_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(n.to_string());
        let old = path(LATE + 1);
        let in_1970 = |path: &Path| {
            let epoch = TimeSpec::new(0, 0);
            let how = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
            nix::sys::stat::utimensat(AT_FDCWD, path, &epoch, &epoch, how).unwrap();
        };
        let file = |n| std::fs::write(path(n), "").unwrap();
        let dir = |n| std::fs::create_dir(path(n)).unwrap();
        let deep = |n| {
            std::fs::create_dir(path(n)).unwrap();
            chain(&path(n), DEEPEST + 2);
        };
        let makers: [&dyn Fn(usize); 3] = [&file, &dir, &deep];
        for make in makers {
            let fill = || {
                for n in 0..=LATE {
                    make(n);
                    in_1970(&path(n));
                }
            };
            let minute = TimeSpec::new(60, 0);
            fill();
            assert!(matches!(late_pass(folder.path(), now() + minute), Ok(seen) if seen > LATE));
            super::empty(directory(folder.path()).as_fd()).ok().unwrap();
            fill();
            let Err(refused) = late_pass(folder.path(), now() - minute) else {
                panic!("it goes on");
            };
            assert_eq!(refused.errno, Errno::ENOTEMPTY);
            let said = "somebody makes files in it while they are removed: ";
            assert!(refused.note().starts_with(said), "{}", refused.note());
            super::empty(directory(folder.path()).as_fd()).ok().unwrap();
        }
        // New names of an old file.
        std::fs::write(&old, "").unwrap();
        let before = now();
        for n in 0..=LATE {
            std::fs::hard_link(&old, path(n)).unwrap();
        }
        assert!(late_pass(folder.path(), before).is_err());
    }

    #[test]
    fn what_the_removal_itself_changes_is_nobodys_filling() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        std::fs::write(&first, "").unwrap();
        for n in 0..2 * LATE {
            std::fs::hard_link(&first, folder.path().join(format!("link{n}"))).unwrap();
            let top = folder.path().join(format!("deep{n}"));
            if n % 2 == 0 {
                std::fs::create_dir(&top).unwrap();
                chain(&top, 2 * DEEPEST + 2);
            }
        }
        let since = now();
        for _ in 0..4 {
            assert!(late_pass(folder.path(), since).is_ok());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_is_never_walked_through() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("decoy")).unwrap();
        std::os::unix::fs::symlink("decoy", folder.path().join("link")).unwrap();
        let above = directory(folder.path());
        assert!(matches!(super::open(above.as_fd(), c"link"), Ok(None)));
        assert!(matches!(super::open(above.as_fd(), c"decoy"), Ok(Some(_))));
    }

    #[test]
    fn what_links_lead_to_stays_while_somebody_exchanges_directories_with_them() {
        let folder = tempfile::tempdir().unwrap();
        let decoy = folder.path().join("decoy");
        std::fs::create_dir_all(decoy.join("kept/deep")).unwrap();
        let top = folder.path().join("top");
        for round in 0..50 {
            std::fs::create_dir_all(top.join("a/b/c")).unwrap();
            chain(&top.join("a/b/c"), 40);
            for n in 0..50 {
                std::fs::create_dir_all(top.join(format!("a/b/{n}/x"))).unwrap();
            }
            std::os::unix::fs::symlink(&decoy, top.join("link")).unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        for one in ["a", "a/b", "a/b/7"] {
                            let (one, link) = (top.join(one), top.join("link"));
                            let how = RenameFlags::RENAME_EXCHANGE;
                            let _ = renameat2(AT_FDCWD, &one, AT_FDCWD, &link, how);
                        }
                    }
                });
                let above = directory(folder.path());
                let removed = remove(above.as_fd(), c"top");
                stop.store(true, Ordering::Relaxed);
                assert!(removed.is_ok(), "round {round}");
            });
            assert!(!top.exists());
            assert!(decoy.join("kept/deep").exists(), "round {round}");
        }
    }
}
