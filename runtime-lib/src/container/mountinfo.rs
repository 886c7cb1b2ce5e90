//! What /proc/PID/mountinfo says (proc_pid_mountinfo(5)), as far as live mounts need it. Paths
//! are bytes that a container may have chosen: nothing is taken for UTF-8, and a line that is
//! none is passed over.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Code, Error, Result};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub id: u64,
    pub parent: u64,
    /// Below the root of the process that was asked.
    pub point: PathBuf,
    /// The peer group that it is in, when it is shared.
    pub shared: Option<u64>,
    /// The type of its file system.
    pub fstype: Vec<u8>,
}

/// The mounts that a process sees.
pub fn of_process(pid: &str) -> Result<Vec<Line>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text =
        std::fs::read(&path).map_err(|error| Error::io(Code::Io, "read", &error).path(&path))?;
    Ok(parse(&text))
}

fn parse(text: &[u8]) -> Vec<Line> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// "36 35 98:0 / /mnt rw,noatime shared:1 master:2 - ext4 /dev/sda rw"
fn line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let point = unescape(fields.nth(2)?);
    let _options = fields.next()?;
    let mut optional = fields.by_ref().take_while(|field| *field != b"-");
    let mut shared = None;
    for field in &mut optional {
        shared = shared.or_else(|| number(field.strip_prefix(b"shared:")?));
    }
    Some(Line {
        id,
        parent,
        point: PathBuf::from(OsString::from_vec(point)),
        shared,
        fstype: fields.next()?.to_vec(),
    })
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Blanks, newlines and backslashes stand as three octal digits after a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| first == b'\\');
        let byte =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                plain.push(byte);
                rest = rest.get(4..).unwrap_or_default();
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes_and_its_peer_group() {
        let text =
            b"36 35 98:0 / /a\\040b\\012\\134 rw,noatime master:1 shared:7 - ext4 /dev/sda rw\n\
                     40 36 0:5 / /c ro - tmpfs none rw\nno line\n";
        let lines = parse(text);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].point, PathBuf::from("/a b\n\\"));
        assert_eq!(lines[0].shared, Some(7));
        assert_eq!(lines[0].fstype, b"ext4");
        assert_eq!(
            (lines[1].id, lines[1].parent, lines[1].shared),
            (40, 36, None)
        );
    }

    #[test]
    fn a_word_after_the_dash_is_no_peer_group() {
        let text = b"1 1 0:5 / / rw - tmpfs shared:3 rw";
        assert_eq!(parse(text)[0].shared, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&text);
            prop_assert!(unescape(&text).len() <= text.len());
        }

        #[test]
        fn this_machines_mounts_are_read(_once in 0..1) {
            let text = std::fs::read("/proc/self/mountinfo").unwrap();
            let lines = text.iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(parse(&text).len(), lines);
        }
    }
}
