//! The directory in which an overlay root keeps what its container writes, when the caller names
//! one: overlayfs leaves undefined what two mounts of it at once would do to each other.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, stat};

use super::state::Status;
use super::store::{Hold, StateDir};
use super::{Container, ContainerId, Runtime};
use crate::error::{Code, Error, Result, errno_text};
use crate::sys::fd::lock;

/// Held until the journal says who has the directory: nobody else looks meanwhile.
pub(super) struct Claim(#[allow(dead_code, reason = "it is the lock")] OwnedFd);

/// Makes sure that no living container of this state root has the directory. Nothing is left
/// behind that could block it: who lives, the kernel says.
///
/// # Errors
/// EBUSY, naming the container.
pub(super) fn claim(runtime: &Runtime, own: &ContainerId, directory: &Path) -> Result<Claim> {
    let root = runtime.root();
    let refused = |call| move |errno| Error::call(Code::Io, call, errno).path(root);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(root, flags, Mode::empty()).map_err(refused("open"))?;
    lock(opened.as_fd()).map_err(refused("flock"))?;
    for id in runtime.ids()? {
        // One that can't be read is its own story.
        if id != *own
            && let Ok(other) = runtime.open(&id)
            && other
                .journal
                .overlay_dir
                .as_deref()
                .is_some_and(|of| is_same(of, directory))
            && other.may_live()?
        {
            return Err(Error::new(Code::Filesystem, errno_text(Errno::EBUSY))
                .errno(Errno::EBUSY)
                .doing(format!("take the overlay directory {}", directory.display()))
                .hint(format!(
                    "the container {id} writes to it: name another --overlay-dir, or wait for its end"
                )));
        }
    }
    Ok(Claim(opened))
}

/// Both may be there by several names, or not yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    one == other || file(one).is_ok_and(|one| file(other) == Ok(one))
}

impl Container {
    /// Whether it has a process, or gets one.
    pub(super) fn may_live(&self) -> Result<bool> {
        match self.status()? {
            Status::Stopped => Ok(false),
            // Whoever creates it holds its lock; one that was killed at that does not.
            Status::Creating => {
                let taken = StateDir::open(self.runtime.root(), &self.id, Hold::LockIfFree);
                Ok(taken.is_err_and(|error| error.code() == Code::Exists))
            }
            Status::Created | Status::Running | Status::Paused => Ok(true),
        }
    }
}
