//! Removing a container's directories: at once when they are empty; else kill, wait for an
//! event, remove from the deepest up, until a deadline that names who is in the way.
//!
//! Works on whatever part of the plan exists. Parents stay, as they may be shared.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::members::{self, Members};
use super::{file, tree};
use crate::error::{Code, Error, Result};

/// How long a killed process may take to end.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Removes those of `dirs` that are empty, and gives the others.
pub(super) fn remove_empty(dirs: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for dir in dirs {
        match unlinkat(nix::fcntl::AT_FDCWD, &dir, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => left.push(dir),
            Err(errno) => return Err(refused(&dir, errno)),
        }
    }
    Ok(left)
}

/// Removes `dirs`; `kill` ends every process in them.
pub(super) fn remove(dirs: Vec<PathBuf>, kill: impl Fn() -> Result<()>) -> Result<()> {
    let mut left = remove_empty(dirs)?;
    let deadline = Instant::now() + DEADLINE;
    let mut pause = Pause::new(deadline);
    while !left.is_empty() {
        kill()?;
        let mut busy = Vec::new();
        for dir in left {
            match tree::remove(&dir) {
                Ok(()) => {}
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => busy.push(dir),
                Err(errno) => return Err(refused(&dir, errno)),
            }
        }
        left = busy;
        if let Some(first) = left.first() {
            if Instant::now() >= deadline {
                return Err(blocked(first, &left));
            }
            wait(&left, &mut pause)?;
        }
    }
    Ok(())
}

/// Kills what is in a cgroup2 directory and below, and waits until nobody is. The directory stays.
pub(super) fn drain(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        super::v2::kill(dir)?;
        if await_event(dir, "populated 0", deadline.min(Instant::now() + RECHECK))? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(blocked(dir, &[dir.to_path_buf()]));
        }
    }
}

fn refused(dir: &Path, errno: Errno) -> Error {
    Error::call(Code::Cgroup, "rmdir", errno)
        .doing("remove cgroup")
        .path(dir)
}

fn blocked(first: &Path, left: &[PathBuf]) -> Error {
    let pids = Members(left).pids().unwrap_or_default();
    let hint = match pids.first() {
        Some(pid) => format!("process {} does not end", members::describe(*pid)),
        None => "something else uses it".to_owned(),
    };
    let waited = DEADLINE.as_secs();
    Error::new(Code::Deadline, "device or resource busy")
        .errno(Errno::EBUSY)
        .doing(format!(
            "remove cgroup {} within {waited} s",
            first.display()
        ))
        .hint(hint)
}

/// Returns when a process may have left one of the directories.
fn wait(dirs: &[PathBuf], pause: &mut Pause) -> Result<()> {
    for dir in dirs {
        if populated(dir) == Some(true) {
            return await_event(
                dir,
                "populated 0",
                pause.deadline.min(Instant::now() + RECHECK),
            )
            .map(drop);
        }
    }
    let handles = Members(dirs).handles()?;
    let mut polled: Vec<_> = handles
        .iter()
        .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
        .collect();
    if polled.is_empty() {
        // The last one is on its way out: there is no event for the moment it is gone.
        pause.sleep();
        return Ok(());
    }
    // The first process of a pid namespace is silent until its others are reaped, so this
    // cannot be the only way to learn that the directory is empty.
    match poll(&mut polled, pause.timeout()) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::call(Code::Cgroup, "poll", errno)),
    }
}

/// How long to trust an event that does not come.
const RECHECK: Duration = Duration::from_secs(1);

/// Ever longer waits, 0.1 to 10 ms, up to a deadline.
pub(super) struct Pause {
    next: Duration,
    pub deadline: Instant,
}

impl Pause {
    pub fn new(deadline: Instant) -> Pause {
        Pause {
            next: Duration::from_micros(100),
            deadline,
        }
    }

    fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(Duration::from_millis(10));
        now.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    pub fn sleep(&mut self) {
        thread::sleep(self.step());
    }

    fn timeout(&mut self) -> PollTimeout {
        let millis = self.step().as_millis().max(1);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO)
    }
}

/// Whether a cgroup2 directory or one below it holds a process. `None`: it has no such file.
fn populated(dir: &Path) -> Option<bool> {
    let events = file::read_line(&dir.join("cgroup.events")).ok()?;
    Some(has_line(&events, "populated 1"))
}

pub(super) fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|l| l == line)
}

/// Waits until cgroup.events of a cgroup2 directory has this line (cgroups(7): the file
/// answers poll(2) with POLLPRI when it changes). Whether it came before the deadline; a
/// directory that is gone counts as yes.
pub(super) fn await_event(dir: &Path, line: &str, deadline: Instant) -> Result<bool> {
    let path = dir.join("cgroup.events");
    let failed = |call, errno| Error::call(Code::Cgroup, call, errno).path(&path);
    let opened = match open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(true),
        other => other.map_err(|errno| failed("open", errno))?,
    };
    loop {
        nix::unistd::lseek(&opened, 0, nix::unistd::Whence::SeekSet)
            .map_err(|errno| failed("lseek", errno))?;
        match file::read_to_end(opened.as_fd()) {
            Ok(text) if has_line(&text, line) => return Ok(true),
            Ok(_) => {}
            Err(Errno::ENODEV) => return Ok(true),
            Err(errno) => return Err(failed("read", errno)),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(opened.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("poll", errno)),
        }
    }
}

/// Refuses a directory that somebody else uses; whether there is one.
///
/// # Errors
/// [`Code::Cgroup`] in runc's words, naming a process.
pub(super) fn refuse_members(dir: &Path) -> Result<bool> {
    let Some(pids) = members::pids_if_there(dir)? else {
        return Ok(false);
    };
    let Some(first) = pids.first() else {
        return Ok(true);
    };
    let count = pids.len();
    let tail = format!("container's cgroup is not empty: {count} process(es) found");
    let holder = members::describe(*first);
    Err(Error::new(Code::Cgroup, tail)
        .path(dir)
        .hint(format!("it holds process {holder}")))
}
