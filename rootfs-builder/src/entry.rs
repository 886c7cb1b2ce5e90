//! What a directory holds under a name: its kind, its content, and what it
//! carries besides. Reading it changes nothing.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{Dev, FileType, Timespec, Timestamps};
use rustix::io::Errno;

/// What a file carries besides its name and content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub(crate) mode: u32,
    /// uid and gid; `None` leaves the caller's.
    pub(crate) owner: Option<(u32, u32)>,
    /// Seconds since 1970; `None` leaves the time of writing.
    pub(crate) mtime: Option<i64>,
    /// Names with their namespace (`user.x`), and values.
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// A file that is neither a regular file, a directory nor a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Fifo,
    Char(Dev),
    Block(Dev),
}

/// A name's kind with what is read from it.
pub(crate) enum Content {
    File(File),
    Directory,
    Symlink(OsString),
    Special(Special),
    Socket,
}

/// See the module.
pub(crate) struct Entry {
    pub(crate) content: Content,
    pub(crate) attributes: Attributes,
}

impl Attributes {
    /// Only permission bits: for files that are not out of an archive.
    pub(crate) fn mode(mode: u32) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// For utimensat(2): the time of access becomes the same.
    pub(crate) fn times(&self) -> Option<Timestamps> {
        let time = Timespec {
            tv_sec: self.mtime?,
            tv_nsec: 0,
        };
        Some(Timestamps {
            last_access: time,
            last_modification: time,
        })
    }
}

impl Entry {
    /// `place` is an O_PATH descriptor; `open` opens the same for reading and is
    /// called for a regular file only.
    pub(crate) fn read(
        place: &OwnedFd,
        open: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(place)?;
        let mut attributes = Attributes {
            mode: stat.st_mode & 0o7777,
            owner: Some((stat.st_uid, stat.st_gid)),
            mtime: Some(stat.st_mtime),
            xattrs: Vec::new(),
        };
        let content = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Content::Directory,
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(place, "", Vec::new())?;
                Content::Symlink(OsString::from_vec(text.into_bytes()))
            }
            FileType::Fifo => Content::Special(Special::Fifo),
            FileType::CharacterDevice => Content::Special(Special::Char(stat.st_rdev)),
            FileType::BlockDevice => Content::Special(Special::Block(stat.st_rdev)),
            FileType::Socket | FileType::Unknown => Content::Socket,
            FileType::RegularFile => {
                let file = File::from(open()?);
                attributes.xattrs = xattrs(&file)?;
                Content::File(file)
            }
        };
        Ok(Self {
            content,
            attributes,
        })
    }
}

/// Every extended attribute that may be read.
fn xattrs(file: &File) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let mut names = vec![0; rustix::fs::flistxattr_query(file)?];
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let length = rustix::fs::flistxattr(file, &mut names[..])?;
    names.truncate(length);
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; rustix::fs::fgetxattr_query(file, name)?];
            if !value.is_empty() {
                let length = rustix::fs::fgetxattr(file, name, &mut value[..])?;
                value.truncate(length);
            }
            Ok((OsStr::from_bytes(name).to_os_string(), value))
        })
        .collect()
}
