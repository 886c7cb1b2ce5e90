//! A connection to a D-Bus: one call at a time, and the signals that come in meanwhile. Everything
//! ends by one deadline; there is no thread, and nothing of the process is changed.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::address::{Socket, sockets};
use super::message::{Call, FIXED, Incoming, length, parse};
use super::value::Value;
use crate::error::{Code, Error, Result};

/// How long the whole of one connection may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A connection.
pub struct Bus {
    socket: OwnedFd,
    address: String,
    deadline: Instant,
    limit: Duration,
    serial: u32,
    /// Signals that came in while a reply was awaited.
    signals: VecDeque<Signal>,
}

/// A signal that somebody sent.
#[derive(Debug, PartialEq)]
pub struct Signal {
    pub sender: Option<String>,
    pub member: String,
    pub values: Vec<Value>,
}

/// What came back.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub sender: Option<String>,
    pub values: Vec<Value>,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Refusal {
    /// The other end has said no.
    Said { name: String, text: String },
    /// There is no other end (any more), or it is silent.
    Lost(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Lost(error)
    }
}

impl Refusal {
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Refusal::Said { name, .. } if name == wanted)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Lost(error) => error,
            Refusal::Said { name, text } => match text.is_empty() {
                true => Error::new(Code::Cgroup, name),
                false => Error::new(Code::Cgroup, text).hint(name),
            },
        }
    }
}

impl Bus {
    /// Connects to the first address that answers, as whoever the kernel says that we are: an
    /// id of our own would be another one outside of a user namespace.
    ///
    /// # Errors
    /// [`Code::Cgroup`]: nobody listens there (the errno of the last address); a refusal.
    /// [`Code::Deadline`]: nobody answers.
    pub fn connect(address: &str, limit: Duration) -> Result<Bus> {
        let refused = |call, errno| {
            Error::call(Code::Cgroup, call, errno).doing(format!("connect to systemd at {address}"))
        };
        let deadline = Instant::now() + limit;
        let mut last = refused("connect", Errno::EINVAL).hint("no Unix socket in the address");
        for place in sockets(address) {
            let made = place.unix();
            let socket = made.and_then(|to| {
                let flags = SockFlag::SOCK_CLOEXEC;
                let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
                // connect(2) waits as long as the backlog is full.
                setsockopt(
                    &socket,
                    SendTimeout,
                    &TimeVal::milliseconds(limit.as_millis() as i64),
                )?;
                connect(socket.as_raw_fd(), &to)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    let mut bus = Bus {
                        socket,
                        address: address.to_owned(),
                        deadline,
                        limit,
                        serial: 0,
                        signals: VecDeque::new(),
                    };
                    bus.authenticate()?;
                    return Ok(bus);
                }
                Err(Errno::EAGAIN) => last = silent(address, limit),
                Err(errno) => last = refused("connect", errno),
            }
        }
        Err(last)
    }

    /// Whether whoever listens is in a pid namespace that cannot be seen from here (unix(7),
    /// SO_PEERCRED), where processes have other numbers.
    pub fn counts_otherwise(&self) -> bool {
        getsockopt(&self.socket, PeerCredentials).is_ok_and(|peer| peer.pid() == 0)
    }

    /// Calls a method and waits for the answer.
    ///
    /// # Errors
    /// What the other end says; that it says nothing.
    pub fn call(&mut self, call: &Call<'_>) -> std::result::Result<Reply, Refusal> {
        self.serial += 1;
        let serial = self.serial;
        self.send(&call.bytes(serial))
            .map_err(|e| during(e, call))?;
        loop {
            match self.receive().map_err(|e| during(e, call))? {
                Incoming::Reply { to, sender, values } if to == serial => {
                    return Ok(Reply { sender, values });
                }
                Incoming::Error { to, name, text } if to == serial => {
                    return Err(Refusal::Said { name, text });
                }
                other => self.keep(other),
            }
        }
    }

    /// The next signal.
    ///
    /// # Errors
    /// None came before the deadline.
    pub fn signal(&mut self) -> Result<Signal> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let incoming = self.receive()?;
            self.keep(incoming);
        }
    }

    fn keep(&mut self, incoming: Incoming) {
        if let Incoming::Signal {
            sender,
            member,
            values,
        } = incoming
        {
            self.signals.push_back(Signal {
                sender,
                member,
                values,
            });
        }
    }

    /// EXTERNAL without an identity: the other end takes that of the socket's credentials.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(Error::new(Code::Cgroup, line)
                    .doing(format!("introduce capsid to the bus at {}", self.address)));
            }
        }
        Ok(())
    }

    /// A line of the introduction, byte by byte: what follows the last one is a message.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 1024 {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.extend(byte);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn receive(&mut self) -> Result<Incoming> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed)?;
        let nonsense = || {
            Error::new(Code::Cgroup, "unreadable message")
                .doing(format!("read from {}", self.address))
        };
        let whole = length(&fixed).ok_or_else(nonsense)?;
        let mut message = vec![0; whole];
        let (head, rest) = message.split_at_mut_checked(FIXED).ok_or_else(nonsense)?;
        head.copy_from_slice(&fixed);
        self.read(rest)?;
        parse(&message).ok_or_else(nonsense)
    }

    fn read(&self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            match recv(self.socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(self.failed("recv", Errno::ECONNRESET)),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed("recv", errno)),
            }
        }
        Ok(())
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, flags) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed("send", errno)),
            }
        }
        Ok(())
    }

    fn wait(&self, event: PollFlags) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent(&self.address, self.limit));
        }
        // A part of a millisecond is a whole one, or the last of them would be spent spinning.
        let left = left + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), event)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("poll", errno)),
        }
    }

    fn failed(&self, call: &'static str, errno: Errno) -> Error {
        Error::call(Code::Cgroup, call, errno)
            .hint(format!("talking to systemd at {}", self.address))
    }
}

fn during(error: Error, call: &Call<'_>) -> Error {
    error.hint(format!("{} was not answered", call.member))
}

fn silent(address: &str, limit: Duration) -> Error {
    let waited = limit.as_secs();
    let tail = format!("timeout: no answer from systemd at {address} within {waited} s");
    Error::new(Code::Deadline, tail).errno(Errno::ETIMEDOUT)
}

impl Socket {
    fn unix(&self) -> nix::Result<UnixAddr> {
        match self {
            Socket::Path(path) => UnixAddr::new(path.as_path()),
            Socket::Abstract(name) => UnixAddr::new_abstract(name),
        }
    }
}
