//! How a created container waits for its start.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;

use super::store::{GO, RESULT, StateDir};
use crate::child::Handshake;
use crate::error::{Code, Error, Result};

/// The two fifos of start: `go` is read by the child, which holds it for writing as well so
/// that it never sees an end; `result` ends when the child executes.
pub(super) struct Fifos {
    go: OwnedFd,
    result: OwnedFd,
}

impl Fifos {
    pub(super) fn make(state_dir: &StateDir) -> Result<Fifos> {
        let go = state_dir.make_fifo(GO, OFlag::O_RDWR)?;
        // Opened for both, else it would block until there is a reader.
        let both = state_dir.make_fifo(RESULT, OFlag::O_RDWR)?;
        let result = state_dir
            .open_fifo(RESULT, OFlag::O_WRONLY)
            .map_err(|errno| {
                Error::call(Code::Io, "open", errno).path(state_dir.path().join(RESULT))
            })?;
        drop(both);
        Ok(Fifos { go, result })
    }

    pub(super) fn handshake(&self) -> Handshake {
        Handshake {
            go: self.go.as_raw_fd(),
            result: self.result.as_raw_fd(),
        }
    }
}
