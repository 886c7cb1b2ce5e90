//! The way into the program: its directory, its HOME, its file, its descriptors, execve.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{AccessFlags, chdir, faccessat};

use super::{Child, diagnose};
use crate::report::{Refused, call};
use crate::step::Turn;
use crate::sys::fd::{self, retry};
use crate::sys::process;

/// Linux's limit for an absolute path, the NUL included (path_resolution(7)).
const PATH_BYTES: usize = 4096;
/// A passwd file is read up to here: an image must not keep the runtime busy.
const PASSWD_BYTES: usize = 1 << 20;

impl Child<'_> {
    pub(super) fn change_directory(&mut self, path: &CStr, turn: Turn) -> Result<(), Refused> {
        if self.in_directory {
            return Ok(());
        }
        match (chdir(path), turn) {
            (Ok(()), _) => self.in_directory = true,
            (Err(Errno::EACCES | Errno::EPERM), Turn::AsRoot) => return Ok(()),
            (Err(errno), _) => return Err(Refused::new("chdir", errno)),
        }
        // A directory outside of the root would be the host's (CVE-2024-21626).
        let mut buffer = [0; PATH_BYTES];
        process::getcwd(&mut buffer).map_err(call("getcwd"))?;
        match buffer.first() {
            Some(b'/') => Ok(()),
            _ => Err(Refused::new("getcwd", Errno::ENOENT)
                .noting(b"the working directory is outside of the container's root")),
        }
    }

    /// HOME of `uid`, or "/" when /etc/passwd doesn't say or isn't an ordinary file.
    pub(super) fn home(&self, uid: u32) -> Result<(), Refused> {
        let Some(image) = self.image else {
            return Ok(());
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let Ok(file) = nix::fcntl::open(c"/etc/passwd", flags, Mode::empty()) else {
            return Ok(());
        };
        if super::paths::kind(file.as_fd())?.1 != SFlag::S_IFREG {
            return Ok(());
        }
        let mut lines = Lines::default();
        let mut read = 0;
        let mut part = [0; 4096];
        while read < PASSWD_BYTES {
            let length = match retry(|| nix::unistd::read(&file, &mut part)) {
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            read += length;
            for byte in part.get(..length).unwrap_or_default() {
                if *byte != b'\n' {
                    lines.push(*byte);
                } else if let Some(home) = lines.take().and_then(|line| home_of(line, uid)) {
                    image.set_home(home);
                    return Ok(());
                }
            }
        }
        if let Some(home) = lines.take().and_then(|line| home_of(line, uid)) {
            image.set_home(home);
        }
        Ok(())
    }

    pub(super) fn find_program(&mut self) -> Result<(), Refused> {
        let Some(image) = self.image else {
            return Ok(());
        };
        let mut refused = Refused::new("stat", Errno::ENOENT);
        for (number, path) in image.candidates().enumerate() {
            match executable(path) {
                Ok(()) => {
                    self.found = number;
                    return Ok(());
                }
                Err((name, Errno::ENOTDIR)) if refused.errno == Errno::ENOENT => {
                    refused = Refused::new(name, Errno::ENOTDIR);
                }
                Err((_, Errno::ENOENT | Errno::ENOTDIR)) => {}
                Err((name, errno)) => {
                    refused = Refused::new(name, errno).noting(path.to_bytes());
                    if name == "access" {
                        refused = diagnose::explain_access(refused, path);
                    }
                }
            }
        }
        Err(refused)
    }

    pub(super) fn close_host_fds(&self, preserve: u32) -> Result<(), Refused> {
        let handshake = self.handshake.map(|fifos| [fifos.go, fifos.result]);
        let kept = |least: RawFd| {
            let slots = self.opened.iter().map(|fd| fd.as_raw_fd());
            let ours = slots
                .chain([self.channel])
                .chain(self.sent.iter().copied())
                .chain(handshake.into_iter().flatten());
            ours.filter(|number| *number >= least).min()
        };
        let mut at = 3 + preserve as RawFd;
        while let Some(next) = kept(at) {
            if next > at {
                fd::close_between(at, next - 1).map_err(call("close_range"))?;
            }
            at = next + 1;
        }
        fd::close_from(at).map_err(call("close_range"))
    }

    /// Only stdio, what is to be kept, and what the handshake needs stay open, the latter
    /// right behind the former: nothing of the host is within reach of the program, nor of
    /// a process that may look at this one while it waits for start.
    pub(super) fn close_extra_fds(&mut self, preserve: u32) -> Result<(), Refused> {
        let first = 3 + preserve as RawFd;
        let mut ours = [Some(&mut self.channel), None, None];
        if let Some(handshake) = &mut self.handshake {
            ours = [
                Some(&mut self.channel),
                Some(&mut handshake.go),
                Some(&mut handshake.result),
            ];
        }
        let count = ours.iter().flatten().count() as RawFd;
        // None may lie where another one goes.
        for fd in ours.iter_mut().flatten().filter(|fd| ***fd < first + count) {
            **fd = fd::duplicate_above(**fd, first + count).map_err(call("fcntl"))?;
        }
        for (at, fd) in (first..).zip(ours.into_iter().flatten()) {
            fd::duplicate_to(*fd, at, true).map_err(call("dup3"))?;
            *fd = at;
        }
        fd::close_from(first + count).map_err(call("close_range"))?;
        // They were closed by number: their owners must not close the numbers again.
        std::mem::forget((self.root.take(), self.procfs.take(), self.empty.take()));
        Ok(())
    }

    pub(super) fn execute(&self) -> Result<(), Refused> {
        let Some(image) = self.image else {
            return Err(Refused::new("execve", Errno::ENOENT));
        };
        let path = image.candidates().nth(self.found).unwrap_or(c"");
        let errno = image.execute(path);
        Err(Refused::new("execve", errno).noting(path.to_bytes()))
    }

    /// The refusal of execve(2) with what the program's file shows of its cause.
    pub(super) fn why(&self, refused: Refused) -> Option<Refused> {
        let path = self.image?.candidates().nth(self.found)?;
        Some(diagnose::explain(refused, path))
    }
}

fn executable(path: &CStr) -> Result<(), (&'static str, Errno)> {
    let stat = fstatat(AT_FDCWD, path, AtFlags::empty()).map_err(|errno| ("stat", errno))?;
    if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        return Err(("stat", Errno::EISDIR));
    }
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
        .map_err(|errno| ("access", errno))
}

