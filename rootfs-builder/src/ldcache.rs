//! /etc/ld.so.cache: which path ldconfig(8) found for a library's name. Only
//! the layout that glibc has written since 2.2 ("glibc-ld.so.cache1.1") is
//! read, also where the old layout stands before it. Anything else is an empty
//! cache: the default directories are still searched.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Paths by library name, in the order of the cache.
#[derive(Debug, Default)]
pub(crate) struct Cache(HashMap<String, Vec<PathBuf>>);

impl Cache {
    /// An absent or foreign file gives an empty cache.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_default();
        parse(&bytes).unwrap_or_default()
    }

    /// The paths for a name: one for each machine and hardware variant.
    pub(crate) fn paths(&self, name: &str) -> &[PathBuf] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

fn parse(bytes: &[u8]) -> Option<Cache> {
    let start = bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)?;
    let cache = bytes.get(start..)?;
    let count = usize::try_from(number(cache, MAGIC.len())?).ok()?;
    let entries = cache.get(HEADER..)?.chunks_exact(ENTRY).take(count);
    let mut paths: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for entry in entries {
        // flags, key, value, os version, then 8 bytes of hwcap. A library for
        // some CPUs only is passed over: the root filesystem may run on others.
        if entry.get(16..)?.iter().any(|&byte| byte != 0) {
            continue;
        }
        let name = text(cache, number(entry, 4)?)?;
        let path = text(cache, number(entry, 8)?)?;
        paths.entry(name).or_default().push(PathBuf::from(path));
    }
    Some(Cache(paths))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

fn text(cache: &[u8], at: u32) -> Option<String> {
    let rest = cache.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|&byte| byte == 0)?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hwcap: u8) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(1_u32.to_ne_bytes());
        bytes.resize(HEADER, 0);
        let strings = u32::try_from(HEADER + ENTRY).unwrap_or_default();
        for word in [3, strings, strings + 10, 0] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend([hwcap, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(b"libx.so.1\0/lib/libx.so.1\0");
        bytes
    }

    #[test]
    fn a_name_leads_to_its_path() {
        let cache = parse(&sample(0)).unwrap_or_default();
        assert_eq!(cache.paths("libx.so.1"), [PathBuf::from("/lib/libx.so.1")]);
        assert!(cache.paths("liby.so.1").is_empty());
    }

    #[test]
    fn a_library_for_some_cpus_only_is_passed_over() {
        let cache = parse(&sample(1)).unwrap_or_default();
        assert!(cache.paths("libx.so.1").is_empty());
    }

    #[test]
    fn a_cache_cut_anywhere_is_no_panic() {
        let whole = sample(0);
        for length in 0..whole.len() {
            let cut: Vec<u8> = whole.iter().copied().take(length).collect();
            assert!(
                parse(&cut)
                    .unwrap_or_default()
                    .paths("libx.so.1")
                    .is_empty()
            );
        }
    }
}
