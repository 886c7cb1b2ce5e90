//! The standard streams, which are to belong to the process's user.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, makedev};

use super::Child;
use crate::cgroup::DEFAULT_DEVICES;
use crate::report::{Refused, call};
use crate::step::Slot;
use crate::sys::fd;

impl Child<'_> {
    /// The slots become standard input, output and error.
    pub(super) fn take_streams(&self, slots: &[Slot; 3]) -> Result<(), Refused> {
        for (slot, stream) in slots.iter().zip(0..) {
            let from = self.opened(*slot)?.as_raw_fd();
            fd::duplicate_to(from, stream, false).map_err(call("dup3"))?;
        }
        Ok(())
    }
}

/// A device that every container has belongs to everybody, and the node is the host's own. What
/// can't be given (a closed descriptor, a read-only file system, a file of a user that is not
/// mapped) stays as it is.
pub(super) fn own(uid: u32) -> Result<(), Refused> {
    for stream in 0..3 {
        match fd::status(stream) {
            Ok(stat) if stat.st_uid == uid || is_everybodys(&stat) => continue,
            Ok(_) => {}
            Err(_) => continue,
        }
        match fd::change_owner(stream, uid) {
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => {}
            Err(errno) => return Err(Refused::new("fchown", errno)),
        }
    }
    Ok(())
}

fn is_everybodys(stat: &libc::stat) -> bool {
    let number = |(_, major, minor): (&str, u32, u32)| makedev(major.into(), minor.into());
    stat.st_mode & libc::S_IFMT == SFlag::S_IFCHR.bits()
        && DEFAULT_DEVICES
            .into_iter()
            .any(|device| number(device) == stat.st_rdev)
}
