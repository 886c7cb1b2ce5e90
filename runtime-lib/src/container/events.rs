//! events and stats: what a container uses, and what happens to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::Container;
use super::identity::has_ended;
use super::state::Status;
use crate::cgroup::{CgroupPlan, Further, OomWatch, Stats, Trigger};
use crate::error::{Code, Error, Result};

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The kernel has killed a process of the container for want of memory.
    Oom,
    /// The container has stopped: nothing will follow.
    Stopped,
}

/// What happens to one container, from when it was asked for on. It is a descriptor to poll:
/// readable when there may be something to [`Events::take`]. It starts no thread.
#[derive(Debug)]
pub struct Events {
    poll: Epoll,
    init: OwnedFd,
    oom: Option<OomWatch>,
    stopped: bool,
}

impl Container {
    /// What the container uses now.
    ///
    /// # Errors
    /// [`Code::NotRunning`]; a container without a cgroup, which nothing counts.
    pub fn stats(&self) -> Result<Stats> {
        self.count()
            .map_err(|error| error.during(format!("stats of {}", self.id)))
    }

    /// What its cgroups count that runc's document has no place for.
    ///
    /// # Errors
    /// As [`Container::stats`].
    pub fn further_stats(&self) -> Result<Further> {
        self.counting()
            .map(CgroupPlan::further)
            .map_err(|error| error.during(format!("stats of {}", self.id)))
    }

    /// What happens to the container from now on.
    ///
    /// # Errors
    /// [`Code::NotRunning`]; the kernel's.
    pub fn events(&self) -> Result<Events> {
        self.watch()
            .map_err(|error| error.during(format!("events of {}", self.id)))
    }

    /// A descriptor that answers poll(2) with POLLPRI each time processes of the container wait
    /// longer than the trigger allows, and with POLLERR when the container's cgroup is gone.
    ///
    /// # Errors
    /// [`Code::Unsupported`] where pressure is not counted; [`Code::NotRunning`].
    pub fn pressure(&self, trigger: &Trigger) -> Result<OwnedFd> {
        self.running()
            .and_then(|()| self.journal.cgroup.watch_pressure(trigger))
            .map_err(|error| error.during(format!("pressure of {}", self.id)))
    }

    fn running(&self) -> Result<()> {
        match self.status()? {
            Status::Stopped | Status::Creating => Err(self.is_not_running()),
            _ => Ok(()),
        }
    }

    fn is_not_running(&self) -> Error {
        let tail = format!("container with id {} is not running", self.id);
        Error::new(Code::NotRunning, tail)
    }

    fn count(&self) -> Result<Stats> {
        let mut stats = self.counting()?.stats();
        if let Some(group) = &self.journal.rdt {
            stats.intel_rdt = group.stats();
        }
        Ok(stats)
    }

    /// The cgroups of a container that runs, if it has any.
    fn counting(&self) -> Result<&CgroupPlan> {
        self.running()?;
        if self.journal.cgroup.is_empty() {
            return Err(Error::new(Code::Cgroup, "cgroup not exist")
                .hint("the container was created without a cgroup, and only a cgroup counts"));
        }
        Ok(&self.journal.cgroup)
    }

    fn watch(&self) -> Result<Events> {
        self.running()?;
        let init = self.record.as_ref().map(|record| record.init.open());
        let init = init.transpose()?.flatten();
        let init = init.ok_or_else(|| self.is_not_running())?;
        let oom = match self.journal.cgroup.watch_oom() {
            // It is being deleted.
            Err(_) if has_ended(&init)? => return Err(self.is_not_running()),
            oom => oom?,
        };
        let refused = |call| move |errno| Error::call(Code::Io, call, errno);
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(refused("epoll_create1"))?;
        let ended = (init.as_fd(), EpollFlags::EPOLLIN);
        let interest = oom.iter().flat_map(OomWatch::interest);
        for (fd, flags) in interest.chain([ended]) {
            poll.add(fd, EpollEvent::new(flags, 0))
                .map_err(refused("epoll_ctl"))?;
        }
        Ok(Events {
            poll,
            init,
            oom,
            stopped: false,
        })
    }
}

impl Events {
    /// What has happened since the last time, in its order. Never waits.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> Result<Vec<Event>> {
        if self.stopped {
            return Ok(Vec::new());
        }
        // Asked first: what killed it is counted by the time it has ended.
        self.stopped = has_ended(&self.init)?;
        let kills = self.oom.as_mut().map_or(Ok(0), OomWatch::take)?;
        let mut events = vec![Event::Oom; usize::try_from(kills).unwrap_or_default()];
        events.extend(self.stopped.then_some(Event::Stopped));
        Ok(events)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.0.as_fd()
    }
}
