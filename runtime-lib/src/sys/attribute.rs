//! Extended attributes of open files (xattr(7)).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::Result;

use super::checked;

/// The longest value, and the longest list of names (XATTR_SIZE_MAX, XATTR_LIST_MAX).
pub const LONGEST: usize = 1 << 16;

/// flistxattr(2): the length of the list of names, each with its NUL. It is written where there is
/// a buffer for it.
pub fn list(file: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    let (start, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most `room` bytes at `start`, and none where that is 0.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), start, room) };
    Ok(checked(length as libc::c_long)? as usize)
}

/// fgetxattr(2): the length of a value, which is written to the buffer.
pub fn get(file: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    let (start, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: `name` is NUL-terminated; the kernel writes at most `room` bytes at `start`.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), start, room) };
    Ok(checked(length as libc::c_long)? as usize)
}

/// fsetxattr(2): makes it, or gives it another value.
pub fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    let (start, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: `name` is NUL-terminated; the kernel reads `length` bytes at `start`.
    let set = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), start, length, 0) };
    checked(set.into())?;
    Ok(())
}
