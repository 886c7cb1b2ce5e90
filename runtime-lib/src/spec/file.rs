//! Reads a configuration file that somebody else names: it may be a FIFO, a device or
//! endless, and none of these may hold the runtime up. It must not interpret the text.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::MAX_SIZE;
use crate::error::{Code, Error, Result};

/// The text of a regular file of at most [`MAX_SIZE`] bytes.
pub(super) fn read(path: &Path) -> Result<String> {
    let refused = |error: &io::Error| {
        let error = match error.kind() {
            io::ErrorKind::NotFound => not_found(path),
            _ => Error::io(Code::Io, "open", error),
        };
        error.path(path)
    };
    // O_NONBLOCK: the open of a FIFO returns at once. O_NOCTTY: a terminal stays nobody's.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| refused(&error))?;
    let metadata = file.metadata().map_err(|error| refused(&error))?;
    if !metadata.is_file() {
        return Err(Error::new(Code::Io, "not a regular file").path(path));
    }
    if metadata.len() > MAX_SIZE {
        return Err(too_large(path));
    }
    // The size above is what the file system says; files of /proc say 0 and have content.
    let size = metadata.len() as usize;
    let mut bytes = vec![0; size + 1];
    let count = (&file).read(&mut bytes).unwrap_or_default();
    bytes.truncate(count);
    if size == 0 || count != size {
        (&file)
            .take(MAX_SIZE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(Code::Io, "read", &error).path(path))?;
    }
    if bytes.len() as u64 > MAX_SIZE {
        return Err(too_large(path));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = format!("invalid JSON: byte {at} is not UTF-8");
        Error::new(Code::InvalidConfig, text).path(path)
    })
}

fn not_found(path: &Path) -> Error {
    // runc's words for the bundle's; what has another name was named by the caller.
    let name = match path.file_name() {
        Some(name) if name == "config.json" => name,
        _ => path.as_os_str(),
    };
    let name = name.to_string_lossy();
    let tail = format!("JSON specification file {name} not found");
    Error::new(Code::Io, tail).errno(nix::errno::Errno::ENOENT)
}

fn too_large(path: &Path) -> Error {
    let tail = format!("larger than {} MiB", MAX_SIZE >> 20);
    Error::new(Code::Io, tail).path(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::time::{Duration, Instant};

    #[test]
    fn a_file_that_would_block_or_never_end_is_refused_at_once() {
        let started = Instant::now();
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("config.json");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let error = read(&fifo).unwrap_err().to_string();
        assert_eq!(error, format!("{}: not a regular file", fifo.display()));

        let error = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero: not a regular file");

        let large = directory.path().join("large.json");
        File::create(&large).unwrap().set_len(1 << 30).unwrap();
        let error = read(&large).unwrap_err().to_string();
        assert_eq!(error, format!("{}: larger than 16 MiB", large.display()));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_missing_file_is_named_as_engines_expect_it() {
        let error = read(Path::new("/nowhere/config.json")).unwrap_err();
        let tail = "JSON specification file config.json not found";
        assert_eq!(error.tail(), tail);
        assert_eq!(error.to_string(), format!("/nowhere/config.json: {tail}"));
        let error = read(Path::new("/nowhere/mine.json")).unwrap_err();
        let tail = "JSON specification file /nowhere/mine.json not found";
        assert_eq!(error.to_string(), tail);
    }

    #[test]
    fn a_file_that_is_not_utf_8_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, b"{\"a\": \"\xff\"}").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.tail(), "invalid JSON: byte 7 is not UTF-8");
    }
}
