//! The bundle directory: where it is, its configuration, its root filesystem.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::options::CreateOptions;
use crate::error::{Code, Error, Result};
use crate::plan::validate;
use crate::spec::Spec;

/// A bundle, read once, whose configuration breaks no rule.
pub struct Bundle {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// Absolute, without symbolic links, a directory and not the host's own root.
    pub rootfs: PathBuf,
    pub spec: Spec,
}

impl Bundle {
    /// Reads the bundle that the options name.
    ///
    /// # Errors
    /// The file that can't be used, or the part of config.json that is wrong.
    pub fn open(options: &CreateOptions) -> Result<Bundle> {
        let (path, spec) = Bundle::read(options)?;
        if let Some(error) = validate::first(validate::validate(&spec)) {
            return Err(error);
        }
        let root =
            spec.config.root().as_ref().ok_or_else(|| {
                Error::new(Code::InvalidConfig, "root must be specified").at("/root")
            })?;
        let rootfs = real_directory(&path.join(root.path())).map_err(|error| {
            error
                .doing("open the root filesystem")
                .at("/root/path")
                .hint("it must be a directory with what the container sees as /")
        })?;
        if rootfs == Path::new("/") {
            return Err(Error::new(
                Code::InvalidConfig,
                "the root filesystem is the host's own root",
            )
            .path(path.join(root.path()))
            .at("/root/path"));
        }
        Ok(Bundle { path, rootfs, spec })
    }

    /// The bundle's path, as above, and its configuration.
    pub fn read(options: &CreateOptions) -> Result<(PathBuf, Spec)> {
        let bundle = match options.bundle.as_os_str().is_empty() {
            true => Path::new("."),
            false => &options.bundle,
        };
        let path = real_directory(bundle)?;
        let config = match &options.config {
            Some(config) => config.clone(),
            None => path.join("config.json"),
        };
        Ok((path, Spec::read(&config).map_err(name_the_option)?))
    }
}

fn name_the_option(error: Error) -> Error {
    match error.os_error() {
        Some(Errno::ENOENT) => error.hint("the bundle's directory is named by --bundle"),
        _ => error,
    }
}

/// Walks a path once and asks the kernel where it led.
fn real_directory(path: &Path) -> Result<PathBuf> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = open(path, flags, Mode::empty())
        .map_err(|errno| Error::call(Code::Io, "open", errno).path(path))?;
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .map_err(|error| Error::io(Code::Io, "readlink", &error).path(path))
}
