//! Applies a layer: the members of an archive, in order, with the whiteouts of
//! the OCI image specification (layer.md, "Whiteouts") over the layers below.
//!
//! It decides where a member goes; `Target` is who writes, and refuses to write
//! outside whatever was decided here.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;

use crate::entry::{Attributes, Content, Entry};
use crate::errno::{At, shown};
use crate::inner::InnerPath;
use crate::links::Links;
use crate::member::{Kind, Member, Members};
use crate::notice::Loss;
use crate::stack::{Layout, Stack};
use crate::target::WHITEOUT_DEVICE;

/// `.wh.NAME` removes NAME of the layers below.
const WHITEOUT: &[u8] = b".wh.";

/// Removes all that the layers below have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Other names that begin so are aufs's own files.
const AUFS: &[u8] = b".wh..wh.";

/// overlayfs's own attributes. Out of an archive they could redirect a lookup
/// or hide files of the layers below.
const OVERLAY_ATTRIBUTES: &[&str] = &["trusted.overlay.", "user.overlay."];

/// The layers applied so far, and the one that is being applied.
pub(crate) struct Unpacker {
    pub(crate) stack: Stack,
    pub(crate) links: Links,
    /// Paths that this layer made or went through: its own whiteouts do not
    /// touch them.
    written: HashSet<InnerPath>,
}

impl Unpacker {
    pub(crate) fn new(stack: Stack) -> Self {
        Self {
            stack,
            links: Links::default(),
            written: HashSet::new(),
        }
    }

    /// A symbolic link that is not out of an archive.
    pub(crate) fn symlink(&mut self, path: &InnerPath, text: &OsStr) -> Result<()> {
        self.stack
            .top()?
            .symlink(path, text, &Attributes::default())?;
        self.links.insert(path.clone(), text.to_os_string());
        Ok(())
    }

    /// Puts a file on top, where the container will see it under that path.
    pub(crate) fn add(
        &mut self,
        path: &InnerPath,
        content: &mut impl Read,
        attributes: &Attributes,
    ) -> Result<()> {
        let place = self.links.place(path)?;
        let Some((parent, name)) = place.as_ref().and_then(InnerPath::split) else {
            return Err(Errno::ISDIR).at(path.shown());
        };
        self.parents(&parent)?;
        let path = parent.child(name);
        self.stack.top()?.file(&path, content, attributes)?;
        self.links.remove(&path);
        Ok(())
    }

    /// Applies one layer over those before it.
    ///
    /// # Errors
    /// The archive is damaged, names what lies outside the root, or a file
    /// cannot be written.
    pub(crate) fn apply(&mut self, archive: impl Read) -> Result<()> {
        self.stack.next()?;
        self.written.clear();
        let mut members = Members::new(archive);
        while let Some(member) = members.next()? {
            self.member(member, &mut members)?;
        }
        Ok(())
    }

    fn member<R: Read>(&mut self, mut member: Member, members: &mut Members<R>) -> Result<()> {
        let name = InnerPath::parse(&member.name)?;
        let place = self.links.place(&name)?;
        let Some((parent, name)) = place.as_ref().and_then(InnerPath::split) else {
            return self.root(member);
        };
        match name.as_bytes() {
            OPAQUE => return self.hide_below(&parent),
            aufs if aufs.starts_with(AUFS) => return Ok(()),
            whiteout if whiteout.starts_with(WHITEOUT) => {
                let hidden = whiteout.get(WHITEOUT.len()..).unwrap_or_default();
                if matches!(hidden, b"" | b"." | b"..") {
                    bail!("{}: a whiteout of no name", shown(&member.name));
                }
                return self.white_out(&parent.child(OsStr::from_bytes(hidden)));
            }
            _ => {}
        }
        let path = parent.child(name);
        self.filter(&mut member.attributes, &path)?;
        self.parents(&parent)?;
        self.make(&path, member, members)
    }

    /// The root directory itself: only its attributes can be of a layer.
    fn root(&mut self, mut member: Member) -> Result<()> {
        let root = InnerPath::root();
        if member.kind != Kind::Directory {
            bail!("{}: the root, and not a directory", shown(&member.name));
        }
        self.filter(&mut member.attributes, &root)?;
        self.stack.top()?.directory(&root, member.attributes)
    }

    fn make<R: Read>(
        &mut self,
        path: &InnerPath,
        member: Member,
        members: &mut Members<R>,
    ) -> Result<()> {
        let attributes = member.attributes;
        let target = self.stack.top()?;
        match member.kind {
            Kind::Directory => return self.make_directory(path, attributes),
            Kind::Other | Kind::Special(WHITEOUT_DEVICE) => {
                target.notices.add(Loss::Member, path);
                return Ok(());
            }
            Kind::File => target.file(path, &mut members.content(), &attributes)?,
            Kind::Symlink(ref text) => target.symlink(path, text, &attributes)?,
            Kind::HardLink(ref existing) => self.hard_link(path, existing)?,
            Kind::Special(kind) => target.special(path, kind, &attributes)?,
        }
        self.links.remove(path);
        if let Kind::Symlink(text) = member.kind {
            self.links.insert(path.clone(), text);
        }
        self.written.insert(path.clone());
        Ok(())
    }

    fn make_directory(&mut self, path: &InnerPath, attributes: Attributes) -> Result<()> {
        let target = self.stack.top()?;
        let other = target.stat(path).is_ok() && !target.is_directory(path);
        target.directory(path, attributes)?;
        if other && self.stack.layout() == Layout::Layers {
            // A whiteout or a file of this layer hid what lies below: still hidden.
            self.stack.top()?.set_opaque(path)?;
        }
        self.links.replace_by_directory(path);
        self.written.insert(path.clone());
        Ok(())
    }

