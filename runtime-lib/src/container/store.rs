//! The state directory of one container: who holds it, and the files in it.
//!
//! `journal.json` is written before the first side effect and says what may have to be taken
//! back; `state.json` is written when the container exists; `config.json` is the frozen copy
//! that exec works from; `go` and `result` are the fifos of start. Files are replaced by
//! rename, so that readers need no lock.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkfifoat, unlinkat};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::id::ContainerId;
use super::lock;
use super::occupants;
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error, Result};
use crate::overlay;
use crate::plan::IdMaps;
use crate::report::Refused;
use crate::sys::fd::{try_lock, unlock};
use crate::tree;

/// The version of what is in the state files. A field that is added gets a default for files
/// that lack it, and the version stays; it goes up when the meaning of a field changes, and
/// then what reads it tells the versions apart. Containers of older versions stay manageable.
pub const SCHEMA: u32 = 1;

pub const JOURNAL: &str = "journal.json";
pub const STATE: &str = "state.json";
pub const CONFIG: &str = "config.json";
pub const GO: &str = "go";
pub const RESULT: &str = "result";
/// The mounts that were added to the running container.
pub const MOUNTS: &str = "mounts.json";
/// The directory of what an overlay root has written.
pub const OVERLAY: &str = "overlay";

/// What most of our files fit into with one read.
const USUAL: usize = 4096;

/// No file of ours is larger: what is, was not written by capsid.
const LARGEST: u64 = 32 << 20;

/// An open state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    directory: OwnedFd,
    remove: bool,
    ids: Option<IdMaps>,
}

/// What [`StateDir::open`] takes hold of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: state and list read files that are replaced whole.
    Nothing,
    /// The lock that create, start, delete, pause and resume take one after the other.
    Lock,
    /// The lock, or the error that says that the container exists.
    LockIfFree,
}

