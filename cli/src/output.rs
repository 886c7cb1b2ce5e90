//! The only way to standard output. `println!` panics when nobody reads; here that is an error
//! like any other.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use capsid_runtime::{Code, Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

/// What is open as standard output was not the caller's: nobody reads it.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Says that the caller gave no standard output.
pub fn was_not_given() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// Writes all of it, waiting for the reader where need be.
pub fn print(text: impl AsRef<[u8]>) -> Result<()> {
    let text = text.as_ref();
    let written = match !text.is_empty() && CLOSED.load(Ordering::Relaxed) {
        true => Err(Errno::EBADF),
        false => write_all(io::stdout().as_fd(), text),
    };
    written.map_err(|errno| Error::call(Code::Io, "write", errno).doing("write to standard output"))
}

/// A document as the verbs print it: indented, and with a newline at the end.
pub fn json(value: &impl Serialize, indent: &[u8]) -> Result<String> {
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent));
    value
        .serialize(&mut serializer)
        .map_err(|error| Error::new(Code::Io, error.to_string()).doing("write JSON"))?;
    text.push(b'\n');
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A value on one line.
pub fn json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::new(Code::Io, error.to_string()).doing("write JSON"))?;
    Ok(text + "\n")
}

fn write_all(output: impl AsFd, mut text: &[u8]) -> nix::Result<()> {
    while !text.is_empty() {
        match write(&output, text) {
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Whoever started us made the pipe non-blocking.
            Err(Errno::EAGAIN) => {
                let mut writable = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
                match poll(&mut writable, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    use super::*;

    #[test]
    fn a_document_is_indented_as_asked_and_ends_its_line() {
        let value = serde_json::json!({"a": [1]});
        assert_eq!(
            json(&value, b"  ").unwrap(),
            "{\n  \"a\": [\n    1\n  ]\n}\n"
        );
        assert!(json(&value, b"\t").unwrap().starts_with("{\n\t\"a\""));
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_no_panic() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        drop(reader);
        assert_eq!(write_all(writer, b"{}"), Err(Errno::EPIPE));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let full = std::fs::File::options().write(true).open("/dev/full");
        assert_eq!(write_all(full.unwrap(), b"{}"), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_non_blocking_pipe_gets_everything() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let sent = vec![7; 300_000];
        let reading = std::thread::spawn(move || {
            let mut reader = std::fs::File::from(reader);
            let mut all = Vec::new();
            loop {
                let mut readable = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
                poll(&mut readable, PollTimeout::NONE).unwrap();
                match reader.read_to_end(&mut all) {
                    Ok(_) => return all,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        });
        assert_eq!(write_all(writer, &sent), Ok(()));
        assert_eq!(reading.join().unwrap(), sent);
    }
}
