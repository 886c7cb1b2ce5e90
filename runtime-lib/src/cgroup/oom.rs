//! Learning that the kernel has killed for want of memory, as it happens: cgroup v2 says that
//! memory.events has changed, v1 signals an eventfd for memory.oom_control.
//!
//! Only the counter counts. v2 reports every change of the file, whatever it was; v1 reports
//! that memory has run out, which is before it has killed and may be more than once for it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::plan::CgroupPlan;
use super::{file, tree};
use crate::error::{Code, Error, Result};

/// Waits for the killings of one container.
#[derive(Debug)]
pub struct OomWatch {
    signal: Signal,
    counted: u64,
}

#[derive(Debug)]
enum Signal {
    V1(Box<Legacy>),
    V2(OwnedFd),
}

#[derive(Debug)]
struct Legacy {
    dir: PathBuf,
    /// Memory has run out.
    notified: EventFd,
    /// When to look again whether somebody was killed for it.
    again: TimerFd,
    /// How often that was looked for in vain.
    looks: u32,
}

/// From the word that memory has run out to the killing there are milliseconds; after some
/// hundred of them it was about another process that was dying already.
const LOOKS: u32 = 8;

impl CgroupPlan {
    /// How many processes the kernel has killed for want of memory in these cgroups; 0 when
    /// nobody counts (`oom_kill` in memory.events and memory.oom_control).
    pub fn oom_kills(&self) -> u64 {
        let text = self.of_memory("memory.oom_control", "memory.events");
        let count = text.and_then(|text| file::table(&text).get("oom_kill").copied());
        count.unwrap_or_default()
    }

    /// The most memory that they may use, in bytes.
    pub fn memory_limit(&self) -> Option<u64> {
        let text = self.of_memory("memory.limit_in_bytes", "memory.max")?;
        // What is no limit is more than any machine has, or a word.
        text.trim().parse().ok().filter(|limit| *limit < 1 << 62)
    }

    fn of_memory(&self, v1: &str, v2: &str) -> Option<String> {
        let group = self.group_of("memory")?;
        let name = if group.is_unified() { v2 } else { v1 };
        std::fs::read_to_string(group.dir().join(name)).ok()
    }

    /// A watch from now on; None where nobody limits memory.
    ///
    /// # Errors
    /// [`Code::Cgroup`].
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let signal = match self.group_of("memory") {
            None => return Ok(None),
            Some(group) if !group.is_unified() => {
                Signal::V1(Box::new(Legacy::watch(&group.dir())?))
            }
            Some(group) => {
                let path = group.dir().join("memory.events");
                match open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
                    // The controller is not enabled.
                    Err(Errno::ENOENT) => return Ok(None),
                    events => Signal::V2(events.map_err(|errno| refused("open", errno, &path))?),
                }
            }
        };
        let mut watch = OomWatch { signal, counted: 0 };
        watch.counted = watch.count().unwrap_or_default();
        Ok(Some(watch))
    }
}

impl OomWatch {
    /// What to wait for.
    pub(crate) fn interest(&self) -> Vec<(BorrowedFd<'_>, EpollFlags)> {
        match &self.signal {
            Signal::V1(legacy) => vec![
                (legacy.notified.as_fd(), EpollFlags::EPOLLIN),
                (legacy.again.as_fd(), EpollFlags::EPOLLIN),
            ],
            Signal::V2(events) => vec![(events.as_fd(), EpollFlags::EPOLLPRI)],
        }
    }

    /// How many processes have been killed since the last time. Never waits.
    ///
    /// # Errors
    /// [`Code::Cgroup`].
    pub fn take(&mut self) -> Result<u64> {
        let count = self.count();
        let new = match count {
            Some(count) => count.saturating_sub(self.counted),
            None => 0,
        };
        self.counted = count.unwrap_or(self.counted);
        match &mut self.signal {
            Signal::V2(_) => Ok(new),
            Signal::V1(legacy) => legacy.settle(new, count.is_some()),
        }
    }

