//! pause and resume: the cgroup freezer.

use super::Container;
use super::state::Status;
use crate::error::{Code, Error, Result};

impl Container {
    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// [`Code::NotRunning`], `container not running`, when it is neither created nor running.
    pub fn pause(&self) -> Result<()> {
        let freeze =
            |container: Container| match container.status()? {
                Status::Created | Status::Running => container.freezer()?.freeze(),
                Status::Paused => Err(Error::new(Code::NotRunning, "container not running")
                    .hint("it is paused already")),
                _ => Err(Error::new(Code::NotRunning, "container not running")),
            };
        self.locked()
            .and_then(freeze)
            .map_err(|error| error.during(format!("pause {}", self.id)))
    }

    /// Lets the processes of a paused container run again.
    ///
    /// # Errors
    /// [`Code::WrongStatus`], `container not paused`; [`Code::Cgroup`], naming a cgroup above the
    /// container's that is frozen.
    pub fn resume(&self) -> Result<()> {
        let thaw = |container: Container| match container.status()? {
            Status::Paused => container.thaw(),
            _ => Err(Error::new(Code::WrongStatus, "container not paused")),
        };
        self.locked()
            .and_then(thaw)
            .map_err(|error| error.during(format!("resume {}", self.id)))
    }

    fn thaw(&self) -> Result<()> {
        let freezer = self.freezer()?;
        match self.journal.cgroup.frozen_above() {
            None => freezer.thaw(),
            Some(above) => Err(Error::new(Code::Cgroup, "unable to thaw").hint(format!(
                "the cgroup {} above the container's is frozen: thaw that first",
                above.display()
            ))),
        }
    }

    fn freezer(&self) -> Result<Box<dyn crate::cgroup::CgroupManager + '_>> {
        match self.journal.cgroup.is_empty() {
            true => Err(Error::new(Code::Cgroup, "cgroup not exist")
                .hint("the container has no cgroup of its own, and only a cgroup can be frozen")),
            false => Ok(self.journal.cgroup.manager()),
        }
    }
}
