//! The mounts that were added to a running container: written down before they are attached, and
//! found again among what the container has mounted, whatever it does with its paths meanwhile.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use super::mountinfo::Line;
use super::mounts::Added;
use super::store::{MOUNTS, SCHEMA, StateDir, Versioned};
use crate::error::{Code, Error, Result};
use crate::sys::mount::{MountId, mount_id, openat2, resolve};

/// The mounts that were added, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ledger {
    schema: u32,
    pub mounts: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub added: Added,
    /// As mountinfo numbers it.
    pub id: u64,
    /// See [`MountId::unique`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<u64>,
    /// What is mounted, which tells it from others where the kernel has no unique number.
    file: (u64, u64),
}

impl Versioned for Ledger {
    fn schema(&self) -> u32 {
        self.schema
    }
}

impl Ledger {
    pub fn load(state_dir: &StateDir) -> Result<Ledger> {
        let found = state_dir.load(MOUNTS)?;
        Ok(found.unwrap_or(Ledger {
            schema: SCHEMA,
            mounts: Vec::new(),
        }))
    }

    pub fn save(&self, state_dir: &StateDir) -> Result<()> {
        state_dir.record(MOUNTS, self).map(drop)
    }

    /// Forgets what has ended: a mount's number is in this table as long as the mount is there.
    pub fn forget_the_gone(&mut self, seen: &Seen) {
        self.mounts.retain(|entry| seen.line(entry.id).is_some());
    }
}

impl Entry {
    pub fn new(added: Added, mount: MountId) -> Entry {
        Entry {
            added,
            id: mount.id,
            unique: mount.unique,
            file: mount.file,
        }
    }

    pub fn is(&self, seen: MountId) -> bool {
        match (self.unique, seen.unique) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.id == seen.id && self.file == seen.file,
        }
    }

    /// Whether another mount has its number by now, which is so when ours has ended. Only what is
    /// known counts: a path that leads to another mount, or nowhere, may have been renamed.
    pub fn is_replaced(&self, line: &Line, root: &OwnedFd) -> bool {
        // No file system of the container is asked, which could keep the caller waiting.
        let how = resolve::IN_ROOT | resolve::NO_SYMLINKS | resolve::CACHED;
        let path = CString::new(line.point.as_os_str().as_bytes()).unwrap_or_default();
        let place = openat2(root.as_fd(), &path, libc::O_PATH, 0, how);
        let found = place.ok().and_then(|place| identify(&place).ok());
        found.is_some_and(|found| found.id == self.id && !self.is(found))
    }
}

/// What is mounted in a container.
pub(super) struct Seen {
    /// As a process sees it that is in the container's mount namespace, at its root.
    pub lines: Vec<Line>,
    /// What only the container's init sees, whose root may be another.
    pub hidden: Vec<Line>,
}

impl Seen {
    pub fn line(&self, id: u64) -> Option<&Line> {
        self.lines
            .iter()
            .chain(&self.hidden)
            .find(|line| line.id == id)
    }
}

pub(super) fn identify(mount: &OwnedFd) -> Result<MountId> {
    mount_id(mount.as_fd()).map_err(|errno| Error::call(Code::Filesystem, "statx", errno))
}
