//! What a process sets of itself by writing files of /proc/self.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::report::{Refused, call};
use crate::sys::{CLONE_NEWTIME, process};

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
