//! What a new process's starter is handed: the pid file, and descriptors over Unix sockets.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket,
};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::sys::time::TimeVal;

use super::options::Console;
use crate::error::{Code, Error, Result};
use crate::launch::Launched;
use crate::spec;

/// The annotation that does what [`super::CreateOptions::pidfd_socket`] does, by the name that crun gave it.
pub(crate) const PIDFD_RECEIVER: &str = "run.oci.pidfd_receiver";

/// Who gets a pidfd of the process.
#[derive(Clone, Copy)]
pub enum PidfdReceiver<'a> {
    /// Whom the caller names.
    Socket(&'a Path),
    /// Whom [`PIDFD_RECEIVER`] names.
    Annotated(&'a str),
}

impl<'a> PidfdReceiver<'a> {
    /// The caller's word counts more.
    pub fn of(
        socket: Option<&'a Path>,
        annotations: &'a HashMap<String, String>,
    ) -> Option<PidfdReceiver<'a>> {
        let annotated = || annotations.get(PIDFD_RECEIVER);
        socket
            .map(PidfdReceiver::Socket)
            .or_else(|| annotated().map(|path| PidfdReceiver::Annotated(path)))
    }

    fn dial(self) -> Result<OwnedFd> {
        let doing = "connect to the pidfd socket";
        match self {
            PidfdReceiver::Socket(path) => dial(path, doing),
            PidfdReceiver::Annotated(path) => dial(Path::new(path), doing)
                .map_err(|error| error.at(spec::join("/annotations", PIDFD_RECEIVER))),
        }
    }
}

/// Sockets connected before anything is made, so that a wrong path has nothing to undo.
pub struct Handover<'a> {
    console: Option<OwnedFd>,
    pidfd: Option<OwnedFd>,
    pid_file: Option<&'a Path>,
}

impl<'a> Handover<'a> {
    /// Connects.
    pub fn connect(
        console: &Console,
        pidfd: Option<PidfdReceiver>,
        pid_file: Option<&'a Path>,
    ) -> Result<Handover<'a>> {
        Ok(Handover {
            console: match console {
                Console::Caller | Console::Nobody => None,
                Console::Socket(path) => Some(dial(path, "connect to the console socket")?),
            },
            pidfd: pidfd.map(PidfdReceiver::dial).transpose()?,
            pid_file,
        })
    }

    /// Hands over what there is; the pid file last, because it says that all is done.
    pub fn give(&self, process: &Launched) -> Result<()> {
        use std::os::fd::AsFd;
        match (&self.console, &process.terminal) {
            // The payload is the pty's name, as runc sends it.
            (Some(socket), Some(master)) => send(socket, b"/dev/ptmx", master.as_fd())
                .map_err(|error| error.doing("send the terminal over the console socket"))?,
            (None, Some(master)) => keep_line_ends(master)?,
            (_, None) => {}
        }
        if let Some(socket) = &self.pidfd {
            send(socket, b"pidfd", process.pidfd.as_fd())
                .map_err(|error| error.doing("send the pidfd over its socket"))?;
        }
        match self.pid_file {
            Some(path) => write_pid(path, process.pid),
            None => Ok(()),
        }
    }

    /// The terminal is the caller's only where no socket took it.
    pub fn keeps_terminal(&self) -> bool {
        self.console.is_none()
    }
}

/// What a caller copies to a terminal of its own gets its carriage returns there. Done here,
/// before the program runs: later, its first lines would differ from the rest.
fn keep_line_ends(master: &OwnedFd) -> Result<()> {
    let refused = |errno| Error::call(Code::Process, "ioctl", errno).doing("set up the terminal");
    let mut mode = tcgetattr(master).map_err(refused)?;
    mode.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &mode).map_err(refused)
}

/// How long a socket's queue may be full.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

const NOBODY_ACCEPTS: &str = "its queue was full for 5 s: nobody accepts connections";

pub(super) fn dial(path: &Path, doing: &str) -> Result<OwnedFd> {
    let refused = |call, errno| {
        Error::call(Code::Io, call, errno).doing(format!("{doing} {}", path.display()))
    };
    let stream = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(|errno| refused("socket", errno))?;
    // A listener that doesn't accept, or doesn't read, must not keep us for ever.
    setsockopt(&stream, SendTimeout, &PATIENCE).map_err(|errno| refused("setsockopt", errno))?;
    let address = UnixAddr::new(path).map_err(|errno| refused("connect", errno))?;
    connect(stream.as_raw_fd(), &address).map_err(|errno| match errno {
        Errno::EAGAIN => refused("connect", errno).hint(NOBODY_ACCEPTS),
        Errno::ECONNREFUSED => {
            refused("connect", errno).hint("it is no socket, or nobody listens on it any more")
        }
        Errno::ENOENT => {
            refused("connect", errno).hint("whoever takes it has to listen there first")
        }
        _ => refused("connect", errno),
    })?;
    Ok(stream)
}

pub(super) fn send(socket: &OwnedFd, payload: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd.as_raw_fd()];
    let parts = [IoSlice::new(payload)];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, flags, None)
        .map_err(|errno| Error::call(Code::Io, "sendmsg", errno))?;
    Ok(())
}

/// Decimal without a newline, put in place by rename so that no reader sees half of it.
fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    let refused = |error: std::io::Error| {
        let is_nowhere = error.kind() == std::io::ErrorKind::NotFound;
        let error = Error::io(Code::Io, "open", &error);
        let error = error.doing(format!("write the pid file {}", path.display()));
        match is_nowhere {
            true => error.hint("--pid-file makes the file, in a directory that exists"),
            false => error,
        }
    };
    let mut file = File::create(&new).map_err(refused)?;
    let written = file.write_all(pid.to_string().as_bytes());
    let placed = written.and_then(|()| std::fs::rename(&new, path));
    placed.map_err(|error| {
        let _ = std::fs::remove_file(&new);
        refused(error)
    })
}
