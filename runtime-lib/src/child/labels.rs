//! The labels of the process itself, written to its own files below a /proc that is looked at
//! before it is trusted: a file that stood in for one of these would swallow the label.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::fds::{Fd, openat2};
use crate::report::{Refused, call};
use crate::step::Label;
use crate::sys::mount::resolve;

/// The inode of a procfs's root (linux/proc_fs.h, PROC_ROOT_INO).
const ROOT: u64 = 1;

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
    let file = own(file)?;
    match nix::unistd::write(&file, room) {
        Ok(written) if written == length => Ok(()),
        Ok(_) => Err(Refused::new("write", Errno::EIO)),
        Err(errno) => Err(Refused::new("write", errno)),
    }
}

/// A file of this process: below the root of a procfs, without leaving that mount.
fn own(file: &CStr) -> Result<Fd, Refused> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc: Fd = open(c"/proc", flags, Mode::empty())
        .map_err(call("open"))?
        .into();
    let system = fstatfs(proc.as_fd()).map_err(call("fstatfs"))?;
    let inode = fstat(proc.as_fd()).map_err(call("fstat"))?.st_ino;
    if system.filesystem_type() != PROC_SUPER_MAGIC || inode != ROOT {
        return Err(Refused::new("fstatfs", Errno::EXDEV).noting(b"/proc is no procfs"));
    }
    let within = resolve::BENEATH | resolve::NO_MAGICLINKS | resolve::NO_XDEV;
    openat2(proc.as_fd(), file, libc::O_WRONLY, 0, within).map_err(call("openat2"))
}
