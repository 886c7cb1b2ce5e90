//! The symbolic links of the layers so far, so that a name in an archive is
//! resolved before it reaches the file system, as the container would: within
//! the root. `Target` then follows no link at all.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use anyhow::Result;
use rustix::io::Errno;

use crate::errno::At;
use crate::inner::{InnerPath, names_reversed};

/// As the kernel's own limit (path_resolution(7)).
pub(crate) const MAX_LINKS: usize = 40;

/// Text by path. Where layers lie apart this is the view of all of them.
#[derive(Default)]
pub(crate) struct Links(BTreeMap<InnerPath, OsString>);

impl Links {
    pub(crate) fn insert(&mut self, path: InnerPath, text: OsString) {
        self.0.insert(path, text);
    }

    /// Forgets the link at this path, and those below it.
    pub(crate) fn remove(&mut self, path: &InnerPath) {
        self.retain_below(path, |_| false);
    }

    /// Forgets the link at this path, but not those below it.
    pub(crate) fn replace_by_directory(&mut self, path: &InnerPath) {
        self.0.remove(path);
    }

    /// Forgets the link at this path and those below it, but for those that are to stay.
    pub(crate) fn retain_below(&mut self, path: &InnerPath, stays: impl Fn(&InnerPath) -> bool) {
        // Paths order by components: what lies below comes right after.
        let below = self.0.range(path.clone()..);
        let below = below.take_while(|(link, _)| link.starts_with(path));
        let gone = below
            .filter(|(link, _)| !stays(link))
            .map(|(link, _)| link.clone());
        for link in gone.collect::<Vec<InnerPath>>() {
            self.0.remove(&link);
        }
    }

    /// Where a path leads, its last name included. `..` in a link stops at the root.
    ///
    /// # Errors
    /// More than 40 links.
    pub(crate) fn resolve(&self, path: &InnerPath) -> Result<InnerPath> {
        let mut followed = 0;
        let mut here = InnerPath::root();
        let mut left = names_reversed(path.as_path());
        while let Some(name) = left.pop() {
            if name == ".." {
                here = here
                    .split()
                    .map_or_else(InnerPath::root, |(parent, _)| parent);
                continue;
            }
            let next = here.child(&name);
            let Some(text) = self.0.get(&next) else {
                here = next;
                continue;
            };
            followed += 1;
            if followed > MAX_LINKS {
                return Err(Errno::LOOP).at(path.shown());
            }
            let text = Path::new(text);
            if text.is_absolute() {
                here = InnerPath::root();
            }
            left.extend(names_reversed(text));
        }
        Ok(here)
    }

    /// Where a path leads when its last name is not followed; `None` for the root.
    ///
    /// # Errors
    /// As `resolve`.
    pub(crate) fn place(&self, path: &InnerPath) -> Result<Option<InnerPath>> {
        let Some((parent, name)) = path.split() else {
            return Ok(None);
        };
        Ok(Some(self.resolve(&parent)?.child(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(pairs: &[(&str, &str)]) -> Result<Links> {
        let mut links = Links::default();
        for (path, text) in pairs {
            links.insert(InnerPath::parse(path)?, OsString::from(text));
        }
        Ok(links)
    }

    #[test]
    fn links_are_followed_within_the_root() -> Result<()> {
        let links = links(&[
            ("lib", "usr/lib"),
            ("abs", "/usr"),
            ("up", "../../../etc"),
            ("usr/lib/x", ".."),
        ])?;
        let cases = [
            ("lib/a", "/usr/lib/a"),
            ("abs/lib/a", "/usr/lib/a"),
            ("up/passwd", "/etc/passwd"),
            ("lib/x/y", "/usr/y"),
            ("usr/lib", "/usr/lib"),
        ];
        for (path, expected) in cases {
            assert_eq!(links.resolve(&InnerPath::parse(path)?)?.shown(), expected);
        }
        Ok(())
    }

    #[test]
    fn a_loop_is_refused() -> Result<()> {
        let links = links(&[("a", "b"), ("b", "a")])?;
        assert!(links.resolve(&InnerPath::parse("a/x")?).is_err());
        Ok(())
    }

    #[test]
    fn what_lies_below_a_removed_path_is_forgotten() -> Result<()> {
        let mut links = links(&[("d", "x"), ("d/l", "x"), ("d.l", "x"), ("dd", "x")])?;
        links.remove(&InnerPath::parse("d")?);
        let left = |path| Ok::<bool, anyhow::Error>(links.0.contains_key(&InnerPath::parse(path)?));
        assert_eq!(
            [left("d")?, left("d/l")?, left("d.l")?, left("dd")?],
            [false, false, true, true]
        );
        Ok(())
    }
}