    /// What the kernel has counted; None: the cgroup is gone.
    fn count(&self) -> Option<u64> {
        match &self.signal {
            Signal::V1(legacy) => legacy.count(),
            Signal::V2(events) => {
                nix::unistd::lseek(events, 0, nix::unistd::Whence::SeekSet).ok()?;
                let text = file::read_to_end(events.as_fd()).ok()?;
                file::table(&text).get("oom_kill").copied()
            }
        }
    }
}

impl Legacy {
    /// cgroup v1's memory.rst, "OOM Control".
    fn watch(dir: &Path) -> Result<Legacy> {
        let made = |call, errno| Error::call(Code::Cgroup, call, errno);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let notified =
            EventFd::from_value_and_flags(0, flags).map_err(|errno| made("eventfd", errno))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let again = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)
            .map_err(|errno| made("timerfd_create", errno))?;
        let path = dir.join("memory.oom_control");
        let control = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| refused("open", errno, &path))?;
        let path = dir.join("cgroup.event_control");
        let order = format!("{} {}", number(notified.as_fd()), number(control.as_fd()));
        file::write(&path, &order).map_err(|errno| refused("write", errno, &path))?;
        Ok(Legacy {
            dir: dir.to_owned(),
            notified,
            again,
            looks: 0,
        })
    }

    /// Each cgroup counts its own.
    fn count(&self) -> Option<u64> {
        let mut sum = None;
        let walked = tree::visit(&self.dir, |here| {
            let table = control(here)?;
            let kills = table.get("oom_kill").copied().unwrap_or_default();
            sum = Some(sum.unwrap_or(0) + kills);
            Ok(())
        });
        walked.ok().and(sum)
    }

    /// Whether nobody is killed when memory runs out.
    fn never_kills(&self) -> bool {
        let text = file::read_line(&self.dir.join("memory.oom_control")).unwrap_or_default();
        never_kills(&text)
    }

    fn settle(&mut self, new: u64, exists: bool) -> Result<u64> {
        let notified = matches!(self.notified.read(), Ok(count) if count > 0);
        // Only an expired timer can be read.
        let waited = self.looks > 0;
        if new > 0 {
            return self.rest().map(|()| new);
        }
        if !exists {
            // It was removed with its last process before the counter could be read again.
            self.rest()?;
            return Ok(u64::from(waited));
        }
        if notified && self.never_kills() {
            return self.rest().map(|()| 1);
        }
        if notified {
            self.looks = 0;
        }
        match notified || waited {
            true if self.looks < LOOKS => {
                let delay = Duration::from_millis(1 << self.looks);
                self.looks += 1;
                self.look_again(delay).map(|()| 0)
            }
            true => self.rest().map(|()| 0),
            false => Ok(0),
        }
    }

    fn look_again(&self, delay: Duration) -> Result<()> {
        let delay = Expiration::OneShot(TimeSpec::from_duration(delay));
        self.again
            .set(delay, TimerSetTimeFlags::empty())
            .map_err(|errno| Error::call(Code::Cgroup, "timerfd_settime", errno))
    }

    fn rest(&mut self) -> Result<()> {
        self.looks = 0;
        self.again
            .unset()
            .map_err(|errno| Error::call(Code::Cgroup, "timerfd_settime", errno))
    }
}

/// Whether memory.oom_control says that who finds no memory waits, where others are killed.
pub(super) fn never_kills(control: &str) -> bool {
    file::table(control).get("oom_kill_disable") == Some(&1)
}

fn number(fd: BorrowedFd<'_>) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&fd)
}

fn control(dir: BorrowedFd<'_>) -> nix::Result<BTreeMap<String, u64>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let opened = openat(dir, c"memory.oom_control", flags, Mode::empty())?;
    file::read_to_end(opened.as_fd()).map(|text| file::table(&text))
}

fn refused(call: &'static str, errno: Errno, path: &Path) -> Error {
    Error::call(Code::Cgroup, call, errno)
        .doing("wait for memory to run out")
        .path(path)
}
