//! Reading and writing the small files of a cgroup directory, in as few system calls as can
//! be: open, one read or write, close.
//!
//! Knows no file by name. Errors are bare errnos; the caller knows what they mean.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::Result;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd;

use crate::sys::fd::retry;

/// Writes `value` in one piece, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write_to(file.as_fd(), value)
}

/// Writes each line in one piece. A line break alone is how a file is emptied.
pub(super) fn write_lines(path: &Path, lines: &str) -> Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    match lines.contains('\n') && lines != "\n" {
        false => write_to(file.as_fd(), lines),
        true => lines
            .split('\n')
            .filter(|line| !line.is_empty())
            .try_for_each(|line| write_to(file.as_fd(), line)),
    }
}

/// As [`write`], to an open file: each call is one command to the kernel.
pub(super) fn write_to(file: BorrowedFd<'_>, value: &str) -> Result<()> {
    retry(|| unistd::write(file, value.as_bytes())).map(drop)
}

/// A file of at most one line, without its newline.
pub(super) fn read_line(path: &Path) -> Result<String> {
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 4096];
    let count = read_some(file.as_fd(), &mut buffer)?;
    let text = buffer.get(..count).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).trim_end().to_owned())
}

/// The whole of an open file.
pub(super) fn read_to_end(file: BorrowedFd<'_>) -> Result<String> {
    Ok(String::from_utf8_lossy(&read_bytes(file)?).into_owned())
}

/// The whole of a file. In large pieces: the kernel makes up a file of /proc anew for each.
pub(super) fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    read_bytes(file.as_fd())
}

/// As [`read_whole`], of a file that the kernel makes up in one piece: what leaves room was all of it.
pub(super) fn read_piece(path: &Path) -> Result<Vec<u8>> {
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut buffer = [0; 4096];
    let count = read_some(file.as_fd(), &mut buffer)?;
    let mut bytes = buffer.get(..count).unwrap_or_default().to_vec();
    if count == buffer.len() {
        bytes.extend(read_bytes(file.as_fd())?);
    }
    Ok(bytes)
}

/// Lines of a key and a number; what is neither is passed over.
pub(super) fn table(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn read_bytes(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match read_some(file, &mut buffer)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn read_some(file: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    retry(|| unistd::read(file, buffer))
}
