//! Runs one command under the static stopwatch program and reads what it took.
//! It must not add anything of its own to the figure: the clock starts and stops
//! in the stopwatch, beside the command.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// No measured command takes this long unless it hangs.
const PATIENCE_SECONDS: u32 = 20;

pub struct Stopwatch {
    pub program: PathBuf,
    /// Receives the command's standard error; a created container keeps it open,
    /// so it cannot be a pipe that is read to its end.
    pub stderr: PathBuf,
}

/// What one command took.
#[derive(Clone, Copy, Debug)]
pub struct Lap {
    pub wall_ms: f64,
    /// User and system time of the command and of the processes it waited for.
    pub cpu_ms: f64,
    /// The largest resident set among the same processes.
    pub rss_kib: f64,
}

impl Stopwatch {
    /// Runs the command. Its exit status must be 0, else the error ends with the
    /// last line of its standard error.
    pub fn time(&self, command: &[OsString]) -> Result<Lap> {
        let stderr = File::create(&self.stderr).context("create the file for standard error")?;
        let output = Command::new(&self.program)
            .arg(PATIENCE_SECONDS.to_string())
            .args(command)
            .stdin(Stdio::null())
            .stderr(stderr)
            .output()
            .context("start the stopwatch")?;
        reap_orphans();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let fields: Vec<f64> = text
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        let [status, wall_ns, cpu_us, rss_kib] = fields[..] else {
            bail!("the stopwatch said {text:?} ({})", output.status);
        };
        if status != 0.0 {
            let shown: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
            let error = fs::read_to_string(&self.stderr).unwrap_or_default();
            let last = error.trim_end().lines().last().unwrap_or("(no message)");
            let how = if status < 0.0 {
                "hung".to_owned()
            } else {
                format!("exit status {status}")
            };
            bail!("{}: {how}: {last}", shown.join(" "));
        }
        Ok(Lap {
            wall_ms: wall_ns / 1e6,
            cpu_ms: cpu_us / 1e3,
            rss_kib,
        })
    }

    /// Waits until the process has ended.
    pub fn await_end(&self, pid: &str) -> Result<()> {
        let status = Command::new(&self.program)
            .arg(PATIENCE_SECONDS.to_string())
            .arg(format!("@{pid}"))
            .status()
            .context("start the stopwatch")?;
        anyhow::ensure!(status.success(), "process {pid} did not end");
        reap_orphans();
        Ok(())
    }
}

/// The first processes of containers become our children when their runtime
/// returns. A command of ours is never among them: each was waited for already.
pub fn reap_orphans() {
    while waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status != WaitStatus::StillAlive)
    {}
}
