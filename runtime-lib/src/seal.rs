//! Protects the runtime's own executable: a container that joins it through /proc/PID/exe
//! must find a file that nobody can write (CVE-2019-5736).
//!
//! The file is a detached read-only clone of its mount, which dies when the last descriptor
//! is closed by execve(2), or by the child that closes it (`let_go`): nobody may keep a second copy of that descriptor. It must be used
//! by the process that is to be protected itself, before any other work.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::error::{Code, Error, Result};
use crate::sys::exec::execute_file;
use crate::sys::fd::take;
use crate::sys::mount::{clone_tree, set_attributes};
use crate::sys::process::{self, Born, Clone};

const SELF: &str = "/proc/self/exe";

/// The descriptor of the clone that this process was mapped from again; -1 without one.
static HELD: AtomicI32 = AtomicI32::new(-1);

/// Keeps the clone that this process was mapped from again. To close its last descriptor takes as
/// long as every CPU needs to notice (0.05 to 3 ms): create and run do it while the container's
/// process is busy. Who enters a container does it first of all.
pub fn hold(clone: OwnedFd) {
    HELD.store(clone.into_raw_fd(), Ordering::Relaxed);
}

/// Closes what [`hold`] was given; before any process of ours is seen in a container, and before one
/// executes a program: as long as it is open, the clone could be made writable.
pub(crate) fn let_go() {
    let number = HELD.swap(-1, Ordering::Relaxed);
    if number >= 0 {
        drop(take(number));
    }
}

/// Whether this process executes a file that [`seal_self`] or [`seal_file`] made.
pub fn is_sealed() -> bool {
    let Ok(path) = std::fs::read_link(SELF) else {
        return false;
    };
    if path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:") {
        return File::open(SELF).is_ok_and(|file| {
            let seals = fcntl(&file, FcntlArg::F_GET_SEALS).unwrap_or_default();
            SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE)
        });
    }
    // The root of a detached mount of one file.
    let read_only = || statvfs(SELF).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY));
    path == Path::new("/") && read_only()
}

/// Whether what this process starts could write this process's executable: root always could;
/// others when it is theirs, or writable to them.
pub fn needed() -> bool {
    let uid = geteuid();
    uid.is_root()
        || std::fs::metadata(SELF).is_ok_and(|file| file.uid() == uid.as_raw())
        || access(SELF, AccessFlags::W_OK).is_ok()
}

/// A sealed descriptor of this process's executable, for [`execute`].
///
/// # Errors
/// Where neither mounts, user namespaces nor memory files are allowed.
pub fn seal_self() -> Result<OwnedFd> {
    seal_file(Path::new(SELF))
}

/// A sealed descriptor of an executable.
///
/// # Errors
/// As [`seal_self`], and when there is no such file.
pub fn seal_file(path: &Path) -> Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())
        .map_err(|_| Error::call(Code::InvalidArgument, "open_tree", Errno::EINVAL).path(path))?;
    match read_only_clone(&name) {
        Err((_, Errno::EPERM)) => {}
        result => return result.map_err(|(call, errno)| refused(call, errno).path(path)),
    }
    match clone_by_child(&name) {
        Some(sealed) => Ok(sealed),
        None => memory_copy(path),
    }
}

/// Executes a sealed file with this process's arguments and environment in its place. It
/// only returns when that was refused.
pub fn execute(sealed: OwnedFd) -> Error {
    let c_strings = |strings: Vec<OsString>| -> Vec<CString> {
        // What came from the kernel holds no NUL.
        let strings = strings.into_iter().map(|s| CString::new(s.into_vec()));
        strings.filter_map(std::result::Result::ok).collect()
    };
    let variables = std::env::vars_os().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let environment = c_strings(variables.collect());
    let arguments = c_strings(std::env::args_os().collect());
    let errno = execute_file(sealed.as_fd(), &arguments, &environment);
    Error::call(Code::Process, "execveat", errno).doing("execute the sealed copy of capsid")
}

fn refused(call: &'static str, errno: Errno) -> Error {
    Error::call(Code::Process, call, errno).doing("seal the runtime's executable")
}

/// The clone, or the call that was refused.
fn read_only_clone(path: &std::ffi::CStr) -> std::result::Result<OwnedFd, (&'static str, Errno)> {
    let clone = clone_tree(libc::AT_FDCWD, path, false).map_err(|errno| ("open_tree", errno))?;
    set_attributes(clone.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, 0, false)
        .map_err(|errno| ("mount_setattr", errno))?;
    Ok(clone)
}

/// Without privileges: a child in a user namespace of its own makes the clone, in a table of
/// descriptors that it shares with this process, and exits with the descriptor's number.
fn clone_by_child(path: &std::ffi::CStr) -> Option<OwnedFd> {
    let request = Clone {
        namespaces: CloneFlags::CLONE_FILES | CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS,
        cgroup: None,
        sibling: false,
    };
    // The magic link leads to a mount of the old namespace; its path leads to the new one's.
    let real = std::fs::read_link(std::ffi::OsStr::new(path.to_str().ok()?)).ok();
    let real = real.and_then(|real| CString::new(real.into_os_string().into_vec()).ok());
    let child = match process::clone3(request).ok()? {
        Born::Parent(child) => child,
        Born::Child => {
            let by_path = match real.as_deref() {
                Some(real) => read_only_clone(real),
                None => Err(("readlink", Errno::ENOENT)),
            };
            let number = match by_path.or_else(|_| read_only_clone(path)) {
                Ok(clone) => std::os::fd::IntoRawFd::into_raw_fd(clone),
                Err(_) => 0,
            };
            // An exit status has eight bits; 0 is nobody's but stdin's.
            process::exit(if number < 256 { number } else { 0 })
        }
    };
    let ended = loop {
        match waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            result => break result.ok()?,
        }
    };
    let WaitStatus::Exited(_, number) = ended else {
        return None;
    };
    let clone = (number > 2).then(|| take(number))?;
    // A path may have been replaced meanwhile; only the same file is a copy of ours.
    let original = nix::sys::stat::stat(path).ok()?;
    let copy = nix::sys::stat::fstat(&clone).ok()?;
    ((original.st_dev, original.st_ino) == (copy.st_dev, copy.st_ino)).then_some(clone)
}

/// Where user namespaces are refused: slow (2 ms), and never wrong.
fn memory_copy(path: &Path) -> Result<OwnedFd> {
    let failed = |call, error: std::io::Error| Error::io(Code::Process, call, &error).path(path);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory = memfd_create("capsid", flags).map_err(|e| refused("memfd_create", e))?;
    let mut copy = File::from(memory);
    let mut original = File::open(path).map_err(|error| failed("open", error))?;
    std::io::copy(&mut original, &mut copy).map_err(|error| failed("write", error))?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| refused("fcntl", e))?;
    Ok(copy.into())
}
