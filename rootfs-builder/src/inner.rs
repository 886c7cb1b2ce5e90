//! A path inside a root filesystem, as a type.
//!
//! It proves that the path is relative, has only plain components (no `..`, no
//! `.`) and no NUL. It does not prove that no component is a symbolic link in
//! the file system: `Target` sees to that when it opens.

use std::borrow::Borrow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

use crate::errno::shown;

/// See the module. The root itself is the empty path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InnerPath(PathBuf);

impl InnerPath {
    /// The root itself.
    #[must_use]
    pub(crate) fn root() -> Self {
        Self(PathBuf::new())
    }

    /// Reads a name as archives and hosts write it: a leading `/` means the
    /// root of the file system that is built, `.` means nothing.
    ///
    /// # Errors
    /// A name with `..` or a NUL.
    pub(crate) fn parse(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = name.as_ref();
        if name.as_bytes().contains(&0) {
            bail!("{}: a name with a NUL", shown(name));
        }
        let mut path = PathBuf::new();
        for component in Path::new(name).components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(part) => path.push(part),
                Component::ParentDir | Component::Prefix(_) => {
                    bail!(
                        "{}: a name with .. leads out of the root filesystem",
                        shown(name)
                    );
                }
            }
        }
        Ok(Self(path))
    }

    /// The directory that holds it, and its name there; `None` for the root.
    #[must_use]
    pub(crate) fn split(&self) -> Option<(Self, &OsStr)> {
        let name = self.0.file_name()?;
        let parent = self.0.parent()?;
        Some((Self(parent.to_path_buf()), name))
    }

    /// The entry `name` of this directory. `name` must be one plain component.
    #[must_use]
    pub(crate) fn child(&self, name: &OsStr) -> Self {
        Self(self.0.join(name))
    }

    /// This path and every directory above it but the root, the longest first.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> {
        let all = self.0.ancestors().map(|path| Self(path.to_path_buf()));
        all.filter(|path| !path.is_root())
    }

    #[must_use]
    pub(crate) fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    #[must_use]
    pub(crate) fn starts_with(&self, directory: &Self) -> bool {
        self.0.starts_with(&directory.0)
    }

    /// The path for a call relative to the root's descriptor.
    #[must_use]
    pub(crate) fn as_path(&self) -> &Path {
        if self.is_root() {
            Path::new(".")
        } else {
            &self.0
        }
    }

    /// The path for a message: as the container sees it.
    #[must_use]
    pub(crate) fn shown(&self) -> String {
        shown(OsString::from_vec(
            [b"/", self.0.as_os_str().as_bytes()].concat(),
        ))
    }
}

/// The names of a path from its end to its start, `..` among them: a stack to
/// walk it by. A leading `/` is not among them.
pub(crate) fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

impl Borrow<Path> for InnerPath {
    fn borrow(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_dotted_names_lie_inside_the_root() -> Result<()> {
        assert_eq!(InnerPath::parse("/./etc//passwd/")?.shown(), "/etc/passwd");
        assert!(InnerPath::parse("./")?.is_root());
        Ok(())
    }

    #[test]
    fn a_name_with_dot_dot_is_refused() {
        for name in ["..", "../x", "a/../../x", "/..", "a/.."] {
            assert!(InnerPath::parse(name).is_err(), "{name}");
        }
    }
}
