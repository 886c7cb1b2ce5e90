//! The outer process: gives the measuring process a cgroup and a scratch
//! directory, waits for it, and leaves the machine as it was however that ended:
//! success, failure, panic or ctrl-C. It must not measure.

use std::fs;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, mkdtemp};

use crate::home::Home;

const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Runs this program again as the measuring process, and cleans up after it.
pub fn run() -> Result<ExitCode> {
    // Containers whose runtime is gone become our children: we can wait for them.
    prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    let signals = watched()
        .thread_block()
        .and_then(|()| SignalFd::new(&watched()))
        .context("signalfd")?;
    let scratch = mkdtemp(&std::env::temp_dir().join("capsid-bench-XXXXXX")).context("mkdtemp")?;
    let home = Home::make();
    let outcome = home
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error:#}"))
        .and_then(|home| {
            let mut worker = Command::new(std::env::current_exe()?)
                .args(std::env::args_os().skip(1))
                .arg("--scratch")
                .arg(&scratch)
                .arg("--cgroup")
                .arg(&home.path)
                .spawn()
                .context("start the measuring process")?;
            wait(&mut worker, &signals)
        });
    if let Ok(home) = &home {
        home.remove(reap)?;
    }
    fs::remove_dir(&scratch).with_context(|| format!("rmdir {}", scratch.display()))?;
    let status = outcome?;
    Ok(ExitCode::from(status.code().map_or(130, |code| code as u8)))
}

/// For the measuring process: undoes what it inherited, and dies with its parent.
pub fn accept_signals() -> Result<()> {
    watched().thread_unblock().context("sigprocmask")?;
    prctl::set_pdeathsig(Signal::SIGKILL).context("prctl(PR_SET_PDEATHSIG)")?;
    prctl::set_child_subreaper(true).context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    Ok(())
}

fn watched() -> SigSet {
    ENDING.into_iter().chain([Signal::SIGCHLD]).collect()
}

fn wait(worker: &mut std::process::Child, signals: &SignalFd) -> Result<ExitStatus> {
    loop {
        if let Some(status) = worker
            .try_wait()
            .context("wait for the measuring process")?
        {
            return Ok(status);
        }
        let signal = signals.read_signal().context("read the signalfd")?;
        if signal.is_some_and(|info| info.ssi_signo != Signal::SIGCHLD as u32) {
            worker.kill().context("kill the measuring process")?;
        }
    }
}

fn reap() {
    while waitpid(Pid::from_raw(-1), None).is_ok() {}
}
