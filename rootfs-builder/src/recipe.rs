//! What to build, and the building of it: a bundle or only a root filesystem.
//! Either all of it is there in the end, or nothing is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use serde_json::Value;

use crate::blobs::Blobs;
use crate::compression::plain;
use crate::config::config;
use crate::entry::Attributes;
use crate::errno::{At, shown};
use crate::image::{Image, Process};
use crate::inner::InnerPath;
use crate::layer::Unpacker;
use crate::notice::Notices;
use crate::settings::Settings;
use crate::stack::{Layout, Stack};
use crate::target::Target;
use crate::{busybox, host, skeleton};

/// Where the files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A static busybox of the host, or of Debian's package.
    Busybox,
    /// Programs of the host, by name or path, with the libraries they need;
    /// none means the usual ones that the host has.
    Host(Vec<String>),
    /// A tar archive of a root filesystem, plain or compressed with gzip or zstd.
    Tar(PathBuf),
    /// An image: an OCI image layout, or a tar of one, or what `docker save` writes.
    Oci {
        /// The layout's directory, or the archive.
        layout: PathBuf,
        /// The image's name in the index, or its tag; needed among several.
        reference: Option<String>,
    },
}

/// A file of the host that is put into the root filesystem besides the source's.
#[derive(Clone, Debug)]
pub struct Addition {
    /// The file on the host. Its permission bits are kept, without setuid.
    pub file: PathBuf,
    /// Its path in the root filesystem.
    pub path: PathBuf,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Where the files come from.
    pub source: Source,
    /// One root filesystem, or its layers.
    pub layout: Layout,
    /// Files that come on top.
    pub additions: Vec<Addition>,
    /// For the configuration of a bundle.
    pub settings: Settings,
}

impl Recipe {
    /// The source merged into one root filesystem, with the default settings.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            source,
            layout: Layout::default(),
            additions: Vec::new(),
            settings: Settings::default(),
        }
    }

    /// Makes `directory` a bundle: `config.json`, and `rootfs`. With
    /// `Layout::Layers` `rootfs` is empty, the layers are `layers/0` and up,
    /// and `layers.json` names them, the lowest first.
    ///
    /// # Errors
    /// One line that names the file and the reason. `directory` holds a bundle
    /// already, or a source cannot be read; what was written is removed again.
    pub fn bundle(&self, directory: &Path) -> Result<Notices> {
        let mut made = Made::default();
        if made.directories(directory)? && self.source.is_image() {
            // An image may hold setuid programs, and they belong to root when
            // root unpacks it: other users of the host must not reach them.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).at(directory)?;
        }
        let rootfs = made.fresh(directory.join("rootfs"))?;
        let config_file = made.fresh(directory.join("config.json"))?;
        let filled = match self.layout {
            Layout::Merged => self.fill(Stack::new(Layout::Merged, &rootfs)?)?,
            Layout::Layers => {
                let list = made.fresh(directory.join("layers.json"))?;
                let path = made.fresh(directory.join("layers"))?;
                let filled = self.fill(Stack::new(Layout::Layers, &path)?)?;
                // Where the overlay goes, and what its upper directory takes after.
                let mut place = Target::create(&rootfs)?;
                place.directory(&InnerPath::root(), filled.root.clone())?;
                place.finish()?;
                let names = (0..filled.layers).map(|number| format!("layers/{number}"));
                write(&list, &names.map(Value::from).collect())?;
                filled
            }
        };
        write(&config_file, &config(&filled.settings))?;
        made.keep();
        Ok(filled.notices)
    }

    /// Makes `directory` the root filesystem, merged whatever the layout says.
    ///
    /// # Errors
    /// As `bundle`; `directory` must be absent or empty.
    pub fn rootfs(&self, directory: &Path) -> Result<Notices> {
        let mut made = Made::default();
        made.directories(directory)?;
        let filled = self.fill(Stack::new(Layout::Merged, directory)?)?;
        made.keep();
        Ok(filled.notices)
    }

    fn fill(&self, stack: Stack) -> Result<Filled> {
        let mut unpacker = Unpacker::new(stack);
        let process = self.source.unpack(&mut unpacker)?;
        let settings = match process {
            Some(process) => self.settings.or_image(&process, &unpacker)?,
            None => self.settings.clone(),
        };
        for addition in &self.additions {
            add(&mut unpacker, addition)?;
        }
        let root = unpacker.stack.root().cloned().unwrap_or_default();
        let (layers, notices) = unpacker.stack.finish()?;
        Ok(Filled {
            layers,
            notices,
            root,
            settings,
        })
    }
}

