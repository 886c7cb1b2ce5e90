//! Copies programs of the host, each with its loader, its libraries and the
//! symbolic links on the way to them, so that every path means the same inside
//! as outside. It needs no network and runs nothing.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rustix::io::Errno;

use crate::elf::{self, Machine, Needs};
use crate::entry::Attributes;
use crate::errno::{At, shown};
use crate::inner::{InnerPath, names_reversed};
use crate::layer::Unpacker;
use crate::ldcache::Cache;
use crate::links::MAX_LINKS;

/// Taken when no program is named: those of these that the host has and the caller may read.
pub const DEFAULT_PROGRAMS: &[&str] = &[
    "sh", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "echo", "env", "false", "grep",
    "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "ps", "pwd",
    "readlink", "rm", "sed", "seq", "sleep", "sort", "stat", "stty", "tail", "touch", "tr", "true",
    "tty", "umount", "uname", "wc",
];

/// Searched where PATH is not set.
const PROGRAM_DIRECTORIES: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Where loaders look without being told. The directory of the loader itself is
/// added: it is the multiarch one.
const LIBRARY_DIRECTORIES: &[&str] = &["/lib", "/usr/lib", "/lib64", "/usr/lib64"];

const CACHE: &str = "/etc/ld.so.cache";

/// Links of the root directory that programs count on ("#!/bin/sh") where the
/// host has merged them into /usr.
const MERGED: &[&str] = &["/bin", "/sbin", "/lib", "/lib64"];

/// The host's program of that name, by PATH; a name with a slash is a path.
///
/// # Errors
/// There is none.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    if program.contains('/') {
        return std::path::absolute(program).at(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PROGRAM_DIRECTORIES.into());
    for directory in std::env::split_paths(&path).filter(|directory| directory.is_absolute()) {
        let candidate = directory.join(program);
        let runs =
            fs::metadata(&candidate).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
        if runs {
            return Ok(candidate);
        }
    }
    bail!("{}: no such program on this host", shown(program))
}

/// Copies the programs, or those of `DEFAULT_PROGRAMS` that exist when none is
/// named.
///
/// # Errors
/// A named program is missing, or a library of one is.
pub(crate) fn copy(files: &mut Unpacker, programs: &[String]) -> Result<()> {
    let mut copier = Copier {
        files,
        cache: Cache::read(Path::new(CACHE)),
        copied: HashSet::new(),
        needs: HashMap::new(),
    };
    for link in MERGED {
        if fs::symlink_metadata(link).is_ok_and(|meta| meta.is_symlink()) {
            copier.import(Path::new(link))?;
        }
    }
    if programs.is_empty() {
        let found = DEFAULT_PROGRAMS.iter().filter_map(|name| find(name).ok());
        // A setuid program may be closed to readers: it is left out.
        for path in found.filter(|path| File::open(path).is_ok()) {
            copier.program(&path)?;
        }
    }
    for name in programs {
        copier.program(&find(name)?)?;
    }
    Ok(())
}

struct Copier<'a> {
    files: &'a mut Unpacker,
    cache: Cache,
    copied: HashSet<PathBuf>,
    /// Headers already read, by the path on the host.
    needs: HashMap<PathBuf, Option<Machine>>,
}

