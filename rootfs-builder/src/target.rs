//! The directory that a root filesystem is written into, and every call that
//! writes there.
//!
//! It must never write outside. Each path is opened from the directory's
//! descriptor by openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and
//! RESOLVE_NO_XDEV, so the kernel refuses what the types did not catch, and the
//! last name is only ever created (never opened through) by a call that does
//! not follow links.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::entry::{Attributes, Entry, Special};
use crate::errno::At;
use crate::inner::InnerPath;
use crate::notice::{Loss, Notices};

/// overlayfs's whiteout (filesystems/overlayfs.rst, "whiteouts and opaque
/// directories"). Since Linux 5.8 anyone may make it. None comes out of an
/// archive, so where there is one it is a whiteout of this build.
pub(crate) const WHITEOUT_DEVICE: Special = Special::Char(0);

/// The marks of an opaque directory, for mounts of root and, with `userxattr`,
/// of others. Root sets both: an ordinary user may mount what root built.
const OPAQUE: &[&str] = &["trusted.overlay.opaque", "user.overlay.opaque"];

/// See the module.
pub(crate) struct Target {
    root: OwnedFd,
    path: PathBuf,
    /// Attributes of directories, set by `finish`: until then a directory must
    /// be writable, and writing into it would change its time.
    directories: BTreeMap<InnerPath, Attributes>,
    /// Directories that hide those of the layers below.
    opaque: BTreeSet<InnerPath>,
    pub(crate) notices: Notices,
}

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// The mode of a directory that is still written into.
const OPEN_MODE: Mode = Mode::RWXU;

