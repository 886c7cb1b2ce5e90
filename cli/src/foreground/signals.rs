//! The signals that a foreground command hands on, read from a signalfd(2) instead of
//! interrupting it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use capsid_runtime::{Code, Error, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Not ours to catch: SIGURG is ignored by default, SIGPIPE and SIGXFSZ are caused by capsid's own
/// writes, SIGTTIN and SIGTTOU by its own use of the terminal, and must stop it as they would anyone.
const LEFT_ALONE: [Signal; 5] = [
    Signal::SIGURG,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The caught signals, from [`Signals::catch`] to the end of this process.
pub struct Signals(SignalFd);

impl Signals {
    /// From here on signals wait to be read. The container is not affected: its process starts
    /// with an empty mask.
    pub fn catch() -> Result<Signals> {
        let mut caught = SigSet::all();
        for signal in LEFT_ALONE {
            caught.remove(signal);
        }
        caught
            .thread_block()
            .map_err(|errno| Error::call(Code::Io, "rt_sigprocmask", errno))?;
        SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Signals)
            .map_err(|errno| Error::call(Code::Io, "signalfd4", errno))
    }

    /// Readable once one of these has come that ask for this process's end. It takes nothing
    /// away: [`Signals::next`] gives it as well.
    pub fn asks_for_the_end(&self) -> Result<OwnedFd> {
        let mut asking = SigSet::empty();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
        ] {
            asking.add(signal);
        }
        SignalFd::with_flags(&asking, SfdFlags::SFD_CLOEXEC)
            .map(|fd| fd.into())
            .map_err(|errno| Error::call(Code::Io, "signalfd4", errno))
    }

    /// The number of the next signal that has come.
    pub fn next(&self) -> Result<Option<i32>> {
        loop {
            match self.0.read_signal() {
                Ok(info) => return Ok(info.map(|info| info.ssi_signo as i32)),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::call(Code::Io, "read", errno)),
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn caught_signals_are_read_and_not_acted_on() {
        let signals = Signals::catch().unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGWINCH, Signal::SIGTSTP] {
            pthread_kill(pthread_self(), signal).unwrap();
            assert_eq!(signals.next(), Ok(Some(signal as i32)));
        }
        assert_eq!(signals.next(), Ok(None));
    }

    #[test]
    fn a_write_of_our_own_that_fails_is_not_handed_on() {
        let signals = Signals::catch().unwrap();
        let mut own = SigSet::empty();
        own.add(Signal::SIGPIPE);
        own.add(Signal::SIGXFSZ);
        // As the binary does when it begins.
        own.thread_block().unwrap();
        for signal in own.iter() {
            pthread_kill(pthread_self(), signal).unwrap();
            assert_eq!(signals.next(), Ok(None), "{signal}");
        }
    }
}
