//! Which dead children a foreground command takes in.

use capsid_runtime::{Code, Error, Result};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reap {
    /// Only the process itself.
    ItsProcess,
    /// Also the processes that lose their parent in the container: PR_SET_CHILD_SUBREAPER(2const).
    Orphans,
}

impl Reap {
    /// Declares this process the one that orphans go to.
    pub fn begin(self) -> Result<()> {
        match self {
            Reap::ItsProcess => Ok(()),
            Reap::Orphans => set_child_subreaper(true)
                .map_err(|errno| Error::call(Code::Process, "prctl", errno)),
        }
    }

    /// Takes in every dead orphan, but leaves the process itself, whose status is wanted.
    pub fn orphans(self, process: i32) {
        if self == Reap::ItsProcess {
            return;
        }
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) =
            waitid(Id::All, look)
        {
            // The kernel shows the same dead child first each time.
            if pid == Pid::from_raw(process) || waitpid(pid, None).is_err() {
                break;
            }
        }
    }
}
