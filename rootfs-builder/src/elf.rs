//! What an ELF file says that it needs: its loader and its libraries. It reads
//! headers only and never runs the file (ldd(1) may).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use goblin::elf::Elf;

use crate::errno::{At, shown};

/// The parts of an ELF file that ld.so(8) goes by.
#[derive(Debug)]
pub(crate) struct Needs {
    /// PT_INTERP; `None` for a static program or a library.
    pub(crate) loader: Option<PathBuf>,
    /// DT_NEEDED, in order.
    pub(crate) libraries: Vec<String>,
    /// DT_RUNPATH, else DT_RPATH, with `$ORIGIN` replaced. A path with another
    /// token of ld.so(8) is left out.
    pub(crate) search: Vec<PathBuf>,
    pub(crate) machine: Machine,
}

/// What two files must have in common to be loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    machine: u16,
    is_64: bool,
    little_endian: bool,
}

/// Reads the headers of a file.
///
/// # Errors
/// The file cannot be read, or is not a whole ELF file.
pub(crate) fn read(path: &Path) -> Result<Needs> {
    let bytes = fs::read(path).at(path)?;
    parse(&bytes, path)
}

/// `path` is where the bytes came from: `$ORIGIN` is its directory.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Needs> {
    let elf = Elf::parse(bytes).map_err(|error| anyhow!("{}: {error}", shown(path)))?;
    let search = if elf.runpaths.is_empty() {
        &elf.rpaths
    } else {
        &elf.runpaths
    };
    let origin = path.parent().unwrap_or(Path::new("/"));
    Ok(Needs {
        loader: elf.interpreter.map(PathBuf::from),
        libraries: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        search: search
            .iter()
            .flat_map(|list| list.split(':'))
            .filter_map(|directory| expand(directory, origin))
            .collect(),
        machine: Machine {
            machine: elf.header.e_machine,
            is_64: elf.is_64,
            little_endian: elf.little_endian,
        },
    })
}

/// Whether the bytes begin as an ELF file does.
pub(crate) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

fn expand(directory: &str, origin: &Path) -> Option<PathBuf> {
    let origin = OsStr::from_bytes(origin.as_os_str().as_bytes()).to_str()?;
    let path = directory
        .replace("${ORIGIN}", origin)
        .replace("$ORIGIN", origin);
    let usable = path.starts_with('/') && !path.contains('$');
    usable.then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_the_directory_of_the_file() {
        let origin = Path::new("/opt/x/bin");
        let found = expand("${ORIGIN}/../lib", origin);
        assert_eq!(found, Some(PathBuf::from("/opt/x/bin/../lib")));
        assert_eq!(expand("$ORIGIN", origin), Some(origin.to_path_buf()));
    }

    #[test]
    fn paths_that_ld_so_would_expand_further_are_left_out() {
        let origin = Path::new("/opt");
        assert_eq!(expand("/usr/$LIB", origin), None);
        assert_eq!(expand("relative", origin), None);
    }

    #[test]
    fn a_cut_file_is_refused() {
        let bytes = b"\x7fELF\x02\x01\x01";
        assert!(parse(bytes, Path::new("x")).is_err());
    }
}
