//! ioctl(2) requests: pseudoterminals, namespaces, network interfaces.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::sched::CloneFlags;

use super::checked;

/// TIOCSPTLCK: lets the other side of this pty be opened (ioctl_tty(2)).
pub fn unlock_pty(master: BorrowedFd<'_>) -> Result<()> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int, which outlives the call.
    checked(
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) }.into(),
    )?;
    Ok(())
}

/// TIOCGPTPEER: opens the other side of this pty whatever its path leads to.
pub fn pty_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes an int by value.
    let fd = checked(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())?;
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// TIOCSCTTY: makes it the controlling terminal of the caller's new session.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the request takes an int by value.
    checked(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }.into())?;
    Ok(())
}

/// TIOCSWINSZ: rows and columns.
pub fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request reads one winsize, which outlives the call.
    checked(
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into(),
    )?;
    Ok(())
}

/// NS_GET_NSTYPE: which kind of namespace this file is (ioctl_nsfs(2)).
pub fn namespace_type(namespace: BorrowedFd<'_>) -> Result<CloneFlags> {
    // SAFETY: the request takes no argument.
    let bits = checked(unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_NSTYPE) }.into())?;
    Ok(CloneFlags::from_bits_retain(bits as i32))
}

/// SIOCSIFFLAGS with IFF_UP on `lo` (netdevice(7)).
pub fn bring_up_loopback(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: ifreq is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request reads one ifreq, which outlives the call.
    checked(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into(),
    )?;
    Ok(())
}
