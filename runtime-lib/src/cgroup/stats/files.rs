//! The small text files of one cgroup directory as numbers. What isn't there, or isn't what it
//! should be, is nothing: a new kernel's new line must not hide the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::file;
use super::BlockIoEntry;

/// One directory.
pub(super) struct Files(pub PathBuf);

impl Files {
    /// The whole of a file; None when there is none.
    pub fn text(&self, name: &str) -> Option<String> {
        let bytes = file::read_whole(&self.0.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A number, or the largest for `max`.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.text(name)?.trim() {
            "max" => Some(u64::MAX),
            text => text.parse().ok(),
        }
    }

    /// As [`Files::number`], with 0 for nothing.
    pub fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or_default()
    }

    /// Lines of a key and a number.
    pub fn table(&self, name: &str) -> BTreeMap<String, u64> {
        file::table(&self.text(name).unwrap_or_default())
    }

    /// Lines of a disk, an operation where the file tells them apart, and a number.
    pub fn disks(&self, name: &str) -> Vec<BlockIoEntry> {
        let text = self.text(name).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split([' ', ':']);
            let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let (op, value) = match (words.next()?, words.next()) {
                (op, Some(value)) => (op.to_owned(), value),
                (value, None) => (String::new(), value),
            };
            Some(BlockIoEntry {
                major,
                minor,
                op,
                value: value.parse().ok()?,
            })
        };
        text.lines().filter_map(entry).collect()
    }

    /// Lines of a disk and then keys with numbers (`8:0 rbytes=1 wbytes=2`): what to do with each.
    pub fn keyed_disks(&self, name: &str, mut each: impl FnMut(&str, BlockIoEntry)) {
        for line in self.text(name).unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let numbers = words.next().and_then(|disk| disk.split_once(':'));
            let Some((Ok(major), Ok(minor))) = numbers.map(|(a, b)| (a.parse(), b.parse())) else {
                continue;
            };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let entry = BlockIoEntry {
                    major,
                    minor,
                    op: String::new(),
                    value: value.parse().unwrap_or_default(),
                };
                each(key, entry);
            }
        }
    }

    /// The sizes for which there is a file `hugetlb.SIZE` with this ending.
    pub fn page_sizes(&self, ending: &str) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let size = |name: String| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(ending)?;
            (!size.contains('.')).then(|| size.to_owned())
        };
        entries
            .filter_map(|entry| size(entry.file_name().into_string().ok()?))
            .collect()
    }
}

/// "0-2,7" as its numbers.
pub(super) fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_whole() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!(list("\n"), [0; 0]);
        assert_eq!(list("x,3-,5"), [5]);
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("stat", "a 1\nb\nc x\nd 4\n");
        write(
            "disks",
            "8:0 Read 5\n8:16 7\nTotal 12\nnonsense\n8:0 Read\n",
        );
        write("max", "max\n");
        let files = Files(dir.path().to_owned());
        let table = files.table("stat");
        assert_eq!(
            table.into_iter().collect::<Vec<_>>(),
            [("a".into(), 1), ("d".into(), 4)]
        );
        let entry = |minor, op: &str, value| BlockIoEntry {
            major: 8,
            minor,
            op: op.to_owned(),
            value,
        };
        assert_eq!(
            files.disks("disks"),
            [entry(0, "Read", 5), entry(16, "", 7)]
        );
        assert_eq!(files.number("max"), Some(u64::MAX));
        assert_eq!(files.number("missing"), None);
    }
}
