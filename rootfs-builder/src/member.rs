//! The members of a tar archive, in order, with what extension headers say of
//! them. It only reads: names are bytes here, and nobody has looked at them.
//!
//! The header is the `tar` crate's. The walk is not: its extended headers are
//! split at newlines, which cuts binary attributes and lets a value pass for a
//! record of its own, and their size has no limit.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use tar::{EntryType, Header};

use crate::entry::{Attributes, Special};
use crate::errno::shown;

/// An extended header or a long name is at most this long. A member with sixteen
/// attributes of the greatest size (64 KiB each, xattr(7)) still fits.
const MAX_EXTENSION: u64 = 2 * 1024 * 1024;

const BLOCK: u64 = 512;

/// Extended attributes as pax headers write them.
const XATTR: &str = "SCHILY.xattr.";

/// One member.
#[derive(Debug)]
pub(crate) struct Member {
    /// The name as it stands in the archive.
    pub(crate) name: OsString,
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
}

/// What a member is. The content of a file is read from `Members`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// Another name for the file that the text names.
    HardLink(OsString),
    Symlink(OsString),
    Special(Special),
    /// A type that is not for root filesystems.
    Other,
}

/// What extension headers said about the member after them.
#[derive(Default)]
struct Extensions {
    /// Whether a member has to follow.
    any: bool,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Records of a pax header: the last one of a key counts.
    records: Vec<(String, Vec<u8>)>,
}

impl Extensions {
    fn record(&self, key: &str) -> Option<&[u8]> {
        let found = self.records.iter().rfind(|(known, _)| known == key);
        found.map(|(_, value)| value.as_slice())
    }

    fn number(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.record(key) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value).ok();
        let number = text.and_then(|text| text.parse().ok());
        Ok(Some(number.with_context(|| {
            format!("pax header: {key} is not a number")
        })?))
    }
}

/// Walks an archive.
pub(crate) struct Members<R> {
    stream: R,
    /// Bytes of the current member that nobody read yet, and its padding.
    content: u64,
    padding: u64,
    /// Bytes of the stream before the current member's content.
    position: u64,
}

impl<R: Read> Members<R> {
    /// `stream` is a plain tar archive.
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            content: 0,
            padding: 0,
            position: 0,
        }
    }

    /// The next member; `None` at the end of the archive.
    ///
    /// # Errors
    /// The archive is cut, damaged, or says what cannot be.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                if extensions.any {
                    bail!("the archive is cut short");
                }
                return Ok(None);
            };
            let kind = header.entry_type();
            let size = header.entry_size().context("tar header")?;
            self.expect(size)?;
            extensions.any = true;
            match kind {
                EntryType::GNULongName => extensions.name = Some(self.long_name()?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name()?),
                EntryType::XHeader => extensions.records = records(&self.extension()?)?,
                // Comments of the archive, not of a member.
                EntryType::XGlobalHeader => extensions.any = false,
                _ => return self.member(&header, &extensions).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extensions: &Extensions) -> Result<Member> {
        let name = extensions.record("path").or(extensions.name.as_deref());
        let name = name.map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec);
        let name = OsString::from_vec(name);
        let kind = kind(header, extensions, &name)?;
        if !matches!(kind, Kind::File | Kind::Other) {
            // Only files have content, whatever the size says: so it is for Go's
            // reader, which the image tools are written with.
            self.expect(0)?;
        } else if let Some(size) = extensions.number("size")? {
            self.expect(size)?;
        }
        let sparse = header.entry_type() == EntryType::GNUSparse
            || extensions
                .records
                .iter()
                .any(|(key, _)| key.starts_with("GNU.sparse."));
        if sparse {
            // OCI image specification, layer.md: "Sparse files SHOULD NOT be used".
            bail!(
                "{}: a sparse file; make the archive without --sparse",
                shown(&name)
            );
        }
        let attributes = attributes(header, extensions).with_context(|| shown(&name))?;
        Ok(Member {
            name,
            kind,
            attributes,
        })
    }

    /// The content of the member that `next` returned, once.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content { members: self }
    }

    /// Where the content of the member that `next` returned begins in the stream.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes of that content nobody has read yet.
    pub(crate) fn size(&self) -> u64 {
        self.content
    }

    fn expect(&mut self, size: u64) -> Result<()> {
        let whole = size
            .checked_next_multiple_of(BLOCK)
            .context("tar header: size out of range")?;
        self.content = size;
        self.padding = whole - size;
        Ok(())
    }

    /// Reads up to the next header.
    fn skip(&mut self) -> Result<()> {
        let left = self.content + self.padding;
        let skipped = io::copy(&mut self.stream.by_ref().take(left), &mut io::sink())?;
        // The last member's padding is not missed, its content is.
        if skipped < self.content {
            bail!("the archive is cut short");
        }
        self.position = self.position.saturating_add(skipped);
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => bail!("the archive is cut short"),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position = self.position.saturating_add(BLOCK);
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // The checksum counts its own eight bytes as spaces (tar(5)).
        let sum = bytes.iter().enumerate().map(|(index, &byte)| match index {
            148..156 => u32::from(b' '),
            _ => u32::from(byte),
        });
        let sum: u32 = sum.sum();
        if header.cksum().ok() != Some(sum) {
            bail!("not a tar archive, or a damaged one: wrong header checksum");
        }
        Ok(Some(header))
    }

    fn extension(&mut self) -> Result<Vec<u8>> {
        if self.content > MAX_EXTENSION {
            bail!("a tar extension header of {} bytes", self.content);
        }
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self) -> Result<Vec<u8>> {
        let mut name = self.extension()?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }
}

