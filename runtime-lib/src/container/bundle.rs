//! The bundle directory: where it is, its configuration, its root filesystem.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

use super::options::CreateOptions;
use super::seccomp_listener::{self, Asker};
use crate::error::{Code, Error, Result};
use crate::plan::validate;
use crate::spec::{self, Spec};
use crate::sys::mount::{openat2, resolve};

/// A bundle, read once, whose configuration breaks no rule.
pub struct Bundle {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    /// Absolute, without symbolic links, a directory and not the host's own root.
    pub rootfs: PathBuf,
    pub spec: Spec,
    /// Who said who listens to its seccomp filter.
    pub(super) listens: Option<Asker>,
}

impl Bundle {
    /// Reads the bundle that the options name.
    ///
    /// # Errors
    /// The file that can't be used, or the part of config.json that is wrong.
    pub fn open(options: &CreateOptions) -> Result<Bundle> {
        let (path, config) = Bundle::find(options)?;
        let mut spec = match Spec::read(&config).map_err(|error| name_the_option(error, options)) {
            // It says how much more there is.
            Err(error) if error.code() == Code::InvalidConfig => {
                let problems = Bundle::problems(options).unwrap_or_default();
                return Err(validate::first(problems).unwrap_or(error));
            }
            read => read?,
        };
        let listens = seccomp_listener::name(&mut spec, options.seccomp_receiver.as_deref());
        let notices = spec.notices.clone();
        Bundle::of(path, spec, listens).map_err(|error| error.noticing(&notices))
    }

    fn of(path: PathBuf, spec: Spec, listens: Option<Asker>) -> Result<Bundle> {
        if let Some(error) = validate::first(validate::validate(&spec)) {
            return Err(error);
        }
        let root =
            spec.config.root().as_ref().ok_or_else(|| {
                Error::new(Code::InvalidConfig, "root must be specified").at("/root")
            })?;
        let named = path.join(root.path());
        let rootfs = real_directory(&named).map_err(|error| {
            error
                .doing("open the root filesystem")
                .path(named)
                .at("/root/path")
                .hint("it must be a directory with what the container sees as /")
        })?;
        recordable(&rootfs).map_err(|error| error.at("/root/path"))?;
        if rootfs == Path::new("/") {
            return Err(Error::new(
                Code::InvalidConfig,
                "the root filesystem is the host's own root",
            )
            .path(path.join(root.path()))
            .at("/root/path"));
        }
        Ok(Bundle {
            path,
            rootfs,
            spec,
            listens,
        })
    }

    /// Everything that is wrong with its configuration, whatever the machine.
    ///
    /// # Errors
    /// There is no configuration that could be read.
    pub fn problems(options: &CreateOptions) -> Result<Vec<Error>> {
        let (_, config) = Bundle::find(options)?;
        let (mut spec, mut errors) =
            Spec::examine(&config).map_err(|error| match (&options.config, error.os_error()) {
                (None, Some(Errno::ENOENT)) => {
                    error.hint("a bundle has one: capsid spec --bundle DIR writes it")
                }
                _ => error,
            })?;
        seccomp_listener::name(&mut spec, options.seccomp_receiver.as_deref());
        // Nearly every rule asks which namespaces there are.
        if !spec::concern(&errors, "/linux/namespaces") {
            let mut rules = validate::validate(&spec);
            rules.retain(|error| !spec::concern(&errors, error.pointer().unwrap_or("/")));
            errors.extend(rules);
        }
        let noticing = |error: Error| error.noticing(&spec.notices);
        Ok(errors.into_iter().map(noticing).collect())
    }

    /// The bundle's path, as above, and that of its configuration.
    fn find(options: &CreateOptions) -> Result<(PathBuf, PathBuf)> {
        let bundle = match options.bundle.as_os_str().is_empty() {
            true => Path::new("."),
            false => &options.bundle,
        };
        let path = real_directory(bundle).map_err(|error| not_opened(bundle, error))?;
        recordable(&path).map_err(|error| error.doing("open the bundle"))?;
        let config = match &options.config {
            Some(config) => config.clone(),
            None => path.join("config.json"),
        };
        Ok((path, config))
    }
}

/// A relative path is told with where it leads: the caller may be elsewhere than it seems.
fn not_opened(bundle: &Path, error: Error) -> Error {
    let hint = match error.os_error() {
        _ if bundle.starts_with("~") => {
            Some("a shell expands a ~ only where a word begins with it: write $HOME")
        }
        Some(Errno::ENOENT | Errno::ENOTDIR) => Some("a bundle is a directory with a config.json"),
        _ => None,
    };
    let error = match std::path::absolute(bundle) {
        Ok(absolute) if bundle.is_relative() => error
            .doing(format!("open the bundle {}", bundle.display()))
            .path(absolute),
        _ => error.doing("open the bundle").path(bundle),
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn name_the_option(error: Error, options: &CreateOptions) -> Error {
    match (error.os_error(), &options.config) {
        (Some(Errno::ENOENT), None) => error.hint("the bundle's directory is named by --bundle"),
        (Some(Errno::ENOENT) | None, Some(_)) if error.code() == Code::Io => {
            error.hint("it is named by --config")
        }
        _ => error,
    }
}

/// Whether the state can name a path.
pub(super) fn recordable(path: &Path) -> Result<()> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => {
            let tail = "the path is not UTF-8, and the state of a container is JSON";
            Err(Error::new(Code::InvalidArgument, tail).path(path))
        }
    }
}

/// Walks a path once and asks the kernel where it led, unless it met no link on the way and says
/// itself where that is. The error is the caller's to give the path as it was named.
fn real_directory(path: &Path) -> Result<PathBuf> {
    if is_plain(path) && leads_without_links(path) {
        return Ok(path.to_owned());
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory =
        open(path, flags, Mode::empty()).map_err(|errno| Error::call(Code::Io, "open", errno))?;
    std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .map_err(|error| Error::io(Code::Io, "readlink", &error))
}

/// Whether the kernel would say the same of the directory, if there is no link in it.
fn is_plain(path: &Path) -> bool {
    let mut parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    parts.next() == Some(b"") && parts.all(|part| ![b"".as_slice(), b".", b".."].contains(&part))
}

fn leads_without_links(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    openat2(AT_FDCWD, &path, flags, 0, resolve::NO_SYMLINKS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_is_where_its_links_lead() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let real = top.join("real");
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        let text = top.display();
        for path in [
            "real",
            "link",
            "real/",
            "./real",
            "real/../link",
            "/real",
            "link/.",
        ] {
            let asked = PathBuf::from(format!("{text}/{path}"));
            assert_eq!(real_directory(&asked).unwrap(), real, "{path}");
        }
        for path in ["", "none", "real/none"] {
            let asked = PathBuf::from(format!("{text}/{path}"));
            let found = real_directory(&asked);
            assert_eq!(found.ok(), path.is_empty().then(|| top.clone()), "{path}");
        }
        assert_eq!(real_directory(Path::new("/")).unwrap(), Path::new("/"));
    }
}