impl StateDir {
    /// Makes the directory of a new container, locked. Dropped before [`StateDir::keep`], it goes
    /// away with all that is in it.
    pub fn claim(root: &Path, id: &ContainerId) -> Result<StateDir> {
        let path = root.join(id.as_str());
        let make = || mkdirat(nix::fcntl::AT_FDCWD, &path, Mode::from_bits_truncate(0o711));
        let made = match make() {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                make_root(root)?;
                make()
            }
            made => made,
        };
        let found = match made {
            Ok(()) => false,
            Err(Errno::EEXIST) => true,
            Err(errno) => return Err(Error::call(Code::Io, "mkdir", errno).path(&path)),
        };
        StateDir::take(root, id, found).inspect_err(|error| {
            if !found && error.code() == Code::Io {
                // Made in vain; whoever has put something into it meanwhile keeps it.
                let _ = unlinkat(nix::fcntl::AT_FDCWD, &path, UnlinkatFlags::RemoveDir);
            }
        })
    }

    /// Locks a directory that belongs to no container, and empties one that was found.
    fn take(root: &Path, id: &ContainerId, found: bool) -> Result<StateDir> {
        let mut state_dir = match StateDir::open(root, id, Hold::LockIfFree) {
            // A delete --force came between: its view, that nothing is here, stands.
            Err(error) if error.code() == Code::NotFound => return Err(exists()),
            result => result?,
        };
        if state_dir.has(JOURNAL)? {
            return Err(exists());
        }
        if found {
            state_dir.check_owner()?;
            // Nobody's: a create that was killed before its journal, or a delete after it.
            state_dir.sweep()?;
        }
        state_dir.remove = true;
        Ok(state_dir)
    }

    /// Refuses a directory that is another's, or into which others may write: what its files say is
    /// done with the rights of the caller.
    fn check_owner(&self) -> Result<()> {
        let stat = fstat(self.directory.as_fd())
            .map_err(|errno| Error::call(Code::Io, "fstat", errno).path(&self.path))?;
        match stat.st_uid == nix::unistd::geteuid().as_raw() && stat.st_mode & 0o022 == 0 {
            true => Ok(()),
            false => Err(taken().path(&self.path).hint(
                "others own this directory or may write into it: remove it, or name another --root",
            )),
        }
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// [`Code::NotFound`], `container does not exist`.
    pub fn open(root: &Path, id: &ContainerId, hold: Hold) -> Result<StateDir> {
        let path = root.join(id.as_str());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let directory = match nix::fcntl::open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Err(missing()),
            Err(errno) => return Err(Error::call(Code::Io, "open", errno).path(&path)),
        };
        let state_dir = StateDir {
            path,
            directory,
            remove: false,
            ids: None,
        };
        match hold {
            Hold::Nothing => {}
            Hold::Lock => state_dir.lock()?,
            Hold::LockIfFree => match try_lock(state_dir.directory.as_fd()) {
                Err(Errno::EWOULDBLOCK) => return Err(exists()),
                Err(errno) => {
                    return Err(Error::call(Code::Io, "flock", errno).path(&state_dir.path));
                }
                Ok(()) => state_dir.is_linked()?,
            },
        }
        Ok(state_dir)
    }

    /// Takes the lock; see [`lock::take`].
    ///
    /// # Errors
    /// [`Code::NotFound`], `container does not exist`: it was removed meanwhile.
    pub fn lock(&self) -> Result<()> {
        self.lock_linked()?;
        self.is_linked()
    }

    /// The same, to remove a container that has not come to be: whom its create has left in these cgroups is in
    /// nobody's way.
    pub fn lock_to_remove(&self, left_in: Option<&CgroupPlan>) -> Result<()> {
        lock::take(self.directory.as_fd(), &self.path, left_in)?;
        self.is_linked()
    }

    /// The same, without a look whether it was removed: for whoever looks for one of its files.
    pub fn lock_linked(&self) -> Result<()> {
        lock::take(self.directory.as_fd(), &self.path, None)
    }

    fn is_linked(&self) -> Result<()> {
        let stat = fstat(self.directory.as_fd())
            .map_err(|errno| Error::call(Code::Io, "fstat", errno).path(&self.path))?;
        match stat.st_nlink {
            0 => Err(missing()),
            _ => Ok(()),
        }
    }

    /// Lets others have the lock.
    pub fn unlock(&self) -> Result<()> {
        unlock(self.directory.as_fd())
            .map_err(|errno| Error::call(Code::Io, "flock", errno).path(&self.path))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that some of what is in the directory belongs to other ids than the caller's.
    pub fn belongs_to(&mut self, ids: Option<IdMaps>) {
        self.ids = ids;
    }

    /// The container exists: the directory stays, and others may have the lock. It goes away where
    /// the lock can't be given back.
    pub fn keep(mut self) -> Result<StateDir> {
        self.unlock()?;
        self.remove = false;
        Ok(self)
    }

    /// Removes the directory and what is in it.
    pub fn remove(mut self) -> Result<()> {
        self.remove = false;
        self.clear()
    }

    fn clear(&self) -> Result<()> {
        if let Some(ids) = &self.ids {
            // While the journal still says whose it is.
            let name = CString::new(OVERLAY).unwrap_or_default();
            match tree::remove(self.directory.as_fd(), &name) {
                Ok(()) => {}
                Err(refused) if refused.errno == Errno::ENOTEMPTY => {
                    return Err(self.not_emptied(&refused));
                }
                Err(_) => overlay::remove(&self.path, &name, ids)?,
            }
        }
        // The journal is the first of the files: without it there is no container, so that
        // whoever is killed from here on leaves a directory that the next create takes over.
        for name in [JOURNAL, STATE, CONFIG] {
            self.unlink(name)?;
        }
        // What `run` has made is empty by now.
        if self.remove_directory().is_ok() {
            return Ok(());
        }
        for name in [GO, RESULT, MOUNTS] {
            self.unlink(name)?;
        }
        match self.remove_directory() {
            // What an overlay wrote, or a write that was cut short.
            Err(_) => {
                self.sweep()?;
                self.remove_directory()
                    .map_err(|errno| Error::call(Code::Io, "rmdir", errno).path(&self.path))
            }
            Ok(()) => Ok(()),
        }
    }

    fn remove_directory(&self) -> nix::Result<()> {
        match unlinkat(nix::fcntl::AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            removed => removed,
        }
    }

    /// Empties the directory.
    fn sweep(&self) -> Result<()> {
        tree::empty(self.directory.as_fd()).map_err(|refused| self.not_emptied(&refused))
    }

    fn not_emptied(&self, refused: &Refused) -> Error {
        let error = Error::call(Code::Io, refused.call, refused.errno).path(&self.path);
        if !refused.has_note() {
            return error;
        }
        error.hint(match occupants::first_in(&self.path) {
            Some(process) => format!("{}; process {process} is in it", refused.note()),
            None => refused.note(),
        })
    }

    /// Replaces a file whole.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.stage(name, bytes)?;
        self.publish(name)
    }

    /// Writes what [`StateDir::publish`] then puts into the file's place.
    pub fn stage(&self, name: &str, bytes: &[u8]) -> Result<File> {
        self.write_to(&format!(".{name}.new"), name, bytes)
    }

    /// Writes a file in its place, of a container that nobody knows of yet.
    pub fn write_first(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_to(name, name, bytes).map(drop)
    }

    fn write_to(&self, new: &str, name: &str, bytes: &[u8]) -> Result<File> {
        let refused = |call, errno| Error::call(Code::Io, call, errno).path(self.path.join(name));
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        let make = || openat(self.directory.as_fd(), new, flags, mode);
        let made = match make() {
            // Of a write that was cut short, or anything else: a fifo would wait for its reader.
            Err(Errno::EEXIST) => {
                unlinkat(self.directory.as_fd(), new, UnlinkatFlags::NoRemoveDir)
                    .map_err(|errno| refused("unlink", errno))?;
                make()
            }
            made => made,
        };
        let file = made.map_err(|errno| refused("open", errno))?;
        let mut file = File::from(file);
        let written = file
            .write_all(bytes)
            .map_err(|error| Error::io(Code::Io, "write", &error).path(self.path.join(name)));
        if written.is_err() {
            // It would keep the space that was lacking.
            let _ = unlinkat(self.directory.as_fd(), new, UnlinkatFlags::NoRemoveDir);
        }
        written.map(|()| file)
    }

    /// See [`StateDir::stage`].
    pub fn publish(&self, name: &str) -> Result<()> {
        let new = format!(".{name}.new");
        let refused = |call, errno| Error::call(Code::Io, call, errno).path(self.path.join(name));
        let directory = self.directory.as_fd();
        renameat(directory, new.as_str(), directory, name).map_err(|errno| refused("rename", errno))
    }

    /// Replaces a file whole by the JSON of `value`. As long as what is returned has a name, nobody
    /// has replaced or removed it.
    pub fn record<T: Serialize>(&self, name: &str, value: &T) -> Result<File> {
        let file = self.stage_record(name, value)?;
        self.publish(name)?;
        Ok(file)
    }

    /// The same as [`StateDir::stage`].
    pub fn stage_record<T: Serialize>(&self, name: &str, value: &T) -> Result<File> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::new(Code::Io, error.to_string()).path(self.path.join(name)))?;
        self.stage(name, &bytes)
    }

    /// The bytes of a file; None when there is none.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let refused = |call, errno| Error::call(Code::Io, call, errno).path(self.path.join(name));
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match openat(self.directory.as_fd(), name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(refused("open", errno)),
        };
        let mut bytes = Vec::with_capacity(USUAL);
        File::from(file)
            .take(LARGEST)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(Code::Io, "read", &error).path(self.path.join(name)))?;
        Ok(Some(bytes))
    }

    /// The value that a file holds; None when there is no file.
    ///
    /// # Errors
    /// [`Code::StateCorrupt`], naming the file.
    pub fn load<T: DeserializeOwned + Versioned>(&self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(name)? else {
            return Ok(None);
        };
        let corrupt = |why: String| {
            Error::new(Code::StateCorrupt, why)
                .doing(format!("read {}", self.path.join(name).display()))
                .hint("delete --force removes the container")
        };
        let value: T =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        match value.schema() {
            1..=SCHEMA => Ok(Some(value)),
            other => Err(corrupt(format!(
                "state file has schema {other}, and this capsid knows {SCHEMA}"
            ))),
        }
    }

    /// Whether a file is there.
    pub fn has(&self, name: &str) -> Result<bool> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match nix::sys::stat::fstatat(self.directory.as_fd(), name, flags) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Error::call(Code::Io, "stat", errno).path(self.path.join(name))),
        }
    }

    /// Makes a fifo and opens it.
    pub fn make_fifo(&self, name: &str, flags: OFlag) -> Result<OwnedFd> {
        let mode = Mode::from_bits_truncate(0o600);
        mkfifoat(self.directory.as_fd(), name, mode)
            .map_err(|errno| Error::call(Code::Io, "mkfifo", errno).path(self.path.join(name)))?;
        self.open_fifo(name, flags)
            .map_err(|errno| Error::call(Code::Io, "open", errno).path(self.path.join(name)))
    }

    /// Opens a fifo.
    pub fn open_fifo(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        openat(self.directory.as_fd(), name, flags, Mode::empty())
    }

    /// Removes a file; one that is not there is as good, and a directory in its place goes with
    /// ours.
    pub fn unlink(&self, name: &str) -> Result<()> {
        match unlinkat(self.directory.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => Ok(()),
            Err(errno) => Err(Error::call(Code::Io, "unlink", errno).path(self.path.join(name))),
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.remove {
            // The error that led here is the one to report; delete --force finishes the rest.
            let _ = self.clear();
        }
    }
}

