//! Both ends that a terminal can have outside of a container: a pseudoterminal of our own that the runtime
//! runs in, and the socket over which it hands out the container's.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{Outcome, around, outcome};

/// The master of a pseudoterminal, and what it has shown so far.
pub struct Screen {
    master: File,
    shown: String,
}

impl Screen {
    pub fn of(master: OwnedFd) -> Screen {
        Screen {
            master: File::from(master),
            shown: String::new(),
        }
    }

    /// Starts `command` as the leader of a session on a new terminal of this size.
    pub fn start(command: &Command, rows: u16, columns: u16) -> (Screen, Child, PathBuf) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a pseudoterminal");
        let path = nix::unistd::ttyname(&pair.slave).expect("its name");
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]);
        let end = || Stdio::from(pair.slave.try_clone().expect("dup"));
        let child = around(session, command)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid");
        (Screen::of(pair.master), child, path)
    }

    pub fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typing");
    }

    /// Reads until `text` has been shown; what was shown up to there is forgotten.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> String {
        loop {
            if let Some(place) = self.shown.find(text) {
                return self.shown.drain(..place + text.len()).collect();
            }
            if !self.more() {
                panic!(
                    "the terminal ended or stayed silent and never showed {text:?}: {:?}",
                    self.shown
                );
            }
        }
    }

    /// Reads until nobody has the terminal open any more.
    pub fn rest(&mut self) -> String {
        while self.more() {}
        std::mem::take(&mut self.shown)
    }

    fn more(&mut self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let limit = PollTimeout::try_from(outcome::LIMIT).expect("a timeout");
        let mut wanted = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wanted, limit) != Ok(1) {
            return false;
        }
        let mut part = [0; 4096];
        // EIO: the last slave was closed.
        match self.master.read(&mut part) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.shown
                    .push_str(&String::from_utf8_lossy(&part[..length]));
                true
            }
        }
    }
}

/// A console socket, as engines have one.
pub struct ConsoleSocket {
    listener: UnixListener,
    pub path: PathBuf,
}

impl ConsoleSocket {
    pub fn at(path: &Path) -> ConsoleSocket {
        ConsoleSocket {
            listener: UnixListener::bind(path).expect("a console socket"),
            path: path.to_owned(),
        }
    }

    /// Takes the one descriptor that came, and the text that came along.
    pub fn receive(&self) -> (OwnedFd, String) {
        let (stream, _) = self.listener.accept().expect("a connection");
        receive(&stream)
    }
}

fn receive(stream: &UnixStream) -> (OwnedFd, String) {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); 256];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("a message");
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    assert_eq!(fds.len(), 1, "one descriptor");
    assert!(
        (1..4096).contains(&message.bytes),
        "a name of {} bytes",
        message.bytes
    );
    (
        fds.remove(0),
        String::from_utf8_lossy(&text[..message.bytes]).into_owned(),
    )
}

/// What stty(1) says of a terminal.
pub fn settings(path: &Path) -> String {
    Outcome::of(Command::new("stty").arg("-a").arg("-F").arg(path))
        .ok()
        .stdout
}
