//! The pty of the container's own devpts, taken only from a file that is proven to be one
//! (CVE-2025-52565): no path that an image controls is trusted.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::stat::{Mode, SFlag, makedev};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown};
use nix::{errno::Errno, sys::stat::mknodat};

use super::Child;
use super::fds::{Fd, clone_tree, openat2};
use super::paths::{kind, open};
use crate::report::{self, Refused, call};
use crate::step::Terminal;
use crate::sys::mount::{attach, resolve};
use crate::sys::{fd, ioctl};

/// DEVPTS_SUPER_MAGIC of linux/magic.h; libc has it for some targets only.
const DEVPTS: FsType = FsType(0x1cd1);

impl Child<'_> {
    pub(super) fn terminal(&mut self, terminal: &Terminal) -> Result<(), Refused> {
        let master = self.multiplexer()?;
        ioctl::unlock_pty(master.as_fd()).map_err(call("ioctl"))?;
        let peer = ioctl::pty_peer(master.as_fd()).map_err(call("ioctl"))?;
        if terminal.owner != 0 {
            fchown(&peer, Some(Uid::from_raw(terminal.owner)), None).map_err(call("fchown"))?;
        }
        if let Some((rows, columns)) = terminal.size {
            ioctl::set_window_size(master.as_fd(), rows, columns).map_err(call("ioctl"))?;
        }
        if terminal.console {
            self.show_as_console(peer.as_fd())?;
        }
        ioctl::set_controlling_terminal(peer.as_fd()).map_err(call("ioctl"))?;
        for number in 0..3 {
            fd::duplicate_to(peer.as_raw_fd(), number, false).map_err(call("dup3"))?;
        }
        fd::send(self.channel, &report::terminal(), &[master.as_fd()]).map_err(call("sendmsg"))
    }

    /// Opens the multiplexer of the container's devpts, and nothing before it is known to be
    /// that: to open a device is to act on it.
    fn multiplexer(&self) -> Result<Fd, Refused> {
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        let devpts = open(self.root()?, c"dev/pts", directory, true)
            .map_err(|errno| Refused::new("openat2", errno).noting(b"/dev/pts"))?;
        if fstatfs(&devpts).map_err(call("fstatfs"))?.filesystem_type() != DEVPTS {
            let refused = Refused::new("fstatfs", Errno::ENOTTY);
            return Err(refused.noting(b"/dev/pts is not a devpts"));
        }
        let own = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_XDEV;
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = openat2(devpts.as_fd(), c"ptmx", flags, 0, own)
            .map_err(|errno| Refused::new("openat2", errno).noting(b"/dev/pts/ptmx"))?;
        match kind(master.as_fd())?.0.st_rdev == makedev(5, 2) {
            true => Ok(master),
            false => Err(Refused::new("fstat", Errno::ENOTTY)
                .noting(b"/dev/pts/ptmx is not the multiplexer of its devpts")),
        }
    }

    fn show_as_console(&self, peer: BorrowedFd<'_>) -> Result<(), Refused> {
        let dev = open(self.root()?, c"dev", libc::O_PATH | libc::O_DIRECTORY, true)
            .map_err(|errno| Refused::new("openat2", errno).noting(b"/dev"))?;
        match mknodat(
            dev.as_fd(),
            c"console",
            SFlag::S_IFREG,
            Mode::from_bits_truncate(0o666),
            0,
        ) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Refused::new("mknodat", errno).noting(b"/dev/console")),
        }
        let own = resolve::BENEATH | resolve::NO_SYMLINKS;
        let place = openat2(dev.as_fd(), c"console", libc::O_PATH, 0, own)
            .map_err(|errno| Refused::new("openat2", errno).noting(b"/dev/console"))?;
        let copy = clone_tree(peer.as_raw_fd(), c"", false).map_err(call("open_tree"))?;
        attach(copy.as_fd(), place.as_fd()).map_err(call("move_mount"))
    }
}
