//! What a process sets of itself by writing files of /proc/self.

use std::ffi::CStr;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::procfs::{at_proc, file};
use crate::report::{Refused, call};
use crate::sys::fd::retry;
use crate::sys::{CLONE_NEWTIME, process};

/// The offsets can be set as long as nobody is in the namespace, and entered without a fork.
pub(super) fn time_namespace(offsets: &CStr) -> Result<(), Refused> {
    nix::sched::unshare(CLONE_NEWTIME).map_err(call("unshare"))?;
    let procfs = at_proc()?;
    let written = file(procfs.as_fd(), c"self/timens_offsets", libc::O_WRONLY)?;
    retry(|| nix::unistd::write(&written, offsets.to_bytes())).map_err(call("write"))?;
    // The namespace itself is behind a magic link.
    let made = super::fds::openat2(
        procfs.as_fd(),
        c"self/ns/time_for_children",
        libc::O_RDONLY,
        0,
        0,
    );
    process::setns(made.map_err(call("openat2"))?.as_fd(), CLONE_NEWTIME).map_err(call("setns"))
}

pub(super) fn oom_score_adj(score: i32) -> Result<(), Refused> {
    let mut text = [0; 12];
    let mut rest = text.as_mut_slice();
    // Twelve bytes hold every i32.
    let _ = write!(rest, "{score}");
    let length = 12 - rest.len();
    let procfs = at_proc()?;
    let file = file(procfs.as_fd(), c"self/oom_score_adj", libc::O_WRONLY)?;
    let text = text.get(..length).unwrap_or_default();
    match retry(|| nix::unistd::write(&file, text)) {
        // The parent looks, and warns.
        Ok(_) | Err(Errno::EACCES) => Ok(()),
        Err(errno) => Err(Refused::new("write", errno)),
    }
}