/// A root filesystem that was written.
struct Filled {
    layers: usize,
    notices: Notices,
    /// What the root directory carries.
    root: Attributes,
    /// The recipe's, and where it is silent the image's.
    settings: Settings,
}

impl Source {
    /// Writes the files; what an image says of its process.
    fn unpack(&self, unpacker: &mut Unpacker) -> Result<Option<Process>> {
        match self {
            Self::Busybox => {
                skeleton::write(unpacker.stack.next()?)?;
                busybox::copy(unpacker)?;
                Ok(None)
            }
            Self::Host(programs) => {
                skeleton::write(unpacker.stack.next()?)?;
                host::copy(unpacker, programs)?;
                Ok(None)
            }
            Self::Tar(path) => {
                let file = File::open(path).at(path)?;
                let (_, archive) = plain(file).at(path)?;
                unpacker.apply(archive).with_context(|| shown(path))?;
                Ok(None)
            }
            Self::Oci { layout, reference } => {
                let blobs = Blobs::open(layout)?;
                let found = Image::find(&blobs, reference.as_deref());
                let unpacked = found.and_then(|image| image.unpack(unpacker));
                unpacked.map(Some).with_context(|| shown(layout))
            }
        }
    }

    /// Whether strangers made the files.
    fn is_image(&self) -> bool {
        matches!(self, Self::Tar(_) | Self::Oci { .. })
    }
}

fn add(unpacker: &mut Unpacker, addition: &Addition) -> Result<()> {
    let path = InnerPath::parse(&addition.path)?;
    let meta = fs::metadata(&addition.file).at(&addition.file)?;
    if !meta.is_file() {
        bail!("{}: not a regular file", shown(&addition.file));
    }
    let mut content = File::open(&addition.file).at(&addition.file)?;
    unpacker.add(&path, &mut content, &Attributes::mode(meta.mode() & 0o777))
}

/// Writes a new file of indented JSON.
fn write(path: &Path, value: &Value) -> Result<()> {
    let mut file = File::create_new(path).at(path)?;
    writeln!(file, "{value:#}").at(path)
}

/// What a build has made so far: removed on drop, unless it is kept.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the directory and those above it that are missing; whether it did.
    fn directories(&mut self, path: &Path) -> Result<bool> {
        let absent = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err());
        let topmost = absent.last().map(Path::to_path_buf);
        let absent = topmost.is_some();
        if absent {
            self.0.extend(topmost);
            self.0.push(path.to_path_buf());
        }
        fs::create_dir_all(path).at(path)?;
        Ok(absent)
    }

    /// Takes a path that must be free, and that the build is about to make.
    fn fresh(&mut self, path: PathBuf) -> Result<PathBuf> {
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Errno::EXIST)
                .at(&path)
                .context("name another directory, or remove what is there");
        }
        self.0.push(path.clone());
        Ok(path)
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // The error that led here is the one to tell; what cannot be
            // removed stays to be looked at.
            let _ = remove(path);
        }
    }
}

/// Removes a file or a tree, by the calls that stop at a mount: someone else's
/// may have come to lie in what was made.
fn remove(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    // From within first: a path in there may be as long as a path can be.
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        let mut target = Target::existing(path)?;
        for name in target.names(&InnerPath::root())? {
            target.remove(&InnerPath::parse(name)?)?;
        }
    }
    Target::existing(parent)?.remove(&InnerPath::parse(name)?)
}
