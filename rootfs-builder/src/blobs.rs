//! The files of an image on disk, by name: a directory, or a tar of it that is
//! read in place. Nothing of it is unpacked under a name that the image chose.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::compression::{Compression, plain};
use crate::errno::{At, shown};
use crate::inner::InnerPath;
use crate::links::Links;
use crate::member::{Kind, Members};

/// The JSON files of an image are at most this long (as registries limit them).
const MAX_JSON: u64 = 4 * 1024 * 1024;

/// See the module.
pub(crate) enum Blobs {
    Directory(OwnedFd),
    Archive { file: Rc<File>, index: Index },
}

/// Where each file of an archive begins, and its length.
#[derive(Default)]
pub(crate) struct Index {
    files: HashMap<InnerPath, (u64, u64)>,
    /// `docker save` writes a layer that two images share as a link.
    links: Links,
}

/// One file, readable from its start as often as needed.
#[derive(Clone)]
pub(crate) struct Blob {
    file: Rc<File>,
    start: u64,
    length: u64,
}

impl Blobs {
    /// # Errors
    /// The path is neither a directory nor a tar archive.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).at(path)?;
        let stat = rustix::fs::fstat(&fd).at(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Self::Directory(fd)),
            FileType::RegularFile => archive(File::from(fd)).with_context(|| shown(path)),
            _ => bail!("{}: neither a directory nor a file", shown(path)),
        }
    }

    /// The file of that name; `None` if there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>> {
        let inner = InnerPath::parse(name)?;
        match self {
            Self::Directory(directory) => in_directory(directory, &inner),
            Self::Archive { file, index } => {
                let place = index.files.get(&index.links.resolve(&inner)?);
                Ok(place.map(|&(start, length)| Blob {
                    file: Rc::clone(file),
                    start,
                    length,
                }))
            }
        }
    }

    /// As `get`; the file must be there.
    pub(crate) fn need(&self, name: &str) -> Result<Blob> {
        self.get(name)?.ok_or(Errno::NOENT).at(name)
    }
}

impl Blob {
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn reader(&self) -> impl Read + use<> {
        let section = Section {
            file: Rc::clone(&self.file),
            at: self.start,
        };
        BufReader::with_capacity(64 * 1024, section.take(self.length))
    }

    /// The whole of a JSON file.
    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        if self.length > MAX_JSON {
            bail!("{} bytes of JSON, more than {MAX_JSON}", self.length);
        }
        let mut bytes = Vec::new();
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn in_directory(directory: &OwnedFd, name: &InnerPath) -> Result<Option<Blob>> {
    let shown = name.as_path();
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(directory, name.as_path(), flags, Mode::empty(), resolve);
    let fd = match opened {
        Err(Errno::NOENT) => return Ok(None),
        other => other.at(shown)?,
    };
    let stat = rustix::fs::fstat(&fd).at(shown)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        bail!("{}: not a regular file", shown.display());
    }
    Ok(Some(Blob {
        file: Rc::new(File::from(fd)),
        start: 0,
        length: u64::try_from(stat.st_size)?,
    }))
}

/// A file from some place on, without its shared position.
struct Section {
    file: Rc<File>,
    at: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(into, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Indexes an archive; a compressed one is first unpacked to a nameless file.
fn archive(mut file: File) -> Result<Blobs> {
    let (compression, mut reader) = plain(&file)?;
    if compression != Compression::None {
        let mut unpacked = tempfile::tempfile().context("a temporary file")?;
        io::copy(&mut reader, &mut unpacked)?;
        drop(reader);
        file = unpacked;
    } else {
        drop(reader);
    }
    file.rewind()?;
    let index = index(&file)?;
    Ok(Blobs::Archive {
        file: Rc::new(file),
        index,
    })
}

fn index(file: &File) -> Result<Index> {
    let mut index = Index::default();
    let mut hard_links = Vec::new();
    let mut members = Members::new(BufReader::new(file));
    while let Some(member) = members.next()? {
        let path = InnerPath::parse(&member.name)?;
        match member.kind {
            Kind::File => {
                let place = (members.position(), members.size());
                index.files.insert(path, place);
            }
            Kind::Symlink(text) => index.links.insert(path, text),
            Kind::HardLink(existing) => hard_links.push((path, InnerPath::parse(existing)?)),
            _ => {}
        }
    }
    for (path, existing) in hard_links {
        let place = index.files.get(&existing).copied();
        let place = place.ok_or_else(|| anyhow!("{}: a hard link to nothing", path.shown()))?;
        index.files.insert(path, place);
    }
    Ok(index)
}
