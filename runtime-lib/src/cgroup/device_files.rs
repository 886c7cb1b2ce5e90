//! Writing device rules to v1's devices.allow and devices.deny.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::device_exceptions::Exceptions;
use super::file;
use super::remove::{DEADLINE, Pause};
use crate::error::{Code, Error, Result};

/// Each line is one write to an open file. `a` resets the exceptions too.
pub(super) fn write(dir: &Path, rules: &Exceptions) -> Result<()> {
    let [default, other] = rules.files();
    let lines = rules.lines();
    let lines = lines.iter().map(String::as_str);
    commands(&dir.join(default), std::iter::once("a"))?;
    commands(&dir.join(other), lines)
}

fn commands<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Result<()> {
    let refused = |line: &str, errno| {
        let error = Error::call(Code::Cgroup, "write", errno)
            .doing(format!("write {line} to {}", path.display()))
            .at("/linux/resources/devices");
        match errno {
            Errno::EINVAL if line == "a" => {
                error.hint("the rules of a cgroup that has others below it cannot be begun anew")
            }
            Errno::EPERM => error.hint("a cgroup cannot allow what its parent denies"),
            _ => error,
        }
    };
    let mut lines = lines.peekable();
    let Some(first) = lines.peek() else {
        return Ok(());
    };
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| refused(first, errno))?;
    for line in lines {
        command(file.as_fd(), line, path).map_err(|errno| refused(line, errno))?;
    }
    Ok(())
}

/// The kernel counts a cgroup below for a while after its removal.
fn command(file: BorrowedFd<'_>, line: &str, path: &Path) -> nix::Result<()> {
    let mut pause = Pause::new(Instant::now() + DEADLINE);
    loop {
        match file::write_to(file, line) {
            Err(Errno::EINVAL) if line == "a" && !has_others_below(path) && !pause.is_over() => {
                pause.sleep();
            }
            written => return written,
        }
    }
}

/// Whether there are cgroups beside this file.
fn has_others_below(path: &Path) -> bool {
    let entries = path.parent().map(std::fs::read_dir);
    let mut entries = entries.into_iter().flatten().flatten().flatten();
    entries.any(|entry| entry.file_type().is_ok_and(|it| it.is_dir()))
}
