//! Descriptors: passing them over a socket, renumbering and closing them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;

use super::checked;

/// close_range(2) from `first` to the end of the table.
pub fn close_from(first: RawFd) -> Result<()> {
    // SAFETY: only the child calls it, which uses no descriptor of its parent's after it.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) })?;
    Ok(())
}

/// close_range(2) from `first` to `last`, both included.
pub fn close_between(first: RawFd, last: RawFd) -> Result<()> {
    // SAFETY: only the child calls it, which uses no descriptor of these after it.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// fcntl(2) F_DUPFD_CLOEXEC: a copy at `least` or above.
pub fn duplicate_above(fd: RawFd, least: RawFd) -> Result<RawFd> {
    // SAFETY: the call takes ints only.
    Ok(checked(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) }.into())? as RawFd)
}

/// dup3(2): `fd` at the number `at`, whatever was there.
pub fn duplicate_to(fd: RawFd, at: RawFd, close_on_exec: bool) -> Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: the call takes ints only; the caller owns the number `at`.
    checked(unsafe { libc::dup3(fd, at, flags) }.into())?;
    Ok(())
}

/// readlinkat(2) into a buffer: how many bytes the link has, of which the buffer may hold
/// only the first.
pub fn read_link(directory: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    let (start, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: `name` is NUL-terminated; the kernel writes at most `room` bytes at `start`.
    let length = unsafe { libc::readlinkat(directory.as_raw_fd(), name.as_ptr(), start, room) };
    Ok(checked(length as libc::c_long)? as usize)
}

/// sendfile(2): copies on from where both are, as much as the call will; 0 at the end.
pub fn send_file(to: RawFd, from: RawFd) -> Result<usize> {
    const AT_ONCE: usize = 1 << 24;
    // SAFETY: without an offset, the call takes no pointer.
    let copied = unsafe { libc::sendfile(to, from, std::ptr::null_mut(), AT_ONCE) };
    Ok(checked(copied as libc::c_long)? as usize)
}

/// fcntl(2) F_GETFD: whether the number is an open descriptor.
pub fn is_open(fd: RawFd) -> Result<()> {
    // SAFETY: the call takes ints only.
    checked(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into())?;
    Ok(())
}

/// fstat(2) of a descriptor by its number.
pub fn status(fd: RawFd) -> Result<libc::stat> {
    // SAFETY: stat is plain data for which all zeroes is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` outlives the call.
    checked(unsafe { libc::fstat(fd, &raw mut stat) }.into())?;
    Ok(stat)
}

/// fchown(2) of a descriptor by its number; its group stays.
pub fn change_owner(fd: RawFd, uid: u32) -> Result<()> {
    // SAFETY: the call takes ints only.
    checked(unsafe { libc::fchown(fd, uid, libc::gid_t::MAX) }.into())?;
    Ok(())
}

/// EINTR is nobody's failure.
pub fn retry<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Err(nix::errno::Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// flock(2) LOCK_EX, held until the last copy of the descriptor is closed.
pub fn lock(file: BorrowedFd<'_>) -> Result<()> {
    flock(file, libc::LOCK_EX)
}

/// flock(2) LOCK_UN.
pub fn unlock(file: BorrowedFd<'_>) -> Result<()> {
    flock(file, libc::LOCK_UN)
}

/// flock(2) LOCK_EX | LOCK_NB.
///
/// # Errors
/// EWOULDBLOCK: somebody holds the lock.
pub fn try_lock(file: BorrowedFd<'_>) -> Result<()> {
    flock(file, libc::LOCK_EX | libc::LOCK_NB)
}

fn flock(file: BorrowedFd<'_>, operation: libc::c_int) -> Result<()> {
    // SAFETY: the call takes ints only.
    retry(|| checked(unsafe { libc::flock(file.as_raw_fd(), operation) }.into())).map(drop)
}

/// A descriptor that this process knows to be open by its number: one that it was born with,
/// or one that it has just renumbered.
pub fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the callers are the child, which owns its whole table, and those who have just
    // seen the number open; -1 is never passed.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Takes over a descriptor by its number.
pub fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers have received the number from the kernel for themselves.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// getdents64(2): some entries of an open directory, for [`entries`]; 0 at the end.
pub fn read_directory(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and the length are those of `buffer`.
    let length = checked(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    Ok(length as usize)
}

/// The names in what [`read_directory`] has read (`struct linux_dirent64`, getdents(2)).
pub fn entries(mut buffer: &[u8]) -> impl Iterator<Item = &CStr> {
    const LENGTH: std::ops::Range<usize> = 16..18;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(buffer.get(LENGTH)?.try_into().ok()?);
        let entry = buffer.get(NAME..usize::from(length))?;
        buffer = buffer.get(usize::from(length)..)?;
        CStr::from_bytes_until_nul(entry).ok()
    })
}

/// sendmsg(2) of `bytes`, with one descriptor when there is one; never raises SIGPIPE.
pub fn send(socket: RawFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    #[repr(C, align(8))]
    struct Control([u8; 32]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr() as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all zeroes is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let mut control = Control([0; 32]);
    if let Some(fd) = fd {
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE only computes a length; an int's fits into 32 bytes.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as _;
        // SAFETY: msg_control points to `control`, which holds a header.
        let header = unsafe { &mut *libc::CMSG_FIRSTHDR(&raw const message) };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN only computes a length.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as _;
        // SAFETY: the data of the header lies inside `control`.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: CMSG_SPACE left room for one int there.
        unsafe { data.cast::<RawFd>().write_unaligned(fd.as_raw_fd()) };
    }
    loop {
        // SAFETY: `message` and what it points to outlive the call.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) };
        match checked(sent as libc::c_long) {
            Err(nix::errno::Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}
