//! Giving a container's cgroup2 directory to the user that its process is: config-linux.md,
//! "Cgroup ownership", and cgroups(7), "Cgroup delegation".
//!
//! Only the directory and the files that the kernel lists: the others are the container's
//! own limits. Never on v1, where delegation is not safe.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, fchownat};

use super::file;
use crate::error::{Code, Error, Result};

/// What the kernel says may be given away.
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// The same where it doesn't say.
const USUAL: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control";

/// Gives the directory and its files to `owner`.
///
/// # Errors
/// [`Code::Cgroup`]: it cannot be opened, or its owner cannot be changed.
pub(super) fn give(dir: &Path, owner: u32) -> Result<()> {
    let refused = |call: &'static str, errno| {
        Error::call(Code::Cgroup, call, errno)
            .doing(format!("give {} to the user {owner}", dir.display()))
            .at("/process/user/uid")
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(dir, flags, Mode::empty()).map_err(|errno| refused("open", errno))?;
    let uid = Uid::from_raw(owner);
    let list = file::read_whole(Path::new(LIST));
    let list = list.map_or_else(
        |_| USUAL.to_owned(),
        |it| String::from_utf8_lossy(&it).into(),
    );
    let names = list
        .lines()
        .filter(|name| !name.is_empty() && !name.contains('/'));
    for name in names {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fchownat(opened.as_fd(), name, Some(uid), None, flags) {
            // The list names what any cgroup may have.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(refused("fchownat", errno)),
        }
    }
    fchown(opened.as_fd(), Some(uid), None).map_err(|errno| refused("fchown", errno))
}
