//! The host's side: standard input and output, and the terminal that they may be. Its mode is
//! put back however this process ends, short of SIGKILL.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::{Arc, Mutex, PoisonError};

use capsid_runtime::{Code, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rustix::termios::{Winsize, tcgetwinsize};

/// What a pipe that poll(2) calls writable takes without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

pub struct Host {
    input: OwnedFd,
    output: OwnedFd,
    at_most: usize,
    /// The first of the standard descriptors that is a terminal.
    size_of: Option<OwnedFd>,
    raw: Option<RawMode>,
}

impl Host {
    /// Standard input and output as they are. A terminal on standard input becomes raw.
    pub fn of_this_process() -> Result<Host> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let size_of = first_terminal(copy).transpose()?;
        let input = copy(stdin.as_fd())?;
        let output = if stdout.is_terminal() {
            reopened("/proc/self/fd/1").map_or_else(|_| copy(stdout.as_fd()), Ok)?
        } else {
            copy(stdout.as_fd())?
        };
        Host::new(input, output, size_of)
    }

    /// `output` is written in pieces that don't block once poll(2) says that it is writable.
    pub fn new(input: OwnedFd, output: OwnedFd, size_of: Option<OwnedFd>) -> Result<Host> {
        let raw = match input.is_terminal() {
            true => Some(RawMode::enter(input.as_fd())?),
            false => None,
        };
        Ok(Host {
            input,
            output,
            at_most: PIPE_BUF,
            size_of,
            raw,
        })
    }

    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    pub fn at_most(&self) -> usize {
        self.at_most
    }

    pub fn input_is_terminal(&self) -> bool {
        self.raw.is_some()
    }

    pub fn window_size(&self) -> Option<Winsize> {
        self.size_of.as_ref().and_then(|fd| tcgetwinsize(fd).ok())
    }

    /// Makes the terminal raw again after someone else had it.
    pub fn make_raw(&self) {
        if let Some(raw) = &self.raw {
            raw.again();
        }
    }
}

/// Rows and columns of this process's terminal, for the container's: it has them before its
/// program looks. None without a terminal, or with one that has no size.
pub fn size() -> Option<(u16, u16)> {
    let size = first_terminal(|fd| tcgetwinsize(fd).ok()).flatten()?;
    (size.ws_row != 0 && size.ws_col != 0).then_some((size.ws_row, size.ws_col))
}

/// What `look` makes of the first standard descriptor that is a terminal.
fn first_terminal<T>(look: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let all = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    all.into_iter().find(BorrowedFd::is_terminal).map(look)
}

fn copy(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|error| Error::io(Code::Process, "dup", &error).doing("join the terminal"))
}

/// A description of our own of a terminal, which may be non-blocking without anyone else
/// noticing.
fn reopened(path: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
}

/// A terminal in raw mode; dropping it, or a panic, puts back what it was.
struct RawMode {
    raw: Termios,
    saved: Arc<Mutex<Saved>>,
}

struct Saved {
    terminal: OwnedFd,
    mode: Termios,
}

impl RawMode {
    fn enter(terminal: BorrowedFd<'_>) -> Result<RawMode> {
        let refused =
            |errno: Errno| Error::call(Code::Process, "ioctl", errno).doing("read the terminal");
        let mode = tcgetattr(terminal).map_err(refused)?;
        let mut raw = mode.clone();
        cfmakeraw(&mut raw);
        // The container's pty does not turn \n into \r\n, so the host's terminal has to.
        raw.output_flags |= mode.output_flags & OutputFlags::OPOST;
        let saved = Arc::new(Mutex::new(Saved {
            terminal: copy(terminal)?,
            mode,
        }));
        restore_on_panic(saved.clone());
        let raw = RawMode { raw, saved };
        raw.again();
        Ok(raw)
    }

    fn again(&self) {
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = tcsetattr(&saved.terminal, SetArg::TCSANOW, &self.raw);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(&self.saved);
    }
}

fn restore(saved: &Mutex<Saved>) {
    let saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = tcsetattr(&saved.terminal, SetArg::TCSANOW, &saved.mode);
}

/// Release builds abort on panic: nothing is dropped then, but the hook still runs.
fn restore_on_panic(saved: Arc<Mutex<Saved>>) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore(&saved);
        previous(info);
    }));
}

#[cfg(test)]
mod tests {
    use nix::pty::{OpenptyResult, openpty};
    use nix::sys::termios::{InputFlags, LocalFlags};

    use super::*;

    fn flags(terminal: &OwnedFd) -> (InputFlags, OutputFlags, LocalFlags) {
        let mode = tcgetattr(terminal).unwrap();
        (mode.input_flags, mode.output_flags, mode.local_flags)
    }

    fn host_on(terminal: &OwnedFd) -> Host {
        let copy = || terminal.try_clone().unwrap();
        Host::new(copy(), copy(), Some(copy())).unwrap()
    }

    #[test]
    fn the_mode_comes_back_when_it_is_over() {
        let OpenptyResult {
            master: _master,
            slave,
        } = openpty(None, None).unwrap();
        let before = flags(&slave);
        assert!(before.2.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let host = host_on(&slave);
        let (_, output, local) = flags(&slave);
        assert!(!local.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        assert!(output.contains(OutputFlags::OPOST));
        drop(host);
        assert_eq!(flags(&slave), before);
    }

    #[test]
    fn the_mode_comes_back_on_a_panic() {
        let OpenptyResult {
            master: _master,
            slave,
        } = openpty(None, None).unwrap();
        let before = flags(&slave);
        let host = host_on(&slave);
        // What the release build's abort would leave: the hook has run, nothing is dropped.
        let panicked = std::thread::spawn(|| panic!("on purpose: the hook is what is tested"));
        assert!(panicked.join().is_err());
        assert_eq!(flags(&slave), before);
        drop(host);
    }

    #[test]
    fn after_a_stop_it_is_raw_again() {
        let OpenptyResult {
            master: _master,
            slave,
        } = openpty(None, None).unwrap();
        let cooked = tcgetattr(&slave).unwrap();
        let host = host_on(&slave);
        let raw = flags(&slave);
        tcsetattr(&slave, SetArg::TCSANOW, &cooked).unwrap();
        host.make_raw();
        assert_eq!(flags(&slave), raw);
    }

    #[test]
    fn pipes_have_no_mode_and_no_size() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let host = Host::new(reader, writer, None).unwrap();
        assert!(!host.input_is_terminal());
        assert_eq!(host.window_size(), None);
    }
}