impl Copier<'_> {
    /// One program with all that it needs to start.
    fn program(&mut self, path: &Path) -> Result<()> {
        let mut scripts = 0;
        let mut path = path.to_path_buf();
        while let Some(interpreter) = self.script(&path)? {
            scripts += 1;
            if scripts > MAX_LINKS {
                return Err(Errno::LOOP).at(&path);
            }
            self.import(&path)?;
            path = interpreter;
        }
        let real = self.import(&path)?;
        let needs = elf::read(&real)?;
        let Some(loader) = needs.loader.clone() else {
            return Ok(());
        };
        let real_loader = self.import(&loader)?;
        let near = real_loader.parent().map(Path::to_path_buf);
        let mut directories: Vec<PathBuf> = near.into_iter().collect();
        directories.extend(LIBRARY_DIRECTORIES.iter().map(PathBuf::from));
        self.libraries(&path, needs, &directories)
    }

    /// The libraries of a program, theirs, and so on.
    fn libraries(&mut self, program: &Path, needs: Needs, standard: &[PathBuf]) -> Result<()> {
        let machine = needs.machine;
        let mut seen: HashSet<String> = HashSet::new();
        let mut left = vec![needs];
        while let Some(needs) = left.pop() {
            for name in needs
                .libraries
                .iter()
                .filter(|&name| seen.insert(name.clone()))
            {
                let Some(path) = self.library(name, &needs.search, standard, machine) else {
                    let program = shown(program);
                    bail!(
                        "{program}: needs {}, which is not on this host",
                        shown(name)
                    );
                };
                let real = self.import(&path)?;
                left.push(elf::read(&real)?);
            }
        }
        Ok(())
    }

    /// ld.so(8)'s order: the run path, the cache, the default directories.
    fn library(
        &mut self,
        name: &str,
        search: &[PathBuf],
        standard: &[PathBuf],
        machine: Machine,
    ) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| self.fits(path, machine));
        }
        let near = search.iter().map(|directory| directory.join(name));
        if let Some(path) = near.into_iter().find(|path| self.fits(path, machine)) {
            return Some(path);
        }
        let cached = self.cache.paths(name).to_vec();
        if let Some(path) = cached.into_iter().find(|path| self.fits(path, machine)) {
            let found = path.parent();
            if !standard
                .iter()
                .any(|directory| Some(directory.as_path()) == found)
            {
                // Only the cache leads the loader there: it goes along. Paths in
                // it that were not copied are skipped by the loader.
                self.import(Path::new(CACHE)).ok()?;
            }
            return Some(path);
        }
        let usual = standard.iter().map(|directory| directory.join(name));
        usual.into_iter().find(|path| self.fits(path, machine))
    }

    /// Whether the file exists and is for the same machine as the program.
    fn fits(&mut self, path: &Path, machine: Machine) -> bool {
        let known = self.needs.entry(path.to_path_buf());
        let found = known.or_insert_with(|| elf::read(path).ok().map(|needs| needs.machine));
        *found == Some(machine)
    }

    /// The interpreter of a script; `None` for a program.
    fn script(&self, path: &Path) -> Result<Option<PathBuf>> {
        if !fs::metadata(path).at(path)?.is_file() {
            bail!("{}: not a program", shown(path));
        }
        let bytes = fs::read(path).at(path)?;
        if elf::is_elf(&bytes) {
            return Ok(None);
        }
        let Some(line) = bytes.strip_prefix(b"#!") else {
            bail!("{}: neither an ELF program nor a script", shown(path));
        };
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        match words.next() {
            Some(word) if word.starts_with(b"/") => {
                Ok(Some(PathBuf::from(OsStr::from_bytes(word))))
            }
            _ => bail!("{}: a script without an absolute interpreter", shown(path)),
        }
    }

    /// Copies a file, and as links the symbolic links that its path goes
    /// through. Returns where it really lies.
    fn import(&mut self, path: &Path) -> Result<PathBuf> {
        let mut links = 0;
        let mut here = PathBuf::from("/");
        let mut left = names_reversed(path);
        while let Some(name) = left.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            let meta = fs::symlink_metadata(&next).at(&next)?;
            let inner = InnerPath::parse(&next)?;
            if meta.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP).at(path);
                }
                let text = fs::read_link(&next).at(&next)?;
                if self.copied.insert(next) {
                    self.files.symlink(&inner, text.as_os_str())?;
                }
                if text.is_absolute() {
                    here = PathBuf::from("/");
                }
                left.extend(names_reversed(&text));
                continue;
            }
            if meta.is_dir() {
                self.files.stack.top()?.directories(&inner)?;
            } else if self.copied.insert(next.clone()) {
                let mut content = File::open(&next).at(&next)?;
                // Without setuid: what a host program may do as root here says
                // nothing about a container.
                let attributes = Attributes::mode(meta.mode() & 0o755);
                self.files
                    .stack
                    .top()?
                    .file(&inner, &mut content, &attributes)?;
            }
            here = next;
        }
        Ok(here)
    }
}