/// See `Members::content`.
pub(crate) struct Content<'a, R> {
    members: &'a mut Members<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let members = &mut *self.members;
        let count = members.stream.by_ref().take(members.content).read(into)?;
        if count == 0 && members.content > 0 && !into.is_empty() {
            return Err(io::Error::other("the archive is cut short"));
        }
        members.content -= count as u64;
        members.position = members.position.saturating_add(count as u64);
        Ok(count)
    }
}

fn kind(header: &Header, extensions: &Extensions, name: &OsString) -> Result<Kind> {
    let link = || {
        let text = extensions.record("linkpath").or(extensions.link.as_deref());
        let text = text.map(<[u8]>::to_vec);
        let text = text.or_else(|| header.link_name_bytes().map(|bytes| bytes.into_owned()));
        text.map(OsString::from_vec)
            .with_context(|| format!("{}: a link to nothing", shown(name)))
    };
    Ok(match header.entry_type() {
        // Archives from before POSIX mark a directory by its name alone.
        EntryType::Regular if name.as_encoded_bytes().ends_with(b"/") => Kind::Directory,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Link => Kind::HardLink(link()?),
        EntryType::Symlink => Kind::Symlink(link()?),
        EntryType::Fifo => Kind::Special(Special::Fifo),
        EntryType::Char => Kind::Special(Special::Char(device(header)?)),
        EntryType::Block => Kind::Special(Special::Block(device(header)?)),
        _ => Kind::Other,
    })
}

fn device(header: &Header) -> Result<u64> {
    let major = header.device_major()?.unwrap_or(0);
    let minor = header.device_minor()?.unwrap_or(0);
    Ok(rustix::fs::makedev(major, minor))
}

fn attributes(header: &Header, extensions: &Extensions) -> Result<Attributes> {
    let uid = extensions.number("uid")?.map_or_else(|| header.uid(), Ok)?;
    let gid = extensions.number("gid")?.map_or_else(|| header.gid(), Ok)?;
    let xattrs = extensions.records.iter().filter_map(|(key, value)| {
        let name = key.strip_prefix(XATTR)?;
        Some((OsString::from(name), value.clone()))
    });
    Ok(Attributes {
        mode: header.mode()? & 0o7777,
        owner: Some((id(uid)?, id(gid)?)),
        mtime: mtime(header, extensions),
        xattrs: xattrs.collect(),
    })
}

/// 2^32-1 means "leave it" to chown(2), so it is nobody's id.
fn id(number: u64) -> Result<u32> {
    let id = u32::try_from(number).ok().filter(|&id| id != u32::MAX);
    id.with_context(|| format!("owner {number} out of range"))
}

/// Whole seconds; a time that cannot be read is left out.
fn mtime(header: &Header, extensions: &Extensions) -> Option<i64> {
    let Some(value) = extensions.record("mtime") else {
        return i64::try_from(header.mtime().ok()?).ok();
    };
    let text = std::str::from_utf8(value).ok()?;
    let seconds = text.split('.').next().unwrap_or(text);
    seconds.parse().ok()
}

/// Records of `LENGTH KEY=VALUE\n` (POSIX pax, "pax Header Block"); the length
/// counts itself, and a value may hold any byte.
fn records(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (record, after) = split_record(rest).context("pax header: a damaged record")?;
        records.push(record);
        rest = after;
    }
    Ok(records)
}

/// A key and its value, and the bytes after the record.
type Record<'a> = ((String, Vec<u8>), &'a [u8]);

fn split_record(bytes: &[u8]) -> Option<Record<'_>> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length = std::str::from_utf8(bytes.get(..space)?).ok()?;
    let length: usize = length.parse().ok()?;
    let record = bytes
        .get(space.checked_add(1)?..length)?
        .strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    let key = String::from_utf8(record.get(..equals)?.to_vec()).ok()?;
    let value = record.get(equals.checked_add(1)?..)?.to_vec();
    Some(((key, value), bytes.get(length..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_newlines_and_what_looks_like_a_record() -> Result<()> {
        let value = b"a\n20 path=/etc/passwd\nb";
        let text = [&b"47 SCHILY.xattr.user.x="[..], value, b"\n"].concat();
        let found = records(&text)?;
        assert_eq!(found, [("SCHILY.xattr.user.x".to_owned(), value.to_vec())]);
        Ok(())
    }

    #[test]
    fn damaged_records_are_refused() {
        for text in [
            "x", "5 a=b\n", "99 a=b\n", "0 a=b\n", "6 ab\n\n", "-6 a=b\n", "6 a=bX",
        ] {
            assert!(records(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_last_record_of_a_key_counts() -> Result<()> {
        let extensions = Extensions {
            records: records(b"9 uid=12\n9 uid=34\n")?,
            ..Extensions::default()
        };
        assert_eq!(extensions.number("uid")?, Some(34));
        Ok(())
    }
}
