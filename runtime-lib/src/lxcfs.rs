//! The files of an lxcfs that runs on the host: what it serves for /proc and /sys is what a
//! process sees of its own cgroup's limits, so that `free`, `top` and a JVM go by them.
//!
//! It only looks which files there are; the plan says what becomes of them.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use crate::error::{Code, Error, Result};

/// Where lxcfs's packages mount it.
pub const USUAL_PLACE: &str = "/var/lib/lxcfs";

/// The annotation that does what [`crate::CreateOptions::lxcfs`] does, for engines: `true`, `false`
/// or the directory.
pub const ANNOTATION: &str = "capsid.lxcfs";

/// The pointer of the annotation; a dot needs no escape.
const POINTER: &str = "/annotations/capsid.lxcfs";

/// What it may serve, below its directory and below the container's root alike.
const FILES: [&str; 9] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/slabinfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "sys/devices/system/cpu/online",
];

/// The files of one lxcfs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lxcfs {
    /// Where it is mounted; absolute.
    pub directory: PathBuf,
    /// Below the directory, and below the container's root.
    pub files: Vec<&'static str>,
    /// The annotation that asked for it, when one did.
    pub pointer: Option<&'static str>,
}

/// The lxcfs that the caller or an annotation asks for; the caller's word counts more.
///
/// # Errors
/// There is none; an annotation that says neither.
pub fn resolve(
    asked: Option<&Path>,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Option<Lxcfs>> {
    let annotation = annotations.and_then(|all| all.get(ANNOTATION));
    let (directory, pointer) = match (asked, annotation.map(String::as_str)) {
        (Some(directory), _) => (directory, None),
        (None, None | Some("false")) => return Ok(None),
        (None, Some("true")) => (Path::new(USUAL_PLACE), Some(POINTER)),
        (None, Some(path)) if path.starts_with('/') => (Path::new(path), Some(POINTER)),
        (None, Some(_)) => {
            let tail = "it must be true, false or an absolute path";
            return Err(Error::new(Code::InvalidConfig, tail).at(POINTER));
        }
    };
    look(directory, pointer).map(Some).map_err(|error| {
        let error = error
            .doing(format!("look for lxcfs in {}", directory.display()))
            .hint("start lxcfs, or name the directory that it is mounted on");
        match pointer {
            Some(pointer) => error.at(pointer),
            None => error,
        }
    })
}

fn look(directory: &Path, pointer: Option<&'static str>) -> Result<Lxcfs> {
    let directory = std::path::absolute(directory)
        .map_err(|error| Error::io(Code::Filesystem, "getcwd", &error))?;
    if directory.to_str().is_none() {
        return Err(Error::new(Code::InvalidArgument, "the path is not UTF-8"));
    }
    let refused = |call| move |errno| Error::call(Code::Filesystem, call, errno);
    let file_system = statfs(&directory).map_err(refused("statfs"))?;
    if file_system.filesystem_type() != FUSE_SUPER_MAGIC {
        return Err(Error::new(Code::Filesystem, "no lxcfs is mounted there"));
    }
    let files = served(&directory)?;
    if files.is_empty() || directory.as_os_str().as_bytes().contains(&0) {
        return Err(refused("stat")(Errno::ENOENT));
    }
    Ok(Lxcfs {
        directory,
        files,
        pointer,
    })
}

/// Those of the files that are there. Something else in the place of one would be the container's to
/// open: a fifo keeps whoever reads it waiting.
fn served(directory: &Path) -> Result<Vec<&'static str>> {
    let mut files = Vec::new();
    for name in FILES {
        let path = directory.join(name);
        match path.symlink_metadata() {
            Ok(seen) if seen.is_file() => files.push(name),
            Ok(_) => {
                return Err(Error::new(Code::Filesystem, "it is no ordinary file").path(path));
            }
            Err(_) => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ordinary_files_are_taken() {
        use nix::sys::stat::Mode;
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("proc/uptime");
        std::fs::create_dir(folder.path().join("proc")).unwrap();
        std::fs::write(folder.path().join("proc/meminfo"), "").unwrap();
        assert_eq!(served(folder.path()), Ok(vec!["proc/meminfo"]));
        let refused = |kind: &str| {
            let error = served(folder.path()).unwrap_err().to_string();
            let said = error.contains("proc/uptime") && error.ends_with("no ordinary file");
            assert!(said, "{kind}: {error}");
        };
        nix::unistd::mkfifo(&place, Mode::S_IRWXU).unwrap();
        refused("fifo");
        std::fs::remove_file(&place).unwrap();
        std::os::unix::fs::symlink("meminfo", &place).unwrap();
        refused("link");
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        refused("directory");
    }

    fn annotated(value: &str) -> Result<Option<Lxcfs>> {
        let annotations = HashMap::from([(ANNOTATION.to_owned(), value.to_owned())]);
        resolve(None, Some(&annotations))
    }

    #[test]
    fn nobody_asks_for_it_and_none_is_looked_for() {
        assert_eq!(resolve(None, None), Ok(None));
        assert_eq!(annotated("false"), Ok(None));
    }

    #[test]
    fn a_word_that_is_neither_is_refused_by_its_pointer() {
        for value in ["", "yes", "relative/path", "True"] {
            let error = annotated(value).unwrap_err();
            assert_eq!(error.pointer(), Some(POINTER), "{value}");
        }
    }

    #[test]
    fn a_directory_without_an_lxcfs_is_named() {
        let error = resolve(Some(Path::new("/etc")), None).unwrap_err();
        assert!(
            error.to_string().contains("look for lxcfs in /etc"),
            "{error}"
        );
        assert!(
            error.to_string().ends_with("no lxcfs is mounted there"),
            "{error}"
        );
        let error = annotated("/no/such/place").unwrap_err();
        assert_eq!(error.pointer(), Some(POINTER));
        assert_eq!(error.os_error(), Some(Errno::ENOENT));
    }
}
