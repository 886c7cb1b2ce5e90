//! Where state directories live when the caller names no root.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::{Code, Error, Result};
use crate::host::in_user_namespace;

/// See [`Runtime::default_root`](super::Runtime::default_root).
pub fn default_root() -> Result<PathBuf> {
    let uid = geteuid();
    let session = env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    if uid.is_root() && !(session.is_some() && is_a_users_root()) {
        return Ok(PathBuf::from("/run/capsid"));
    }
    if let Some(directory) = session {
        return Ok(Path::new(&directory).join("capsid"));
    }
    let session = PathBuf::from(format!("/run/user/{uid}"));
    if session.is_dir() {
        return Ok(session.join("capsid"));
    }
    let shared = PathBuf::from(format!("/tmp/capsid-{uid}"));
    match shared.symlink_metadata() {
        Ok(there)
            if !there.is_dir() || there.uid() != uid.as_raw() || there.mode() & 0o077 != 0 =>
        {
            Err(Error::new(Code::Io, "permission denied")
                .path(&shared)
                .hint("the state root must be a directory of yours with mode 0700; see --root"))
        }
        _ => Ok(shared),
    }
}

/// Root of a user namespace that an ordinary user made: a rootless engine calls us from within its own, with that
/// user's XDG_RUNTIME_DIR. USER tells it from the root of a container.
fn is_a_users_root() -> bool {
    in_user_namespace() && env::var_os("USER").is_none_or(|name| name != "root")
}
