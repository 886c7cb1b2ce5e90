//! Stopping and resuming all processes of a cgroup: v1's freezer.state, v2's cgroup.freeze.
//!
//! v2 says when it is done (cgroup.events); v1 has to be asked again, and may need another
//! try when a process was in a place where it cannot stop.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;

use super::remove::{DEADLINE, Pause, await_event, has_line};
use super::stuck::Suspects;
use super::{file, tree};
use crate::error::{Code, Error, Result};

/// The two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freezer {
    V1,
    V2,
}

impl Freezer {
    /// Stops the processes of `dir` and below. On an error they run.
    pub fn freeze(self, dir: &Path) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let frozen = match self {
            Freezer::V1 => freeze_v1(dir, deadline),
            Freezer::V2 => self
                .set(dir, true)
                .and_then(|()| await_event(dir, "frozen 1", deadline)),
        };
        if let Ok(true) = frozen {
            return Ok(());
        }
        let suspects = Suspects::of(dir, self);
        let thawed = self.set(dir, false);
        frozen?;
        thawed?;
        let waited = DEADLINE.as_secs();
        let why = suspects.name();
        let why = why.unwrap_or_else(|| "a process did not stop".to_owned());
        Err(Error::new(Code::Deadline, "unable to freeze")
            .doing(format!("freeze {} within {waited} s", dir.display()))
            .hint(format!("{why}; all run again")))
    }

    /// Lets the processes of `dir` run. Without the directory there are none.
    pub fn thaw(self, dir: &Path) -> Result<()> {
        match self.set(dir, false) {
            Err(error) if matches!(error.os_error(), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(()),
            other => other,
        }
    }

    /// v1: lets the processes of `dir` run, and those of cgroups that the container itself
    /// has frozen below it. A frozen process does not die of SIGKILL.
    pub fn thaw_all_v1(dir: &Path) -> Result<()> {
        let thawed = tree::visit(dir, |here| {
            let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
            let mode = nix::sys::stat::Mode::empty();
            let state = nix::fcntl::openat(here, c"freezer.state", flags, mode)?;
            file::write_to(std::os::fd::AsFd::as_fd(&state), "THAWED")
        });
        thawed.map_err(|errno| refused(dir, "freezer.state", errno))
    }

    /// Whether the processes of `dir` are stopped or about to be, by it or a parent.
    pub fn frozen(self, dir: &Path) -> Result<bool> {
        let (name, read) = match self {
            Freezer::V1 => ("freezer.state", file::read_line(&dir.join("freezer.state"))),
            Freezer::V2 => ("cgroup.events", file::read_line(&dir.join("cgroup.events"))),
        };
        match (self, read) {
            (_, Err(Errno::ENOENT | Errno::ENODEV)) => Ok(false),
            (_, Err(errno)) => Err(refused(dir, name, errno)),
            (Freezer::V1, Ok(state)) => Ok(state != "THAWED"),
            (Freezer::V2, Ok(events)) => Ok(has_line(&events, "frozen 1") || requested(dir)),
        }
    }

    /// The topmost cgroup above `dir` that stops its processes with its own.
    pub fn frozen_above(self, dir: &Path) -> Option<PathBuf> {
        let name = match self {
            Freezer::V1 => "freezer.self_freezing",
            Freezer::V2 => "cgroup.freeze",
        };
        let freezes = |above: &&Path| file::read_line(&above.join(name)).is_ok_and(|it| it == "1");
        let above = dir.ancestors().skip(1).filter(freezes).last();
        above.map(Path::to_path_buf)
    }

    /// Refuses a directory in which nothing would run.
    pub fn refuse_frozen(self, dir: &Path) -> Result<()> {
        match self.frozen(dir)? {
            true => {
                Err(Error::new(Code::Cgroup, "container's cgroup unexpectedly frozen").path(dir))
            }
            false => Ok(()),
        }
    }

    fn set(self, dir: &Path, freeze: bool) -> Result<()> {
        let (name, value) = match (self, freeze) {
            (Freezer::V1, true) => ("freezer.state", "FROZEN"),
            (Freezer::V1, false) => ("freezer.state", "THAWED"),
            (Freezer::V2, true) => ("cgroup.freeze", "1"),
            (Freezer::V2, false) => ("cgroup.freeze", "0"),
        };
        file::write(&dir.join(name), value).map_err(|errno| refused(dir, name, errno))
    }
}

fn requested(dir: &Path) -> bool {
    file::read_line(&dir.join("cgroup.freeze")).is_ok_and(|text| text == "1")
}

/// A process that forks or waits in the kernel can leave the state at FREEZING: writing
/// FROZEN again catches it; thawing in between lets one out that waits for a frozen one.
fn freeze_v1(dir: &Path, deadline: Instant) -> Result<bool> {
    let path = dir.join("freezer.state");
    let read = || file::read_line(&path).map_err(|errno| refused(dir, "freezer.state", errno));
    let mut pause = Pause::new(deadline);
    for round in 1_u32.. {
        Freezer::V1.set(dir, true)?;
        if read()? == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            break;
        }
        if round % 50 == 0 {
            Freezer::V1.set(dir, false)?;
        }
        pause.sleep();
    }
    Ok(false)
}

fn refused(dir: &Path, name: &str, errno: Errno) -> Error {
    Error::call(Code::Cgroup, "write", errno).path(dir.join(name))
}
