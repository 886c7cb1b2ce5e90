//! sd_notify(3) for a container: what its process says on the socket that it was given is said
//! to the service manager that started capsid, with the process's pid as the service's.
//!
//! The container may say how it is, nothing more: it names no other process and passes no
//! descriptor.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use capsid_runtime::{Code, Container, Error, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use nix::unistd::pipe2;

const VARIABLE: &str = "NOTIFY_SOCKET";

/// What a container may say (sd_notify(3)), by its name.
const PASSED: [&str; 8] = [
    "READY",
    "RELOADING",
    "STOPPING",
    "STATUS",
    "ERRNO",
    "WATCHDOG",
    "EXTEND_TIMEOUT_USEC",
    "MONOTONIC_USEC",
];

/// The largest message that is read, in bytes.
const LARGEST: usize = 4096;

/// How long the manager may take to hear of the readiness: systemd's own default.
const BARRIER: Duration = Duration::from_secs(30);

/// Whether a service manager waits to be told.
pub fn wanted() -> bool {
    std::env::var_os(VARIABLE).is_some_and(|path| !path.is_empty())
}

/// Who waits to be told.
pub struct Manager(OwnedFd);

impl Manager {
    /// None: nobody does. To be called before there is a container: afterwards an error would leave it behind.
    pub fn of_this_process() -> Result<Option<Manager>> {
        wanted().then(Manager::connect).transpose()
    }

    /// A datagram socket to the path, or with `@` the abstract address, of the variable.
    fn connect() -> Result<Manager> {
        let path = std::env::var(VARIABLE).unwrap_or_default();
        let refused = |call, errno| {
            refused(call, errno)
                .path(&path)
                .hint("nobody listens there: unset NOTIFY_SOCKET")
        };
        let address = match path.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes()),
            None => UnixAddr::new(path.as_str()),
        };
        let address = address.map_err(|errno| refused("connect", errno))?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)
            .map_err(|errno| refused("socket", errno))?;
        // A manager that doesn't read must not keep us for ever.
        setsockopt(&socket, SendTimeout, &TimeVal::new(5, 0))
            .map_err(|errno| refused("setsockopt", errno))?;
        connect(socket.as_raw_fd(), &address).map_err(|errno| refused("connect", errno))?;
        Ok(Manager(socket))
    }

    /// Of the socket that the container's process was given.
    pub fn proxy(self, listening: OwnedFd) -> Proxy {
        Proxy {
            container: listening,
            manager: self.0,
            ready: false,
        }
    }
}

/// The container's socket and the manager's.
pub struct Proxy {
    container: OwnedFd,
    manager: OwnedFd,
    ready: bool,
}

impl Proxy {
    /// None: nobody is to be told, or the container was made without a socket.
    pub fn of(container: &Container) -> Result<Option<Proxy>> {
        if !wanted() {
            return Ok(None);
        }
        match container.notify_socket()? {
            Some(listening) => Ok(Some(Manager::connect()?.proxy(listening))),
            None => Ok(None),
        }
    }

    /// Hands on what there is. True once the container has said that it is ready.
    pub fn turn(&mut self, pid: i32) -> Result<bool> {
        let mut bytes = [0; LARGEST];
        loop {
            let flags = MsgFlags::MSG_DONTWAIT;
            let count = match recv(self.container.as_raw_fd(), &mut bytes, flags) {
                Ok(count) => count,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(self.ready),
                Err(errno) => return Err(refused("recv", errno)),
            };
            let said = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
            let passed: Vec<&str> = said.lines().filter(|line| is_passed(line)).collect();
            if passed.is_empty() {
                continue;
            }
            self.say(&passed.join("\n"), None)?;
            if passed.contains(&"READY=1") && !self.ready {
                self.ready = true;
                self.say(&format!("MAINPID={pid}"), None)?;
                self.barrier()?;
            }
        }
    }

    /// Waits until the container is ready, or has ended without being it. It runs by now, so that
    /// a manager that goes away meanwhile is no failure.
    pub fn until_ready(self, pid: i32, pidfd: BorrowedFd<'_>) {
        if let Err(error) = self.hand_on(pid, pidfd) {
            tracing::warn!("{error}");
        }
    }

    fn hand_on(mut self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut watched =
                [self.container.as_fd(), pidfd].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(refused("poll", errno)),
            }
            let ended = watched.map(|fd| fd.any() == Some(true))[1];
            if self.turn(pid)? || ended {
                return Ok(());
            }
        }
    }

    fn say(&self, text: &str, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        let parts = [IoSlice::new(text.as_bytes())];
        sendmsg::<()>(
            self.manager.as_raw_fd(),
            &parts,
            rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
        .map_err(|errno| refused("sendmsg", errno))
    }

    /// sd_notify_barrier(3): the manager closes the pipe when it has heard everything before.
    fn barrier(&self) -> Result<()> {
        let (heard, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| refused("pipe2", errno))?;
        self.say("BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        let mut watched = [PollFd::new(heard.as_fd(), PollFlags::empty())];
        let patience = PollTimeout::try_from(BARRIER).unwrap_or(PollTimeout::MAX);
        if let Ok(0) = poll(&mut watched, patience) {
            tracing::warn!("the service manager has not confirmed the readiness within 30 s");
        }
        Ok(())
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

fn is_passed(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default();
    PASSED.contains(&name) && line.contains('=')
}

fn refused(call: &'static str, errno: Errno) -> Error {
    Error::call(Code::Io, call, errno).doing("tell the service manager of NOTIFY_SOCKET")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_says_how_it_is_and_nothing_else() {
        for line in [
            "READY=1",
            "STATUS=50 % done",
            "STOPPING=1",
            "WATCHDOG=trigger",
        ] {
            assert!(is_passed(line), "{line}");
        }
        for line in [
            "MAINPID=1",
            "FDSTORE=1",
            "BARRIER=1",
            "READY",
            "",
            "BUSERROR=x",
            "XREADY=1",
        ] {
            assert!(!is_passed(line), "{line}");
        }
    }
}
