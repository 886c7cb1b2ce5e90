//! What could not be kept: an archive asks for owners, devices and attributes
//! that an ordinary user may not make. Counted by kind, so that an image of
//! ten thousand files gives a line and not ten thousand.

use std::collections::BTreeMap;
use std::fmt;

use crate::inner::InnerPath;

/// What was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// chown(2) was not permitted; the file is the caller's.
    Owner,
    /// mknod(2) was not permitted; there is no node.
    Device,
    /// The extended attribute could not be set, or names overlayfs's own state.
    Attribute,
    /// An archive member of a kind that a root filesystem has no place for.
    Member,
}

/// The text of each loss, for one file and for more.
const TEXTS: &[(Loss, &str)] = &[
    (Loss::Owner, "owner not kept (not privileged)"),
    (Loss::Device, "device left out (not privileged)"),
    (Loss::Attribute, "extended attribute left out"),
    (Loss::Member, "archive member left out"),
];

/// The losses of one build, by kind.
#[derive(Clone, Debug, Default)]
pub struct Notices(BTreeMap<Loss, (u64, String)>);

impl Notices {
    pub(crate) fn add(&mut self, loss: Loss, path: &InnerPath) {
        let entry = self.0.entry(loss).or_insert_with(|| (0, path.shown()));
        entry.0 += 1;
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (loss, (count, first)) in other.0 {
            self.0.entry(loss).or_insert((0, first)).0 += count;
        }
    }

    /// How many files lost this.
    #[must_use]
    pub fn count(&self, loss: Loss) -> u64 {
        self.0.get(&loss).map_or(0, |(count, _)| *count)
    }
}

/// One line a kind.
impl fmt::Display for Notices {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (loss, text) in TEXTS {
            match self.0.get(loss) {
                None => {}
                Some((1, first)) => writeln!(out, "{first}: {text}")?,
                Some((count, first)) => writeln!(out, "{first} and {} more: {text}", count - 1)?,
            }
        }
        Ok(())
    }
}
