//! Bytes on their way in one direction. A lane is read into only when it is empty, so a sink
//! that is slow holds back its source and nothing else.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::unistd::{read, write};

const CAPACITY: usize = 16 * 1024;

pub struct Lane {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last byte that came in, for whom it matters how the input ended.
    last: Option<u8>,
    source_open: bool,
    sink_open: bool,
}

impl Lane {
    pub fn new() -> Lane {
        Lane {
            bytes: vec![0; CAPACITY].into(),
            start: 0,
            end: 0,
            last: None,
            source_open: true,
            sink_open: true,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn wants_input(&self) -> bool {
        self.source_open && self.is_empty()
    }

    pub fn source_open(&self) -> bool {
        self.source_open
    }

    pub fn last(&self) -> Option<u8> {
        self.last
    }

    /// One read(2); says how many bytes came. The end of a file and an error (a pty whose other
    /// side is gone says EIO) both end the input.
    pub fn fill(&mut self, source: BorrowedFd<'_>) -> usize {
        if !self.wants_input() {
            return 0;
        }
        match read(source, &mut self.bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Ok(0) | Err(_) => {
                self.source_open = false;
                0
            }
            Ok(count) => {
                (self.start, self.end) = (0, count);
                self.last = self
                    .bytes
                    .get(..count)
                    .and_then(|bytes| bytes.last().copied());
                count
            }
        }
    }

    /// Puts bytes of our own into an empty lane.
    pub fn put(&mut self, bytes: &[u8]) {
        if let (true, Some(place)) = (self.is_empty(), self.bytes.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
            (self.start, self.end) = (0, bytes.len());
        }
    }

    /// One write(2) of at most this many bytes. Once the sink is gone all is dropped, so that
    /// the source is not held back for ever.
    pub fn drain(&mut self, sink: BorrowedFd<'_>, at_most: usize) {
        let Some(bytes) = self.bytes.get(self.start..self.end) else {
            return;
        };
        let bytes = bytes.get(..at_most).unwrap_or(bytes);
        if !bytes.is_empty() && self.sink_open {
            match write(sink, bytes) {
                Ok(count) => self.start = self.end.min(self.start + count),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(_) => self.sink_open = false,
            }
        }
        if !self.sink_open {
            self.start = self.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (a, b)
    }

    #[test]
    fn a_slow_sink_holds_back_the_source() {
        let ((mut writer, source), (sink, mut reader)) = (pair(), pair());
        let mut lane = Lane::new();
        let mut sent = 0;
        // Nobody reads: everything on the way fills up, and the source stays unread.
        while let Ok(count) = writer.write(&[b'x'; 4096]) {
            sent += count;
            lane.fill(source.as_fd());
            lane.drain(sink.as_fd(), usize::MAX);
        }
        assert!(!lane.is_empty() && !lane.wants_input());
        drop(writer);
        let mut received = 0;
        let mut bytes = [0; 4096];
        while lane.source_open() || !lane.is_empty() {
            lane.fill(source.as_fd());
            lane.drain(sink.as_fd(), usize::MAX);
            while let Ok(count) = reader.read(&mut bytes) {
                received += count;
            }
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_sink_that_is_gone_does_not_hold_back_the_source() {
        let ((mut writer, source), (sink, reader)) = (pair(), pair());
        drop(reader);
        let mut lane = Lane::new();
        for _ in 0..3 {
            writer.write_all(b"lost").unwrap();
            assert_eq!(lane.fill(source.as_fd()), 4);
            lane.drain(sink.as_fd(), usize::MAX);
            assert!(lane.wants_input());
        }
    }

    #[test]
    fn the_end_of_the_source_keeps_what_came_before() {
        let ((mut writer, source), (sink, mut reader)) = (pair(), pair());
        let mut lane = Lane::new();
        writer.write_all(b"ab").unwrap();
        drop(writer);
        assert_eq!(lane.fill(source.as_fd()), 2);
        assert_eq!(lane.last(), Some(b'b'));
        assert_eq!(lane.fill(source.as_fd()), 0);
        lane.drain(sink.as_fd(), 1);
        assert!(!lane.is_empty());
        lane.drain(sink.as_fd(), 1);
        assert!(lane.is_empty() && lane.source_open());
        assert_eq!(lane.fill(source.as_fd()), 0);
        assert!(!lane.source_open());
        let mut text = [0; 2];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"ab");
    }
}
