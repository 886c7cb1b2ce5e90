//! Who the process is: capabilities, session keyring, clocks, OOM score, loopback interface.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, makedev};

use crate::report::{Refused, call};
use crate::sys::{CLONE_NEWTIME, credentials, fd, ioctl, keyring, process};

pub(super) fn drop_bounding(set: u64) -> Result<(), Refused> {
    for capability in bits(set) {
        match credentials::drop_bounding(capability) {
            Ok(()) => {}
            // Above the last capability that this kernel has.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(Refused::new("prctl", errno)),
        }
    }
    Ok(())
}

/// What is not both permitted and inheritable can't be ambient, and the plan has said so.
pub(super) fn ambient(set: u64) -> Result<(), Refused> {
    credentials::clear_ambient().map_err(call("prctl"))?;
    for capability in bits(set) {
        match credentials::raise_ambient(capability) {
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => return Err(Refused::new("prctl", errno)),
        }
    }
    Ok(())
}

/// /dev/null belongs to everybody. What can't be given (a closed descriptor, a read-only file
/// system, a file of a user that is not mapped) stays as it is.
pub(super) fn own_streams(uid: u32) -> Result<(), Refused> {
    let null = makedev(1, 3);
    for stream in 0..3 {
        match fd::status(stream) {
            Ok(stat) if stat.st_rdev == null || stat.st_uid == uid => continue,
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

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| set & (1 << bit) != 0)
}

/// Search permission for the owner (keyctl_setperm(3)), so that a process of the container
/// which lost the possession of the keyring still finds it.
const USER_SEARCH: u32 = 0x0008_0000;

pub(super) fn session_keyring(name: &CStr) -> Result<(), Refused> {
    let joined = match keyring::join_session(name) {
        // A kernel without keyrings, or a filter that hides them.
        Err(Errno::ENOSYS) => return Ok(()),
        result => result.map_err(call("keyctl"))?,
    };
    // The longest id, and what comes before it; what doesn't fit isn't copied at all.
    let mut text = [0; 512];
    let length = keyring::describe(joined, &mut text).map_err(call("keyctl"))?;
    let described = text.get(..length.min(text.len())).unwrap_or_default();
    let permissions = described.split(|b| *b == b';').nth(3);
    let permissions = permissions
        .and_then(|field| std::str::from_utf8(field).ok())
        .and_then(|field| u32::from_str_radix(field, 16).ok())
        .ok_or(Refused::new("keyctl", Errno::EPROTO))?;
    keyring::set_permissions(joined, permissions | USER_SEARCH).map_err(call("keyctl"))
}

/// The offsets can be set as long as nobody is in the namespace, and entered without a fork.
pub(super) fn time_namespace(offsets: &CStr) -> Result<(), Refused> {
    nix::sched::unshare(CLONE_NEWTIME).map_err(call("unshare"))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = open(c"/proc/self/timens_offsets", flags, Mode::empty()).map_err(call("open"))?;
    nix::unistd::write(&file, offsets.to_bytes()).map_err(call("write"))?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let made = open(c"/proc/self/ns/time_for_children", flags, Mode::empty());
    process::setns(made.map_err(call("open"))?.as_fd(), CLONE_NEWTIME).map_err(call("setns"))
}

pub(super) fn oom_score_adj(score: i32) -> Result<(), Refused> {
    let mut text = [0; 12];
    let mut rest = text.as_mut_slice();
    // Twelve bytes hold every i32.
    let _ = write!(rest, "{score}");
    let length = 12 - rest.len();
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = open(c"/proc/self/oom_score_adj", flags, Mode::empty()).map_err(call("open"))?;
    match nix::unistd::write(&file, text.get(..length).unwrap_or_default()) {
        // As a parent's write, but for the warning.
        Ok(_) | Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(Refused::new("write", errno)),
    }
}

pub(super) fn loopback() -> Result<(), Refused> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let any = socket(AddressFamily::Inet, SockType::Datagram, flags, None);
    let socket = any.map_err(call("socket"))?;
    ioctl::bring_up_loopback(socket.as_fd()).map_err(call("ioctl"))
}