/// Lines of passwd(5), one at a time in a fixed buffer; one that is too long is passed over.
struct Lines {
    line: [u8; 1024],
    used: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines {
            line: [0; 1024],
            used: 0,
        }
    }
}

impl Lines {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.line.get_mut(self.used) {
            *place = byte;
        }
        self.used += 1;
    }

    fn take(&mut self) -> Option<&[u8]> {
        let used = std::mem::take(&mut self.used);
        self.line.get(..used)
    }
}

/// name:password:uid:gid:comment:home:shell
fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|b| *b == b':');
    let number = std::str::from_utf8(fields.nth(2)?).ok()?;
    if number.parse::<u32>().ok()? != uid {
        return None;
    }
    fields.nth(2).filter(|home| !home.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_sixth_field_of_the_line_of_that_uid() {
        let line = b"www-data:x:33:33:www:/var/www:/usr/sbin/nologin";
        assert_eq!(home_of(line, 33), Some(&b"/var/www"[..]));
        assert_eq!(home_of(line, 34), None);
        assert_eq!(home_of(b"a:x:33:33:www", 33), None);
        assert_eq!(home_of(b"a:x:33:33::", 33), None);
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let mut lines = Lines::default();
        (0..5000).for_each(|_| lines.push(b'x'));
        assert_eq!(lines.take(), None);
        b"a:b".iter().for_each(|b| lines.push(*b));
        assert_eq!(lines.take(), Some(&b"a:b"[..]));
    }
}