impl Target {
    /// Makes the directory, or takes an empty one.
    ///
    /// # Errors
    /// It is not empty, is no directory, is a symbolic link, or cannot be made.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        match rustix::fs::mkdirat(CWD, path, OPEN_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at(path),
        }
        let mut target = Self::existing(path)?;
        if !target.names(&InnerPath::root())?.is_empty() {
            return Err(Errno::NOTEMPTY).at(path);
        }
        target
            .directories
            .insert(InnerPath::root(), Attributes::mode(0o755));
        Ok(target)
    }

    /// Takes a directory as it is.
    ///
    /// # Errors
    /// It is no directory, or a symbolic link.
    pub(crate) fn existing(path: &Path) -> Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty()).at(path)?;
        Ok(Self {
            root,
            path: path.to_path_buf(),
            directories: BTreeMap::new(),
            opaque: BTreeSet::new(),
            notices: Notices::default(),
        })
    }

    /// Where it lies on the host, for messages.
    pub(crate) fn host_path(&self, path: &InnerPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    /// Opens what lies there for reading; never through a symbolic link.
    pub(crate) fn open(&self, path: &InnerPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat2(&self.root, path.as_path(), flags, Mode::empty(), RESOLVE)
    }

    /// What lies there; the link itself if it is one.
    pub(crate) fn stat(&self, path: &InnerPath) -> Result<Stat, Errno> {
        rustix::fs::fstat(self.open(path, OFlags::PATH)?)
    }

    pub(crate) fn is_whiteout(&self, path: &InnerPath) -> bool {
        self.stat(path).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
        })
    }

    /// Whether what lies at a path that is not here would not show from a layer
    /// below: a directory above it is opaque, or is none here.
    pub(crate) fn hides(&self, path: &InnerPath) -> bool {
        let above = path.ancestors().skip(1);
        above.into_iter().any(|above| self.opaque.contains(&above))
            || matches!(self.stat(path), Err(Errno::NOTDIR | Errno::LOOP))
    }

    /// What `finish` will give a directory.
    pub(crate) fn attributes_of(&self, path: &InnerPath) -> Option<&Attributes> {
        self.directories.get(path)
    }

    /// What lies there, to be copied.
    pub(crate) fn entry(&self, path: &InnerPath) -> Result<Entry> {
        let shown = self.host_path(path);
        // Only a regular file is opened for reading: to open a device does something.
        let place = self.open(path, OFlags::PATH).at(&shown)?;
        Entry::read(&place, || self.open(path, OFlags::empty())).at(&shown)
    }

    /// The names in a directory.
    pub(crate) fn names(&self, path: &InnerPath) -> Result<Vec<OsString>> {
        let shown = self.host_path(path);
        let directory = self.open(path, OFlags::DIRECTORY).at(&shown)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).at(&shown)? {
            let name = entry.at(&shown)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(std::os::unix::ffi::OsStringExt::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Makes a directory, or gives the one that is there these attributes.
    pub(crate) fn directory(&mut self, path: &InnerPath, attributes: Attributes) -> Result<()> {
        if !path.is_root() && !self.is_directory(path) {
            let (parent, name) = self.place(path)?;
            rustix::fs::mkdirat(&parent, name, OPEN_MODE).at(self.host_path(path))?;
        }
        self.directories.insert(path.clone(), attributes);
        Ok(())
    }

    /// Makes a directory and those above it that are missing, all 0755.
    pub(crate) fn directories(&mut self, path: &InnerPath) -> Result<()> {
        for missing in self.missing(path) {
            self.directory(&missing, Attributes::mode(0o755))?;
        }
        Ok(())
    }

    /// The directory and those above it that are not there, the topmost first.
    pub(crate) fn missing(&self, path: &InnerPath) -> Vec<InnerPath> {
        let absent = path.ancestors().take_while(|path| !self.is_directory(path));
        let mut absent: Vec<InnerPath> = absent.collect();
        absent.reverse();
        absent
    }

    pub(crate) fn is_directory(&self, path: &InnerPath) -> bool {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok()
    }

    /// Writes a regular file, in place of what was there.
    pub(crate) fn file(
        &mut self,
        path: &InnerPath,
        content: &mut impl Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = self.host_path(path);
        let (parent, name) = self.place(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&parent, name, flags, mode).at(&shown)?);
        io::copy(content, &mut file).at(&shown)?;
        self.adorn(file.as_fd(), path, attributes)
    }

    /// Makes a symbolic link, in place of what was there. Its text is free: no
    /// call of this type follows it.
    pub(crate) fn symlink(
        &mut self,
        path: &InnerPath,
        text: &OsStr,
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = self.host_path(path);
        let (parent, name) = self.place(path)?;
        rustix::fs::symlinkat(text, &parent, name).at(&shown)?;
        self.own(&parent, name, path, attributes)?;
        self.date(&parent, name, attributes).at(&shown)
    }

    /// Makes `path` another name of the file `existing`.
    pub(crate) fn hard_link(&mut self, path: &InnerPath, existing: &InnerPath) -> Result<()> {
        let shown = self.host_path(path);
        let Some((directory, old_name)) = existing.split() else {
            bail!("{}: a hard link to a directory", shown.display());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = self.open(&directory, flags).at(self.host_path(existing))?;
        let (parent, name) = self.place(path)?;
        // Without AT_SYMLINK_FOLLOW a link is linked, not what it points at.
        rustix::fs::linkat(&directory, old_name, &parent, name, AtFlags::empty()).at(&shown)
    }

    /// Makes a device or a fifo, in place of what was there. A device that the
    /// caller may not make is left out with a notice.
    pub(crate) fn special(
        &mut self,
        path: &InnerPath,
        kind: Special,
        attributes: &Attributes,
    ) -> Result<()> {
        let shown = self.host_path(path);
        let (parent, name) = self.place(path)?;
        let (file_type, device) = match kind {
            Special::Fifo => (FileType::Fifo, 0),
            Special::Char(device) => (FileType::CharacterDevice, device),
            Special::Block(device) => (FileType::BlockDevice, device),
        };
        let made = rustix::fs::mknodat(&parent, name, file_type, Mode::empty(), device);
        if made == Err(Errno::PERM) && kind != Special::Fifo {
            self.notices.add(Loss::Device, path);
            return Ok(());
        }
        made.at(&shown)?;
        self.own(&parent, name, path, attributes)?;
        let mode = Mode::from_raw_mode(attributes.mode);
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).at(&shown)?;
        self.date(&parent, name, attributes).at(&shown)
    }

    /// Makes overlayfs's whiteout, in place of what was there.
    pub(crate) fn white_out(&mut self, path: &InnerPath) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let kind = FileType::CharacterDevice;
        let made = rustix::fs::mknodat(&parent, name, kind, Mode::empty(), 0);
        made.at(self.host_path(path))
    }

    /// Marks a directory as one that hides those of the layers below.
    ///
    /// # Errors
    /// The file system takes none of the marks.
    pub(crate) fn set_opaque(&mut self, path: &InnerPath) -> Result<()> {
        let shown = self.host_path(path);
        let directory = self.open(path, OFlags::DIRECTORY).at(&shown)?;
        let mut marked = Err(Errno::OPNOTSUPP);
        for name in OPAQUE {
            let set = rustix::fs::fsetxattr(&directory, *name, b"y", XattrFlags::empty());
            marked = marked.or(set);
        }
        marked.at(&shown)?;
        self.opaque.insert(path.clone());
        Ok(())
    }

    /// Removes what lies there with all below it; nothing there is fine.
    pub(crate) fn remove(&mut self, path: &InnerPath) -> Result<()> {
        // Not recursive, and no descriptor is held per level: an archive may
        // nest directories as deep as a path is long.
        let mut left = vec![path.clone()];
        while let Some(path) = left.last().cloned() {
            let shown = self.host_path(&path);
            let Some((directory, name)) = path.split() else {
                bail!("{}: the root filesystem itself", shown.display());
            };
            let directory = match self.open(&directory, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => return Ok(()),
                other => other.at(&shown)?,
            };
            let gone = match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => rustix::fs::unlinkat(&directory, name, AtFlags::REMOVEDIR),
                other => other,
            };
            match gone {
                Ok(()) | Err(Errno::NOENT) => {
                    self.directories.remove(&path);
                    self.opaque.remove(&path);
                    left.pop();
                }
                Err(Errno::NOTEMPTY) => {
                    let names = self.names(&path)?;
                    left.extend(names.iter().map(|name| path.child(name)));
                }
                Err(errno) => return Err(errno).at(&shown),
            }
        }
        Ok(())
    }

    /// Sets the attributes of the directories, the deepest first, and ends the
    /// writing.
    ///
    /// # Errors
    /// As `adorn`.
    pub(crate) fn finish(mut self) -> Result<Notices> {
        for (path, attributes) in std::mem::take(&mut self.directories).iter().rev() {
            let directory = self
                .open(path, OFlags::DIRECTORY)
                .at(self.host_path(path))?;
            self.adorn(directory.as_fd(), path, attributes)?;
        }
        Ok(self.notices)
    }

    /// The open parent and the name of a path whose last name is free, or is
    /// made so.
    fn place<'a>(&mut self, path: &'a InnerPath) -> Result<(OwnedFd, &'a OsStr)> {
        let shown = self.host_path(path);
        let Some((directory, name)) = path.split() else {
            bail!("{}: the root filesystem itself", shown.display());
        };
        let parent = self
            .open(&directory, OFlags::PATH | OFlags::DIRECTORY)
            .at(&shown)?;
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).at(&shown),
            Ok(_) => self.remove(path)?,
        }
        Ok((parent, name))
    }

    /// Owner first (it clears setuid and file capabilities), the mode after the
    /// attributes (an ordinary user sets those only where it may write), time last.
    fn adorn(&mut self, file: BorrowedFd<'_>, path: &InnerPath, with: &Attributes) -> Result<()> {
        let shown = self.host_path(path);
        if let Some((uid, gid)) = with.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            self.chowned(rustix::fs::fchown(file, Some(uid), Some(gid)), path)?;
        }
        for (name, value) in &with.xattrs {
            match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
                    self.notices.add(Loss::Attribute, path);
                }
                other => other.at(&shown)?,
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(with.mode)).at(&shown)?;
        if let Some(times) = with.times() {
            rustix::fs::futimens(file, &times).at(&shown)?;
        }
        Ok(())
    }

    fn own(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &InnerPath,
        with: &Attributes,
    ) -> Result<()> {
        for _ in &with.xattrs {
            // Links and nodes take no user attributes, and fsetxattr no O_PATH.
            self.notices.add(Loss::Attribute, path);
        }
        let Some((uid, gid)) = with.owner else {
            return Ok(());
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.chowned(
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags),
            path,
        )
    }

    /// EPERM: not privileged. EINVAL: the id has no mapping in this user namespace.
    fn chowned(&mut self, result: Result<(), Errno>, path: &InnerPath) -> Result<()> {
        match result {
            Err(Errno::PERM | Errno::INVAL) => {
                self.notices.add(Loss::Owner, path);
                Ok(())
            }
            other => other.at(self.host_path(path)),
        }
    }

    fn date(&self, parent: &OwnedFd, name: &OsStr, with: &Attributes) -> Result<(), Errno> {
        match with.times() {
            Some(times) => rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW),
            None => Ok(()),
        }
    }
}
