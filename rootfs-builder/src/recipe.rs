//! What to build, and the building of it: a bundle or only a root filesystem.
//! Either all of it is there in the end, or nothing is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::io::Errno;
use serde_json::Value;

use crate::config::{Settings, config};
use crate::errno::At;
use crate::inner::InnerPath;
use crate::notice::Notices;
use crate::stack::{Layout, Stack};
use crate::target::Attributes;
use crate::{busybox, host, skeleton};

/// Where the files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A static busybox of the host, or of Debian's package.
    Busybox,
    /// Programs of the host, by name or path, with the libraries they need;
    /// none means the usual ones that the host has.
    Host(Vec<String>),
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
        made.directories(directory)?;
        let rootfs = made.fresh(directory.join("rootfs"))?;
        let config_file = made.fresh(directory.join("config.json"))?;
        let (layers, notices) = match self.layout {
            Layout::Merged => self.fill(Stack::new(Layout::Merged, &rootfs)?)?,
            Layout::Layers => {
                let list = made.fresh(directory.join("layers.json"))?;
                let path = made.fresh(directory.join("layers"))?;
                let filled = self.fill(Stack::new(Layout::Layers, &path)?)?;
                fs::create_dir(&rootfs).at(&rootfs)?;
                let names = (0..filled.0).map(|number| format!("layers/{number}"));
                write(&list, &names.map(Value::from).collect())?;
                filled
            }
        };
        debug_assert!(layers > 0, "a source without a layer");
        write(&config_file, &config(&self.settings))?;
        made.keep();
        Ok(notices)
    }

    /// Makes `directory` the root filesystem, merged whatever the layout says.
    ///
    /// # Errors
    /// As `bundle`; `directory` must be absent or empty.
    pub fn rootfs(&self, directory: &Path) -> Result<Notices> {
        let mut made = Made::default();
        made.directories(directory)?;
        let (_, notices) = self.fill(Stack::new(Layout::Merged, directory)?)?;
        made.keep();
        Ok(notices)
    }

    fn fill(&self, mut stack: Stack) -> Result<(usize, Notices)> {
        match &self.source {
            Source::Busybox => {
                let target = stack.next()?;
                skeleton::write(target)?;
                busybox::copy(target)?;
            }
            Source::Host(programs) => {
                let target = stack.next()?;
                skeleton::write(target)?;
                host::copy(target, programs)?;
            }
        }
        for addition in &self.additions {
            add(&mut stack, addition)?;
        }
        stack.finish()
    }
}

fn add(stack: &mut Stack, addition: &Addition) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let target = stack.top()?;
    let path = InnerPath::parse(&addition.path)?;
    if let Some((parent, _)) = path.split() {
        target.directories(&parent)?;
    }
    let mut content = File::open(&addition.file).at(&addition.file)?;
    let meta = content.metadata().at(&addition.file)?;
    target.file(&path, &mut content, &Attributes::mode(meta.mode() & 0o777))
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
    /// Makes the directory and those above it that are missing.
    fn directories(&mut self, path: &Path) -> Result<()> {
        let absent = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && fs::symlink_metadata(path).is_err());
        if let Some(topmost) = absent.last() {
            self.0.push(topmost.to_path_buf());
        }
        fs::create_dir_all(path).at(path)
    }

    /// Takes a path that must be free, and that the build is about to make.
    fn fresh(&mut self, path: PathBuf) -> Result<PathBuf> {
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Errno::EXIST).at(&path);
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
            let _ = match fs::symlink_metadata(path) {
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
                Ok(_) => fs::remove_file(path),
                Err(_) => Ok(()),
            };
        }
    }
}
