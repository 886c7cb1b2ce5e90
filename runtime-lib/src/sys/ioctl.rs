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

/// struct pidfd_info, as long as Linux 6.13 has it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// PIDFD_INFO_EXIT: how it ended, once it is reaped (Linux 6.15).
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// _IOWR(0xff, 11, struct pidfd_info).
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;

/// How the process of a pidfd has ended, as wait(2) has it, also after somebody has waited for
/// it. None where that is not so yet, or the kernel keeps no such account.
pub fn end_of_reaped(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: a structure of the size that the request's number says, which the kernel fills.
    let asked = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (asked == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
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
