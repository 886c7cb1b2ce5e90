//! Writing device rules to v1's devices.allow and devices.deny.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::device_exceptions::Exceptions;
use super::file;
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
        file::write_to(file.as_fd(), line).map_err(|errno| refused(line, errno))?;
    }
    Ok(())
}
