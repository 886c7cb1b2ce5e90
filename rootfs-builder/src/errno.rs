//! Turns a failed call on a path into one line, `PATH: reason`, in the wording
//! that the runtime uses too: Go's, which is the C library's in lower case.

use std::io;
use std::path::Path;

use anyhow::anyhow;

/// Names the path that a call failed on.
pub(crate) trait At<T> {
    /// The error becomes `PATH: reason`.
    fn at(self, path: impl AsRef<Path>) -> anyhow::Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> anyhow::Result<T> {
        self.map_err(|error| anyhow!("{}: {}", shown(path), reason(&error.into())))
    }
}

/// "no such file or directory" for ENOENT; other errors keep their text.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        // The standard library appends " (os error 2)".
        Some(_) => match text.split_once(" (os error") {
            Some((words, _)) => words.to_lowercase(),
            None => text.to_lowercase(),
        },
        None => text,
    }
}

/// A path fit for a terminal: an archive chooses names, and may choose escape
/// sequences.
pub(crate) fn shown(path: impl AsRef<Path>) -> String {
    let mut text = String::new();
    for character in path.as_ref().to_string_lossy().chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_worded_as_go_words_it() {
        let error: anyhow::Result<()> = Err(io::Error::from_raw_os_error(2)).at("/x");
        let text = error.map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(text, "/x: no such file or directory");
    }

    #[test]
    fn a_name_with_control_characters_is_escaped() {
        assert_eq!(shown("a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
    }
}