    /// Makes the directories above a member that the layer does not name, with
    /// the attributes that they have in the layers below.
    fn parents(&mut self, parent: &InnerPath) -> Result<()> {
        // What was written has its parents written.
        for passed in parent.ancestors() {
            if !self.written.insert(passed) {
                break;
            }
        }
        for missing in self.stack.top()?.missing(parent) {
            let target = self.stack.top()?;
            if target.stat(&missing).is_ok() && !target.is_whiteout(&missing) {
                return Err(Errno::NOTDIR).at(target.host_path(&missing));
            }
            let below = self.stack.below(&missing);
            let inherited = below.and_then(|target| target.attributes_of(&missing));
            let attributes = inherited
                .cloned()
                .unwrap_or_else(|| Attributes::mode(0o755));
            self.make_directory(&missing, attributes)?;
        }
        Ok(())
    }

    /// As `parents`, for what only stands for something of the layers below: the
    /// directories are not this layer's own, and its whiteouts still remove them.
    fn scaffold(&mut self, path: &InnerPath) -> Result<()> {
        let above = path.ancestors().skip(1);
        let others: Vec<_> = above
            .filter(|above| !self.written.contains(above))
            .collect();
        if let Some((parent, _)) = path.split() {
            self.parents(&parent)?;
        }
        for other in others {
            self.written.remove(&other);
        }
        Ok(())
    }

    /// `existing` is a name as the archive has it.
    fn hard_link(&mut self, path: &InnerPath, existing: &OsStr) -> Result<()> {
        let existing = InnerPath::parse(existing)?;
        let Some(existing) = self.links.place(&existing)? else {
            bail!("{}: a hard link to a directory", path.shown());
        };
        if *path == existing {
            bail!("{}: a hard link to itself", path.shown());
        }
        let target = self.stack.top()?;
        if target.is_whiteout(&existing) {
            return Err(Errno::NOENT).at(target.host_path(&existing));
        }
        if target.stat(&existing).is_err() {
            self.copy_up(&existing)?;
        }
        self.stack.top()?.hard_link(path, &existing)
    }

    /// Copies a file of a layer below into this one: a hard link cannot cross
    /// directories that are only mounted as one.
    fn copy_up(&mut self, path: &InnerPath) -> Result<()> {
        let below = self
            .stack
            .below(path)
            .ok_or(Errno::NOENT)
            .at(path.shown())?;
        let Entry {
            content,
            attributes,
        } = below.entry(path)?;
        self.scaffold(path)?;
        let target = self.stack.top()?;
        match content {
            Content::File(mut file) => target.file(path, &mut file, &attributes),
            Content::Symlink(text) => target.symlink(path, &text, &attributes),
            Content::Special(kind) => target.special(path, kind, &attributes),
            Content::Directory | Content::Socket => Err(Errno::PERM).at(path.shown()),
        }
    }

    /// Removes a path of the layers below; what this layer made there stays.
    fn white_out(&mut self, path: &InnerPath) -> Result<()> {
        if self.written.contains(path) {
            if self.stack.top()?.is_directory(path) {
                self.hide_below(path)?;
            }
            return Ok(());
        }
        self.links.remove(path);
        match self.stack.layout() {
            Layout::Merged => self.stack.top()?.remove(path),
            // A whiteout of nothing would show in a directory that is not merged.
            Layout::Layers if self.stack.below(path).is_none() => Ok(()),
            Layout::Layers => {
                self.scaffold(path)?;
                self.stack.top()?.white_out(path)
            }
        }
    }

    /// Removes what the layers below have in a directory.
    fn hide_below(&mut self, directory: &InnerPath) -> Result<()> {
        self.parents(directory)?;
        let mut left = vec![directory.clone()];
        while let Some(path) = left.pop() {
            let target = self.stack.top()?;
            if path != *directory && !self.written.contains(&path) {
                target.remove(&path)?;
            } else if target.is_directory(&path) {
                let names = target.names(&path)?;
                left.extend(names.iter().map(|name| path.child(name)));
            }
        }
        let written = &self.written;
        self.links
            .retain_below(directory, |path| written.contains(path));
        match self.stack.layout() {
            Layout::Merged => Ok(()),
            Layout::Layers if directory.is_root() => {
                // overlayfs merges the roots of all layers, whatever mark they bear.
                let names = self.stack.names_below(directory)?;
                names
                    .iter()
                    .try_for_each(|name| self.white_out(&directory.child(name)))
            }
            Layout::Layers => self.stack.top()?.set_opaque(directory),
        }
    }

    fn filter(&mut self, attributes: &mut Attributes, path: &InnerPath) -> Result<()> {
        let own = |name: &OsString| {
            let name = name.as_bytes();
            OVERLAY_ATTRIBUTES
                .iter()
                .any(|prefix| name.starts_with(prefix.as_bytes()))
        };
        let before = attributes.xattrs.len();
        attributes.xattrs.retain(|(name, _)| !own(name));
        if attributes.xattrs.len() < before {
            self.stack.top()?.notices.add(Loss::Attribute, path);
        }
        Ok(())
    }

    /// The text of a file as the container will see it; `None` where there is
    /// none, or no regular file, or one longer than `limit` bytes.
    pub(crate) fn text(&self, path: &str, limit: u64) -> Result<Option<String>> {
        let path = self.links.resolve(&InnerPath::parse(path)?)?;
        let Some(target) = self.stack.visible(&path) else {
            return Ok(None);
        };
        let Content::File(file) = target.entry(&path)?.content else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let mut start = file.take(limit.saturating_add(1));
        start
            .read_to_end(&mut bytes)
            .with_context(|| path.shown())?;
        let whole = start.limit() > 0;
        Ok(whole.then(|| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
