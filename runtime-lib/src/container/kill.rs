//! kill: a signal to the init process, through a pidfd that was checked after opening.

use std::os::fd::AsFd;

use nix::errno::Errno;

use super::Container;
use crate::error::{Code, Error, Result};
use crate::sys::process::pidfd_send_signal;

impl Container {
    /// Sends a signal to the init process. SIGKILL goes to all processes of the container when
    /// it has no pid namespace whose end would take them along.
    ///
    /// `all`: a container that does not run is no error, as containerd expects of it.
    ///
    /// # Errors
    /// [`Code::NotRunning`], `container not running`.
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        self.send(signal, all)
            .map_err(|error| error.during(format!("kill {}", self.id)))
    }

    fn send(&self, signal: i32, all: bool) -> Result<()> {
        let cgroup = self.journal.cgroup.manager();
        let shares_pids = self
            .record
            .as_ref()
            .is_some_and(|record| record.shares_pids);
        let everybody = signal == libc::SIGKILL && shares_pids && !self.journal.cgroup.is_empty();
        if everybody {
            cgroup.kill()?;
        }
        let init = self
            .record
            .as_ref()
            .map(|r| r.init.open())
            .transpose()?
            .flatten();
        let Some(pidfd) = init else {
            return match all || everybody {
                true => Ok(()),
                false => Err(Error::new(Code::NotRunning, "container not running")),
            };
        };
        match pidfd_send_signal(pidfd.as_fd(), signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) if all || everybody => return Ok(()),
            Err(Errno::ESRCH) => {
                return Err(Error::new(Code::NotRunning, "container not running"));
            }
            Err(errno) => return Err(Error::call(Code::Process, "pidfd_send_signal", errno)),
        }
        match signal {
            libc::SIGKILL => cgroup.let_die(),
            _ => Ok(()),
        }
    }
}
