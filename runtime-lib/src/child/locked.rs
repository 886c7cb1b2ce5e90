//! Flags that came with a mount from a more privileged user namespace and can't be taken off
//! here (mount_namespaces(7)): after a refusal, which ones those are.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::report::Refused;
use crate::sys::mount::set_attributes;

/// A flag and the words that ask to take it off.
const LOCKABLE: [(u64, &[u8]); 4] = [
    (libc::MOUNT_ATTR_RDONLY, b"ro (rw is refused)"),
    (libc::MOUNT_ATTR_NOSUID, b"nosuid (suid is refused)"),
    (libc::MOUNT_ATTR_NODEV, b"nodev (dev is refused)"),
    (libc::MOUNT_ATTR_NOEXEC, b"noexec (exec is refused)"),
];

/// mount_setattr(2) was refused: the flags that it won't change, found by trying them one by
/// one. The mount is of no use any more.
pub(super) fn flags(
    mount: BorrowedFd<'_>,
    errno: Errno,
    set: u64,
    clear: u64,
    recursive: bool,
) -> Refused {
    let mut refused = Refused::new("mount_setattr", errno);
    if errno != Errno::EPERM {
        return refused;
    }
    let times = libc::MOUNT_ATTR__ATIME | libc::MOUNT_ATTR_NODIRATIME;
    let single = LOCKABLE.map(|(flag, word)| (clear & flag, 0, word));
    let access: &[u8] = b"the way to keep access times";
    for (off, on, word) in single
        .into_iter()
        .chain([(clear & times, set & times, access)])
    {
        let tried = match (on, off) {
            (0, 0) => Ok(()),
            (on, off) => set_attributes(mount, on, off, 0, recursive),
        };
        if tried == Err(Errno::EPERM) {
            refused = match refused.has_note() {
                true => refused.noting(b", "),
                false => refused.noting(b"locked by the user namespace that the mount is from: "),
            }
            .noting(word);
        }
    }
    refused
}
