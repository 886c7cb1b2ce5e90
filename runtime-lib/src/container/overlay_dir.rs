//! The directory in which an overlay root keeps what its container writes, when the caller names
//! one: overlayfs leaves undefined what two mounts of it at once would do to each other.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, stat};

use super::state::Journal;
use super::{ContainerId, Runtime, lock};
use crate::error::{Code, Error, Result, errno_text};

/// Held until the journal says who has the directory: nobody else looks meanwhile.
pub(super) struct Claim(#[allow(dead_code, reason = "it is the lock")] OwnedFd);

/// Makes sure that no living container of this state root has the directory.
///
/// # Errors
/// EBUSY, naming the container.
pub(super) fn claim(runtime: &Runtime, own: &ContainerId, directory: &Path) -> Result<Claim> {
    let root = runtime.root();
    let refused = |call| move |errno| Error::call(Code::Io, call, errno).path(root);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(root, flags, Mode::empty()).map_err(refused("open"))?;
    lock::take(opened.as_fd(), root, None)?;
    let writes = |other: &Journal| {
        let theirs = other.overlay_dir.as_deref();
        theirs.is_some_and(|theirs| is_same(theirs, directory))
    };
    match runtime.living_other(own, writes)? {
        None => Ok(Claim(opened)),
        Some(id) => Err(Error::new(Code::Filesystem, errno_text(Errno::EBUSY))
            .errno(Errno::EBUSY)
            .doing(format!(
                "take the overlay directory {}",
                directory.display()
            ))
            .hint(format!(
                "the container {id} writes to it: name another --overlay-dir, or wait for its end"
            ))),
    }
}

/// Both may be there by several names, or not yet.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    one == other || file(one).is_ok_and(|one| file(other) == Ok(one))
}
