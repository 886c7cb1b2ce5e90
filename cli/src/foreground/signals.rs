//! The signals that a foreground command hands on, read from a signalfd(2) instead of
//! interrupting it.

use std::mem::{ManuallyDrop, forget};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use capsid_runtime::{Code, Error, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use procfs::process::Process;

/// Not ours to catch: SIGURG is ignored by default, SIGPIPE and SIGXFSZ are caused by capsid's own
/// writes, SIGTTIN and SIGTTOU by its own use of the terminal, and must stop it as they would anyone.
const LEFT_ALONE: [Signal; 5] = [
    Signal::SIGURG,
    Signal::SIGPIPE,
    Signal::SIGXFSZ,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Those that ask for this process's end.
const ASKING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// The caught signals, from [`Signals::catch`] to the end of this process, which closes the descriptor.
pub struct Signals(ManuallyDrop<SignalFd>);

impl Signals {
    /// From here on signals wait to be read. The container is not affected: its process starts
    /// with an empty mask.
    pub fn catch() -> Result<Signals> {
        let mut caught = SigSet::all();
        for signal in LEFT_ALONE {
            caught.remove(signal);
        }
        block(&caught)?;
        SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(|caught| Signals(ManuallyDrop::new(caught)))
            .map_err(|errno| Error::call(Code::Io, "signalfd4", errno))
    }

    /// Readable once one of these has come that ask for this process's end. It takes nothing
    /// away: [`Signals::next`] gives it as well.
    pub fn ask_for_the_end(&self) -> Result<Arc<OwnedFd>> {
        watch(&ASKING.into_iter().collect())
    }

    /// The same for a command that doesn't stay: from here on these signals wait until [`Signals::end_it_again`], for
    /// what listens here; but for those that its caller has had it ignore (nohup(1)).
    pub fn only_ask_for_the_end() -> Result<Arc<OwnedFd>> {
        let ignored = ignored();
        let is_heard = |signal: &Signal| ignored & (1 << (*signal as u32 - 1)) == 0;
        let asking: SigSet = ASKING.into_iter().filter(is_heard).collect();
        block(&asking)?;
        watch(&asking)
    }

    /// Those that ask for its end act on this process as they did before it has listened.
    pub fn end_it_again() -> Result<()> {
        let asking: SigSet = ASKING.into_iter().collect();
        let let_through = asking.thread_unblock();
        let_through.map_err(|errno| Error::call(Code::Io, "rt_sigprocmask", errno))
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

fn block(signals: &SigSet) -> Result<()> {
    let blocked = signals.thread_block();
    blocked.map_err(|errno| Error::call(Code::Io, "rt_sigprocmask", errno))
}

/// `SigIgn` of proc_pid_status(5), a bit for each signal; none where there is no /proc.
fn ignored() -> u64 {
    let own = Process::myself().and_then(|process| process.status());
    own.map_or(0, |status| status.sigign)
}

/// The end of this process closes it.
fn watch(signals: &SigSet) -> Result<Arc<OwnedFd>> {
    let watching = SignalFd::with_flags(signals, SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| Error::call(Code::Io, "signalfd4", errno))?;
    let watching = Arc::new(OwnedFd::from(watching));
    forget(Arc::clone(&watching));
    Ok(watching)
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
