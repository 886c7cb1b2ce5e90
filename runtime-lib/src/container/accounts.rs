//! Users and groups by name, as the container's own /etc/passwd and /etc/group have them.
//!
//! The files are the image's: they are opened below the container's root and nowhere else,
//! must be ordinary files, and are read up to a size. A user of digits is a number, never a
//! name, so that an image can't say who 0 is.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::Container;
use super::join::stopped;
use crate::error::{Code, Error, Result};
use crate::sys::mount::{openat2, resolve};

/// An account file is read up to here, in bytes.
const LARGEST: u64 = 1 << 20;
/// The longest line that is looked at, in bytes.
const LONGEST: usize = 64 << 10;

/// What a user's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// The groups that name the user as a member.
    pub groups: Vec<u32>,
}

impl Container {
    /// The account of a user's name.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`]: the container has no such user, or a file that can't be read.
    pub fn account(&self, name: &str) -> Result<Account> {
        self.find_account(name)
            .map_err(|error| error.doing(format!("look up the user {name:?}")))
    }

    /// The number of a group's name.
    ///
    /// # Errors
    /// As [`Container::account`].
    pub fn group(&self, name: &str) -> Result<u32> {
        let find = || {
            let file = AccountFile::open(&self.root()?, c"etc/group")?;
            let found = file.lines()?.into_iter().find_map(|line| {
                let (found, gid, _) = group(&line)?;
                (found == name).then_some(gid)
            });
            found.ok_or_else(|| file_lacks("no matching entries in group file"))
        };
        find().map_err(|error: Error| error.doing(format!("look up the group {name:?}")))
    }

    fn find_account(&self, name: &str) -> Result<Account> {
        let root = self.root()?;
        let lines = AccountFile::open(&root, c"etc/passwd")?.lines()?;
        let found = lines.iter().find_map(|line| {
            let (found, uid, gid) = user(line)?;
            (found == name).then_some((uid, gid))
        });
        let Some((uid, gid)) = found else {
            return Err(file_lacks("no matching entries in passwd file"));
        };
        // An image without groups has none that the user could be in.
        let lines = match AccountFile::open(&root, c"etc/group") {
            Ok(file) => file.lines()?,
            Err(error) if error.os_error() == Some(Errno::ENOENT) => Vec::new(),
            Err(error) => return Err(error),
        };
        let groups = lines.iter().filter_map(|line| {
            let (_, gid, members) = group(line)?;
            members
                .split(',')
                .any(|member| member == name)
                .then_some(gid)
        });
        let mut groups: Vec<u32> = groups.filter(|other| *other != gid).collect();
        groups.dedup();
        Ok(Account { uid, gid, groups })
    }

    /// The root directory of init, without any right on it.
    fn root(&self) -> Result<OwnedFd> {
        let record = self.record.as_ref().ok_or_else(stopped)?;
        let path = format!("/proc/{}/root", record.init.pid);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path.as_str(), flags, Mode::empty());
        // Looked at after the opening: the directory is that process's.
        match (root, record.init.open()?) {
            (Ok(root), Some(_)) => Ok(root),
            (Err(errno), Some(_)) => Err(Error::call(Code::Process, "open", errno).path(path)),
            (_, None) => Err(stopped()),
        }
    }
}

fn file_lacks(tail: &str) -> Error {
    Error::new(Code::InvalidArgument, tail)
        .hint("names are looked up in the container's own files; a number needs no entry")
}

struct AccountFile {
    file: File,
    path: String,
}

impl AccountFile {
    fn open(root: &OwnedFd, path: &std::ffi::CStr) -> Result<AccountFile> {
        let said = format!("/{}", path.to_string_lossy());
        let refused = |call, errno| Error::call(Code::InvalidArgument, call, errno).path(&said);
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        let within = resolve::IN_ROOT | resolve::NO_MAGICLINKS;
        let file = openat2(root.as_fd(), path, flags, 0, within)
            .map_err(|errno| refused("openat2", errno))?;
        let stat = fstat(&file).map_err(|errno| refused("fstat", errno))?;
        if SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) != SFlag::S_IFREG {
            let tail = "it is not an ordinary file";
            return Err(Error::new(Code::InvalidArgument, tail).path(&said));
        }
        Ok(AccountFile {
            file: file.into(),
            path: said,
        })
    }

    /// Its lines; one that is too long, or no UTF-8, is passed over.
    fn lines(self) -> Result<Vec<String>> {
        let mut reader = BufReader::new(self.file.take(LARGEST));
        let mut lines = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line).map_err(|error| {
                Error::io(Code::InvalidArgument, "read", &error).path(&self.path)
            })?;
            if count == 0 {
                return Ok(lines);
            }
            if let (true, Ok(text)) = (line.len() <= LONGEST, std::str::from_utf8(&line)) {
                lines.push(text.trim_end_matches('\n').to_owned());
            }
        }
    }
}

/// passwd(5): name:password:uid:gid:comment:home:shell
fn user(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = id(fields.nth(1)?)?;
    Some((name, uid, id(fields.next()?)?))
}

/// group(5): name:password:gid:members
fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// Digits alone, and not the -1 that the kernel takes for "leave it".
fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|id| *id != u32::MAX);
    id.filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_both_files_are_read_as_their_manuals_say() {
        assert_eq!(
            user("www:x:33:34:w:/var/www:/bin/sh"),
            Some(("www", 33, 34))
        );
        assert_eq!(user("a::0:0"), Some(("a", 0, 0)));
        assert_eq!(group("adm:x:4:a,b"), Some(("adm", 4, "a,b")));
        assert_eq!(group("adm:x:4"), Some(("adm", 4, "")));
    }

    #[test]
    fn what_is_no_number_is_no_account_and_never_root() {
        for line in [
            "",
            ":",
            "a",
            "a:x",
            "a:x:0",
            ":x:0:0",
            "a:x::0",
            "a:x:0:",
            "a:x:-1:0",
            "a:x:+0:0",
            "a:x: 0:0",
            "a:x:4294967295:0",
            "a:x:4294967296:0",
            "a:x:0x0:0",
            "#a:x:y:0",
        ] {
            assert_eq!(user(line), None, "{line}");
        }
        for line in ["a:x:", "a:x:-1:m", ":x:0:m", "a:x:1e3:m"] {
            assert_eq!(group(line), None, "{line}");
        }
    }

    proptest! {
        /// What is found in a line is what is written in it, digit for digit.
        #[test]
        fn an_account_is_what_its_line_says(
            line in "[a-z0-9:,+\\- ]{0,40}|[a-z]{0,3}:x:[0-9+\\-]{0,11}:[0-9]{0,11}(:.{0,9})?",
        ) {
            let fields: Vec<&str> = line.split(':').collect();
            let written = |id: u32, field: &str| {
                id != u32::MAX && format!("{id:0>width$}", width = field.len()) == field
            };
            if let Some((name, uid, gid)) = user(&line) {
                prop_assert!(name == fields[0] && written(uid, fields[2]) && written(gid, fields[3]));
            }
            if let Some((name, gid, members)) = group(&line) {
                prop_assert!(name == fields[0] && written(gid, fields[2]));
                prop_assert_eq!(members, fields.get(3).copied().unwrap_or_default());
            }
        }
    }
}
