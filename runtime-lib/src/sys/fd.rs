//! Descriptors: passing them over a socket, renumbering and closing them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

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

/// close_range(2) for each run of numbers that follow each other.
pub fn close_all(files: Vec<OwnedFd>) {
    let mut numbers: Vec<RawFd> = files.into_iter().map(IntoRawFd::into_raw_fd).collect();
    numbers.sort_unstable();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        if let [first, .., last] | [first @ last] = run {
            // SAFETY: all of these were owned, and nobody uses them after this.
            unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) };
        }
    }
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

/// statx(2): what the kernel has of `mask` is told in the mask of the answer.
pub fn statx(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: libc::c_int,
    mask: u32,
) -> Result<libc::statx> {
    let fd = directory.as_raw_fd();
    // SAFETY: statx is plain data for which all zeroes is valid.
    let mut seen: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is NUL-terminated and `seen` outlives the call.
    checked(unsafe { libc::statx(fd, name.as_ptr(), flags, mask, &raw mut seen) }.into())?;
    Ok(seen)
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

/// flock(2) LOCK_UN.
pub fn unlock(file: BorrowedFd<'_>) -> Result<()> {
    flock(file, libc::LOCK_UN)
}

/// flock(2) LOCK_EX | LOCK_NB, held until the last copy of the descriptor is closed.
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

/// How many descriptors [`send`] and [`receive`] take at once.
pub const AT_ONCE: usize = 16;

/// Room for a control message with [`AT_ONCE`] descriptors (cmsg(3)).
#[repr(C, align(8))]
struct Control([u8; 16 + AT_ONCE * size_of::<RawFd>()]);

/// sendmsg(2) of `bytes`, with the first [`AT_ONCE`] of `fds`; never raises SIGPIPE.
pub fn send(socket: RawFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr() as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all zeroes is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let mut control = Control([0; size_of::<Control>()]);
    let fds = fds.get(..AT_ONCE).unwrap_or(fds);
    if !fds.is_empty() {
        let room = size_of_val(fds) as u32;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: CMSG_SPACE only computes a length; it is at most that of `control`.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(room) } as _;
        // SAFETY: msg_control points to `control`, which holds a header.
        let header = unsafe { &mut *libc::CMSG_FIRSTHDR(&raw const message) };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN only computes a length.
        header.cmsg_len = unsafe { libc::CMSG_LEN(room) } as _;
        // SAFETY: the data of the header lies inside `control`.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (n, fd) in fds.iter().enumerate() {
            // SAFETY: CMSG_SPACE left room for as many ints there.
            unsafe { data.add(n).write_unaligned(fd.as_raw_fd()) };
        }
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

/// recvmsg(2) of a message of one byte with descriptors: how many of them are in `numbers` now.
/// None at the end of the stream.
///
/// # Errors
/// EMFILE: some of them have found no place in the process's table.
pub fn receive(socket: RawFd, numbers: &mut [RawFd; AT_ONCE]) -> Result<Option<usize>> {
    let mut byte = 0_u8;
    let mut part = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: msghdr is plain data for which all zeroes is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let mut control = Control([0; size_of::<Control>()]);
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    let bytes = loop {
        // SAFETY: `message` and what it points to outlive the call.
        let received = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
        match checked(received as libc::c_long) {
            Err(nix::errno::Errno::EINTR) => {}
            received => break received?,
        }
    };
    if bytes == 0 {
        return Ok(None);
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        // There is room for all in the message: it is the table that has none (unix(7)).
        return Err(nix::errno::Errno::EMFILE);
    }
    // SAFETY: the kernel has filled in the message, whose control data is `control`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: the pointer is null or to a header inside `control`.
    let Some(header) = (unsafe { header.as_ref() }) else {
        return Ok(Some(0));
    };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Ok(Some(0));
    }
    // SAFETY: CMSG_LEN only computes a length.
    let empty = unsafe { libc::CMSG_LEN(0) } as usize;
    let count = header.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
    // SAFETY: the data of the header lies inside `control`.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
    for (n, number) in numbers.iter_mut().enumerate().take(count) {
        // SAFETY: the header's length counts as many ints there.
        *number = unsafe { data.add(n).read_unaligned() };
    }
    Ok(Some(count.min(AT_ONCE)))
}