/// What every state file says of itself.
pub trait Versioned {
    fn schema(&self) -> u32;
}

/// The state root, 01700 and made when it is missing; sticky, so that no cleaner of $XDG_RUNTIME_DIR or
/// /tmp takes it for forgotten (XDG Base Directory Specification, tmpfiles.d(5)).
fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o1700)
        .create(root)
        .map_err(|error| {
            Error::io(Code::Io, "mkdir", &error)
                .path(root)
                .hint("see --root")
        })
}

/// Whether a file could not be read, now or by this caller, which says nothing about what is in it.
pub fn is_unread(error: &Error) -> bool {
    let refused = [Errno::EIO, Errno::EACCES, Errno::EPERM];
    is_scarce(error) || error.os_error().is_some_and(|it| refused.contains(&it))
}

/// Whether this process lacked something that it may have again.
pub fn is_scarce(error: &Error) -> bool {
    let lacks = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN];
    error.os_error().is_some_and(|it| lacks.contains(&it))
}

/// runc's words for a container that is not there.
pub fn missing() -> Error {
    Error::new(Code::NotFound, "container does not exist")
        .hint("capsid list shows those of this --root")
}

fn taken() -> Error {
    Error::new(Code::Exists, "container with given ID already exists")
}

fn exists() -> Error {
    taken().hint("capsid delete --force ends and removes it, or take another id")
}
