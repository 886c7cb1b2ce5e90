//! The name of an errno ("EPERM"), whatever crate the error came from. Tests
//! compare names; numbers differ between architectures and texts between
//! libraries.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// An errno by name, or the text of an error that is not from the kernel.
pub(crate) struct Name(String);

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl From<Errno> for Name {
    fn from(errno: Errno) -> Self {
        Self(format!("{errno:?}"))
    }
}

impl From<io::Error> for Name {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).into(),
            None => Self(error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Name {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno::from_raw(errno.raw_os_error()).into()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
