//! The loopback interface of a new network namespace, which is born down.

use std::os::fd::AsFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::fds::Fd;
use crate::report::{Refused, call};
use crate::sys::ioctl;

pub(super) fn bring_up() -> Result<(), Refused> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let any = socket(AddressFamily::Inet, SockType::Datagram, flags, None);
    let socket = Fd::from(any.map_err(call("socket"))?);
    ioctl::bring_up_loopback(socket.as_fd()).map_err(call("ioctl"))
}
