//! One place that lines go to, without ever waiting for its reader: a full pipe loses records,
//! never the container (F16).

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::write;

/// What a pipe that poll(2) calls writable takes without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

/// How long a reader that is behind is waited for.
#[derive(Clone, Copy)]
pub enum Patience {
    /// Not at all: the record is lost.
    None,
    /// A tenth of a second: for the one record that says why the command failed.
    Brief,
}

impl Patience {
    fn timeout(self) -> PollTimeout {
        match self {
            Patience::None => PollTimeout::ZERO,
            Patience::Brief => PollTimeout::from(100_u8),
        }
    }
}

/// Standard error, or a log file.
pub struct Sink {
    /// None: standard error, which is not ours to close or to make non-blocking.
    file: Option<OwnedFd>,
    /// A regular file takes a record whole, so that records of several writers never mix.
    chunk: usize,
    /// A line was cut off: the next one must not continue it.
    cut: AtomicBool,
}

impl Sink {
    pub fn stderr() -> Sink {
        Sink::new(None, PIPE_BUF)
    }

    /// Opens or makes a log file, to append to. O_SYNC: a record must outlive whatever ends
    /// the machine next. O_NONBLOCK: a fifo without a reader is an error, not a wait.
    pub fn append(path: &Path) -> io::Result<Sink> {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_SYNC | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        let regular = file.metadata()?.is_file();
        let chunk = if regular { usize::MAX } else { PIPE_BUF };
        Ok(Sink::new(Some(file.into()), chunk))
    }

    fn new(file: Option<OwnedFd>, chunk: usize) -> Sink {
        Sink {
            file,
            chunk,
            cut: AtomicBool::new(false),
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.file.is_none() && io::stderr().is_terminal()
    }

    /// Writes one line, or as much of it as fits now.
    pub fn write(&self, line: &[u8], patience: Patience) {
        let stderr = io::stderr();
        let fd = match &self.file {
            Some(file) => file.as_fd(),
            None => stderr.as_fd(),
        };
        if self.cut.load(Ordering::Relaxed) {
            if !self.write_all(fd, b"\n", patience) {
                return;
            }
            self.cut.store(false, Ordering::Relaxed);
        }
        self.write_all(fd, line, patience);
    }

    fn write_all(&self, fd: BorrowedFd<'_>, line: &[u8], patience: Patience) -> bool {
        let mut rest = line;
        while !rest.is_empty() {
            let next = rest.get(..self.chunk).unwrap_or(rest);
            let written = if has_room(fd, patience) {
                write(fd, next)
            } else {
                Err(Errno::EAGAIN)
            };
            match written {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(_) => {
                    self.cut
                        .fetch_or(rest.len() < line.len(), Ordering::Relaxed);
                    return false;
                }
            }
        }
        true
    }
}

pub(super) fn has_room(fd: BorrowedFd<'_>, patience: Patience) -> bool {
    let mut writable = [PollFd::new(fd, PollFlags::POLLOUT)];
    loop {
        match poll(&mut writable, patience.timeout()) {
            Ok(ready) => return ready > 0,
            Err(Errno::EINTR) => {}
            // poll(2): more than RLIMIT_NOFILE, which is 0.
            Err(Errno::EINVAL) => return has_room_unlimited(fd),
            Err(_) => return false,
        }
    }
}

/// The same at once, with a call that asks for no limit.
fn has_room_unlimited(fd: BorrowedFd<'_>) -> bool {
    let mut writable = FdSet::new();
    if fd.as_raw_fd() >= libc::FD_SETSIZE as i32 {
        return false;
    }
    writable.insert(fd);
    select(None, None, &mut writable, None, &mut TimeVal::zero()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::fcntl::OFlag;
    use nix::sys::stat::Mode;
    use nix::unistd::{mkfifo, pipe2};

    use super::*;

    /// A pipe whose writing end blocks when it is full, as an inherited stderr does.
    fn pipe_sink() -> (File, Sink) {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        (reader.into(), Sink::new(Some(writer), PIPE_BUF))
    }

    #[test]
    fn a_full_pipe_that_nobody_reads_does_not_block() {
        let (mut reader, sink) = pipe_sink();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        for _ in 0..1000 {
            sink.write(&line, Patience::None);
        }
        sink.write(b"the error\n", Patience::Brief);
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.len() <= 65536);
        assert!(text.starts_with("xxx"));
    }

    #[test]
    fn a_line_after_a_cut_one_is_whole() {
        let (mut reader, sink) = pipe_sink();
        sink.write(&[b'a'; 70_000], Patience::None);
        let mut first = vec![0; 65536];
        reader.read_exact(&mut first).unwrap();
        sink.write(b"whole\n", Patience::None);
        drop(sink);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nwhole\n");
    }

    #[test]
    fn a_reader_that_is_only_slow_still_gets_the_error() {
        let (mut reader, sink) = pipe_sink();
        sink.write(&[b'a'; 65536], Patience::None);
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map(|_| text)
        });
        sink.write(b"the error\n", Patience::Brief);
        drop(sink);
        assert!(reading.join().unwrap().unwrap().ends_with(b"the error\n"));
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_and_not_waited_for() {
        let path = std::env::temp_dir().join(format!("capsid-cli-fifo-{}", std::process::id()));
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let opened = Sink::append(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(opened.err().unwrap().raw_os_error(), Some(libc::ENXIO));
    }
}
