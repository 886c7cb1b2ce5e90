//! The labels of the process itself, written to its own files below a /proc that is looked at
//! before it is trusted: a file that stood in for one of these would swallow the label.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::procfs::{self, at_proc};
use crate::report::Refused;
use crate::step::Label;
use crate::sys::fd::retry;

/// AppArmor's own part of attr; a label follows the word (aa_change_onexec(2)).
const PROFILE: &CStr = c"self/attr/apparmor/exec";
const PROFILE_WORD: &[u8] = b"exec ";
/// SELinux's: the last module that takes the common part.
const CONTEXT: &CStr = c"self/attr/exec";
const KEYRINGS: &CStr = c"self/attr/keycreate";

/// The longest text that is written: one page holds all that a module takes.
const MAX: usize = 4096;

pub(super) fn take(label: &Label) -> Result<(), Refused> {
    match label {
        Label::Profile(name) => write(PROFILE, PROFILE_WORD, name),
        Label::Context(label) => write(CONTEXT, b"", label),
        Label::Keyrings(label) => write(KEYRINGS, b"", label),
    }
}

fn write(file: &CStr, word: &[u8], label: &CStr) -> Result<(), Refused> {
    let mut text = [0; MAX];
    let length = word.len() + label.count_bytes();
    let parts = word.iter().chain(label.to_bytes());
    let room = text.get_mut(..length);
    let room = room.ok_or(Refused::new("write", Errno::ENAMETOOLONG))?;
    for (to, from) in room.iter_mut().zip(parts) {
        *to = *from;
    }
    let procfs = at_proc()?;
    let file = procfs::file(procfs.as_fd(), file, libc::O_WRONLY)?;
    match retry(|| nix::unistd::write(&file, &*room)) {
        Ok(written) if written == length => Ok(()),
        Ok(_) => Err(Refused::new("write", Errno::EIO)),
        Err(errno) => Err(Refused::new("write", errno)),
    }
}
