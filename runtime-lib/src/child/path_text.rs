//! The text of a path on the stack, of which any part can be handed to the kernel without an
//! allocation. It knows nothing of files.

use std::ffi::CStr;

use nix::errno::Errno;

/// PATH_MAX, the NUL included.
pub const PATH_BYTES: usize = 4096;

/// A relative path; slashes part its components.
pub struct PathText {
    text: [u8; PATH_BYTES],
    length: usize,
}

impl PathText {
    /// ENAMETOOLONG when the kernel wouldn't take it either.
    pub fn new(path: &[u8]) -> nix::Result<PathText> {
        let mut text = PathText {
            text: [0; PATH_BYTES],
            length: 0,
        };
        text.set(&[path])?;
        Ok(text)
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where the next component begins and ends.
    pub fn component(&self, at: usize) -> Option<(usize, usize)> {
        let between = |b: &u8| [b'/', 0].contains(b);
        let rest = self.text.get(at..self.length)?;
        let from = at + rest.iter().position(|b| !between(b))?;
        let rest = self.text.get(from..self.length)?;
        let length = rest.iter().position(between).unwrap_or(rest.len());
        Some((from, from + length))
    }

    /// Where the path without its last component before `end` ends; None: it has one only.
    pub fn parent(&self, end: usize) -> Option<usize> {
        let before = self.text.get(..end)?;
        before.iter().rposition(|b| [b'/', 0].contains(b))
    }

    /// A part of the path as a string of its own: the slash after it becomes its NUL, and
    /// that of the part before a slash again.
    pub fn part(&mut self, from: usize, to: usize) -> nix::Result<&CStr> {
        let path = self.text.get_mut(..self.length).unwrap_or_default();
        if let Some(end) = path.iter_mut().find(|byte| **byte == 0) {
            *end = b'/';
        }
        *self.text.get_mut(to).ok_or(Errno::ENAMETOOLONG)? = 0;
        let part = self.text.get(from..=to).ok_or(Errno::ENAMETOOLONG)?;
        CStr::from_bytes_with_nul(part).map_err(|_| Errno::EINVAL)
    }

    /// Puts `instead` where the component `from..to` was; an absolute path begins anew.
    pub fn replace(&mut self, from: usize, to: usize, instead: &[u8]) -> nix::Result<()> {
        let before = self.text;
        let parents = match instead.first() {
            Some(b'/') => &[],
            _ => before.get(..from).unwrap_or_default(),
        };
        let rest = before.get(to..self.length).unwrap_or_default();
        let rest = rest.get(1..).unwrap_or_default();
        self.set(&[parents, instead, b"/", rest])
    }

    fn set(&mut self, parts: &[&[u8]]) -> nix::Result<()> {
        let mut length = 0;
        for part in parts {
            let place = self.text.get_mut(length..length + part.len());
            place.ok_or(Errno::ENAMETOOLONG)?.copy_from_slice(part);
            length += part.len();
        }
        // The byte after the last is a NUL in every part that ends there.
        *self.text.get_mut(length).ok_or(Errno::ENAMETOOLONG)? = 0;
        self.length = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_anywhere_and_whole_again() {
        let mut path = PathText::new(b"a/bc/d").unwrap();
        assert_eq!(path.parent(6), Some(4));
        assert_eq!(path.part(0, 4).unwrap(), c"a/bc");
        assert_eq!(path.parent(4), Some(1));
        assert_eq!(path.part(0, 1).unwrap(), c"a");
        assert_eq!(path.parent(1), None);
        assert_eq!(path.component(1), Some((2, 4)));
        assert_eq!(path.part(2, 4).unwrap(), c"bc");
        assert_eq!(path.component(4), Some((5, 6)));
        assert_eq!(path.component(6), None);
        assert_eq!(path.part(0, 6).unwrap(), c"a/bc/d");
    }

    #[test]
    fn a_path_longer_than_the_kernels_is_refused() {
        assert!(PathText::new(&[b'x'; PATH_BYTES - 1]).is_ok());
        let refused = PathText::new(&[b'x'; PATH_BYTES]).err();
        assert_eq!(refused, Some(Errno::ENAMETOOLONG));
    }
}
