//! Runs a command with a deadline and keeps what it said. A command that hangs fails its test by name
//! instead of stopping the whole run.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// No command of a test takes a tenth of this, on a loaded machine or in the guest.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A command that has ended.
#[derive(Debug)]
pub struct Outcome {
    pub what: String,
    /// The exit status; 128 + the signal when one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Outcome {
    /// Runs `command` to its end. Its output goes to files in memory, so that a process which outlives it
    /// and still holds them keeps nobody waiting.
    #[track_caller]
    pub fn of(command: &mut Command) -> Outcome {
        let (out, err) = (memory("stdout"), memory("stderr"));
        command
            .stdout(out.try_clone().expect("dup"))
            .stderr(err.try_clone().expect("dup"));
        let what = format!("{command:?}");
        let begun = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        let Some(code) = end(child) else {
            panic!(
                "{what}: not finished after {LIMIT:?}\n{}{}",
                text(out),
                text(err)
            );
        };
        Outcome {
            what,
            code,
            stdout: text(out),
            stderr: text(err),
            took: begun.elapsed(),
        }
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "exit status of {self}");
        self
    }

    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.exits(0)
    }

    /// It ended with status 1 and one line on stderr that has all of `needles`.
    #[track_caller]
    pub fn refuses(self, needles: &[&str]) -> Outcome {
        self.fails_with(1, needles)
    }

    #[track_caller]
    pub fn fails_with(self, code: i32, needles: &[&str]) -> Outcome {
        assert_eq!(self.code, code, "exit status of {self}");
        // A log line in the text format holds its message quoted.
        let text = self.stderr.replace("\\\"", "\"");
        for needle in needles {
            assert!(text.contains(needle), "stderr lacks {needle:?}: {self}");
        }
        for word in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.stderr.contains(word), "a panic: {self}");
        }
        self
    }

    #[track_caller]
    pub fn prints(self, needle: &str) -> Outcome {
        assert!(
            self.stdout.contains(needle),
            "stdout lacks {needle:?}: {self}"
        );
        self
    }

    /// stdout without the white space around it.
    pub fn line(&self) -> &str {
        self.stdout.trim()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- exit {} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.code, self.took, self.stdout, self.stderr
        )
    }
}

/// `outer`, which ends by executing what follows it: `inner`, with what that has in its environment besides.
pub fn around(mut outer: Command, inner: &Command) -> Command {
    let set = |(name, value)| Some((name, value?));
    outer
        .arg(inner.get_program())
        .args(inner.get_args())
        .envs(inner.get_envs().filter_map(set))
        .stdin(Stdio::null());
    outer
}

/// Waits for the end of a child and gives its exit status (128 + the signal when one ended it). None: it
/// took too long and was killed.
pub fn end(mut child: Child) -> Option<i32> {
    let pid = Pid::from_raw(child.id() as i32);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    match receiver.recv_timeout(LIMIT) {
        Ok(status) => {
            let status = status.expect("wait");
            Some(
                status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            )
        }
        Err(_) => {
            // Not reaped yet (the thread above does that), so the pid is still the child's.
            let _ = kill(pid, Signal::SIGKILL);
            None
        }
    }
}

/// Waits until `done` says so: the one place where tests look again and again, for what has no event to wait on.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LIMIT, "{what}: not so after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn memory(name: &str) -> File {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC).expect("memfd");
    File::from(fd)
}

pub(super) fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("what was printed");
    String::from_utf8_lossy(&bytes).into_owned()
}
