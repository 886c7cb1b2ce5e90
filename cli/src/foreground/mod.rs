//! A command that stays with a process: hands signals on, joins its terminal to ours, takes in
//! orphans, and says how the process ended. One poll(2) over everything; no thread, no timer.

mod reap;
mod signals;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd;

use capsid_runtime::{Code, Error, Process, Result};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::notify;
use crate::terminal::{Host, Proxy};
pub use reap::Reap;
pub use signals::Signals;

/// Waits for the process and says the exit code that stands for its end. Should that go wrong,
/// the process does not go on unattended: it is killed.
///
/// `notify`: whom to tell what the process says of its state.
pub fn wait(
    mut process: Process,
    signals: &Signals,
    reap: Reap,
    notify: Option<notify::Proxy>,
) -> Result<u8> {
    let terminal = process.terminal.take().map(|master| {
        let host = Host::of_this_process()?;
        Proxy::new(master, host)
    });
    let ended = terminal
        .transpose()
        .and_then(|proxy| attend(&process, proxy, signals, reap, notify));
    if ended.is_err() {
        let _ = process.signal(libc::SIGKILL);
        let _ = process.wait();
    }
    ended.map_err(|error| error.doing("attend to the container's process"))
}

fn attend(
    process: &Process,
    mut proxy: Option<Proxy>,
    signals: &Signals,
    reap: Reap,
    mut notify: Option<notify::Proxy>,
) -> Result<u8> {
    while !turn(process, signals, reap, &mut proxy, &mut notify)? {}
    if let Some(proxy) = proxy {
        proxy.finish(signals)?;
    }
    let exit = process.wait()?;
    Ok(u8::try_from(exit.code()).unwrap_or(u8::MAX))
}

/// Sleeps until something happens, deals with it, and says whether the process has ended.
fn turn(
    process: &Process,
    signals: &Signals,
    reap: Reap,
    proxy: &mut Option<Proxy>,
    notify: &mut Option<notify::Proxy>,
) -> Result<bool> {
    let mut watched = vec![
        PollFd::new(process.pidfd.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    if let Some(notify) = &*notify {
        watched.push(PollFd::new(notify.as_fd(), PollFlags::POLLIN));
    }
    let first = watched.len();
    if let Some(proxy) = &*proxy {
        watched.extend(proxy.interest());
    }
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Error::call(Code::Io, "poll", errno)),
    }
    let ended = watched
        .first()
        .is_some_and(|pidfd| pidfd.any() == Some(true));
    let ready: Vec<bool> = watched
        .iter()
        .skip(first)
        .map(|fd| fd.any() == Some(true))
        .collect();
    drop(watched);

    // One that has ended gets no more signals, and leaves its orphans to whoever comes after us.
    while !ended && let Some(signal) = signals.next()? {
        match signal {
            libc::SIGCHLD => reap.orphans(process.pid),
            libc::SIGWINCH => resize(proxy),
            _ => {
                if signal == libc::SIGCONT {
                    resume(proxy);
                }
                forward(process, signal);
            }
        }
    }
    if let Some(proxy) = proxy {
        proxy.turn(&ready);
    }
    if let Some(said) = notify
        && let Err(error) = said.turn(process.pid)
    {
        // The manager is gone, not the container.
        tracing::warn!("{error}");
        *notify = None;
    }
    Ok(ended)
}

fn resize(proxy: &Option<Proxy>) {
    if let Some(proxy) = proxy {
        proxy.resize();
    }
}

/// We were stopped, and the shell has had the terminal since.
fn resume(proxy: &Option<Proxy>) {
    if let Some(proxy) = proxy {
        proxy.take_the_terminal();
        proxy.resize();
    }
}

fn forward(process: &Process, signal: i32) {
    if let Err(error) = process.signal(signal) {
        tracing::debug!("forward signal {signal}: {error}");
    }
}
