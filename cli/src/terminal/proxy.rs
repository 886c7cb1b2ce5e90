//! Joins the host's standard input and output to the master of a container's pty.

use std::os::fd::{AsFd, OwnedFd};

use capsid_runtime::{Code, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::tcsetwinsize;

use super::host::Host;
use super::lane::Lane;
use crate::foreground::Signals;

/// What a pty holds at most when its last writer has gone; more comes from a process that
/// outlives the one that was waited for, and would never end.
const LEFT_IN_A_PTY: usize = 128 * 1024;

pub struct Proxy {
    master: OwnedFd,
    /// Held so that the master never hangs up while processes come and go: poll(2) would
    /// return at once for ever, and a later writer would find nobody reading.
    _peer: Option<OwnedFd>,
    host: Host,
    to_container: Lane,
    to_host: Lane,
    end: End,
}

/// How far the end of the host's input has been passed on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet, or a person at a terminal types it.
    Open,
    /// To a terminal that reads lines.
    ToLines,
    /// To a program that reads keys.
    ToKeys,
}

impl Proxy {
    pub fn new(master: OwnedFd, host: Host) -> Result<Proxy> {
        do_not_block(&master).map_err(|errno| {
            Error::call(Code::Process, "fcntl", errno).doing("join the terminal")
        })?;
        let peer_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let proxy = Proxy {
            _peer: ioctl_tiocgptpeer(&master, peer_flags).ok(),
            master,
            host,
            to_container: Lane::new(),
            to_host: Lane::new(),
            end: End::Open,
        };
        proxy.resize();
        Ok(proxy)
    }

    /// Gives the container's terminal the size of the host's.
    pub fn resize(&self) {
        if let Some(size) = self.host.window_size() {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    pub fn take_the_terminal(&self) {
        self.host.make_raw();
    }

    /// What to poll: the host's input and output, then the master. A descriptor that nothing is
    /// wanted from is left out, because poll(2) reports a hang-up even so.
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let wanted = |wanted, event| if wanted { event } else { PollFlags::empty() };
        let write = PollFlags::POLLOUT;
        let read = PollFlags::POLLIN;
        let master =
            wanted(self.to_host.wants_input(), read) | wanted(!self.to_container.is_empty(), write);
        [
            (
                self.host.input(),
                wanted(self.to_container.wants_input(), read),
            ),
            (self.host.output(), wanted(!self.to_host.is_empty(), write)),
            (self.master.as_fd(), master),
        ]
        .into_iter()
        .filter(|(_, events)| !events.is_empty())
        .map(|(fd, events)| PollFd::new(fd, events))
    }

    /// Carries what can be carried. `ready` answers [`Proxy::interest`], item by item.
    pub fn turn(&mut self, ready: &[bool]) {
        let mut ready = ready.iter().copied();
        let mut answer = |asked: bool| asked && ready.next().unwrap_or(false);
        let input = answer(self.to_container.wants_input());
        let output = answer(!self.to_host.is_empty());

        if input {
            self.to_container.fill(self.host.input());
        }
        if output {
            self.to_host.drain(self.host.output(), self.host.at_most());
        }
        // The master does not block, so it is simply tried.
        self.to_host.fill(self.master.as_fd());
        self.pass_on_the_end();
        self.to_container.drain(self.master.as_fd(), usize::MAX);
    }

    /// A pty has no half-close. The end of a file or pipe on standard input becomes what a
    /// person would type: the EOF character, at the start of a line. A shell that edits lines
    /// itself finds nothing of it in what came before it took over; it gets one of its own.
    fn pass_on_the_end(&mut self) {
        let over = !self.to_container.source_open() && self.to_container.is_empty();
        if !over || self.end == End::ToKeys || self.host.input_is_terminal() {
            return;
        }
        let Ok(mode) = tcgetattr(&self.master) else {
            return;
        };
        let eof = mode.control_chars[SpecialCharacterIndices::VEOF as usize];
        let reads_lines = mode.local_flags.contains(LocalFlags::ICANON);
        match (reads_lines, self.end, self.to_container.last()) {
            (true, End::ToLines, _) => return,
            // The first only ends the line that was begun.
            (true, _, Some(last)) if last != b'\n' => self.to_container.put(&[eof, eof]),
            _ => self.to_container.put(&[eof]),
        }
        self.end = if reads_lines {
            End::ToLines
        } else {
            End::ToKeys
        };
    }

    /// The process has ended: passes on what it has written. A signal that would end capsid
    /// ends this, for there is no one left to hand it to.
    pub fn finish(mut self, signals: &Signals) -> Result<()> {
        let mut left = LEFT_IN_A_PTY;
        loop {
            if self.to_host.is_empty() {
                let count = self.to_host.fill(self.master.as_fd());
                if count == 0 || left == 0 {
                    return Ok(());
                }
                left = left.saturating_sub(count);
            }
            let mut watched = [
                PollFd::new(self.host.output(), PollFlags::POLLOUT),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call(Code::Io, "poll", errno)),
            }
            let [output, _] = watched.map(|fd| fd.any() == Some(true));
            while let Some(signal) = signals.next()? {
                if ends_a_process(signal) {
                    return Ok(());
                }
            }
            if output {
                self.to_host.drain(self.host.output(), self.host.at_most());
            }
        }
    }
}

fn ends_a_process(signal: i32) -> bool {
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT].contains(&signal)
}

fn do_not_block(master: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(master, FcntlArg::F_GETFL)?);
    fcntl(master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}
