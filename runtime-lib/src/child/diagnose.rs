//! Why a file could not be executed, as far as the file itself shows it: which interpreter or
//! loader it names, which machine it is for, which mount it lies on. Asked only after a refusal,
//! in fixed buffers.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::report::{Needs, Refused};
use crate::sys::fd::retry;

/// The first line of a script and the program headers of an executable lie in here.
const BEGINNING: usize = 4096;

/// Adds to the refusal of access(2) that the mount is why, if it is: what the file names is not
/// asked about there.
pub(super) fn explain_access(refused: Refused, path: &CStr) -> Refused {
    match refused.errno {
        Errno::EACCES if lies_on_noexec(path) => refused.needing(Needs::ExecMount, b""),
        _ => refused,
    }
}

/// Adds to the refusal of execve(2) what the file needs, if that can be told.
pub(super) fn explain(refused: Refused, path: &CStr) -> Refused {
    match refused.errno {
        Errno::EACCES if lies_on_noexec(path) => refused.needing(Needs::ExecMount, b""),
        Errno::ENOENT | Errno::ENOEXEC | Errno::EACCES | Errno::ELIBBAD => {
            let mut bytes = [0; BEGINNING];
            match beginning(path, &mut bytes) {
                Some(bytes) => match needs(bytes) {
                    Some((what, name)) => refused.needing(what, name),
                    None => refused,
                },
                None => refused,
            }
        }
        _ => refused,
    }
}

fn lies_on_noexec(path: &CStr) -> bool {
    statvfs(path).is_ok_and(|file_system| file_system.flags().contains(FsFlags::ST_NOEXEC))
}

/// The first bytes of an ordinary file that may be read.
fn beginning<'b>(path: &CStr, bytes: &'b mut [u8; BEGINNING]) -> Option<&'b [u8]> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).ok()?;
    if super::paths::kind(file.as_fd()).ok()?.1 != SFlag::S_IFREG {
        return None;
    }
    let count = retry(|| nix::unistd::read(&file, &mut bytes[..])).ok()?;
    bytes.get(..count)
}

/// What a file that begins like this can't be executed without.
fn needs(bytes: &[u8]) -> Option<(Needs, &[u8])> {
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let blank = |byte: &u8| matches!(*byte, b' ' | b'\t');
        let mut words = line.split(blank).filter(|word| !word.is_empty());
        return words.next().map(|name| (Needs::Interpreter, name));
    }
    let elf = Elf::of(bytes)?;
    match elf.machine == OWN.machine && elf.wide == OWN.wide {
        true => elf.interpreter(bytes).map(|name| (Needs::Loader, name)),
        false => Some((Needs::Machine, machine(elf.machine).as_bytes())),
    }
}

/// What is read of an ELF header (elf(5)).
struct Elf {
    /// 64 bits.
    wide: bool,
    machine: u16,
}

const OWN: Elf = Elf {
    wide: cfg!(target_pointer_width = "64"),
    machine: if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        0
    },
};

/// PT_INTERP
const INTERPRETER: u64 = 3;

impl Elf {
    /// Of the other byte order only the machine can be told, which is another one then.
    fn of(bytes: &[u8]) -> Option<Elf> {
        if !bytes.starts_with(b"\x7fELF") {
            return None;
        }
        let machine = [*bytes.get(18)?, *bytes.get(19)?];
        Some(Elf {
            wide: bytes.get(4) == Some(&2),
            machine: match bytes.get(5) {
                Some(2) => u16::from_be_bytes(machine),
                _ => u16::from_le_bytes(machine),
            },
        })
    }

    fn interpreter<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        // Offsets of e_phoff, e_phentsize and e_phnum, then of p_offset and p_filesz.
        let (table, size, count, offset, length) = match self.wide {
            true => ((32, 8), 54, 56, (8, 8), (32, 8)),
            false => ((28, 4), 42, 44, (4, 4), (16, 4)),
        };
        let begin = number(bytes, table.0, table.1)?;
        let size = number(bytes, size, 2)?;
        for n in 0..number(bytes, count, 2)? {
            let header = usize::try_from(begin.checked_add(n.checked_mul(size)?)?).ok()?;
            let header = bytes.get(header..)?;
            if number(header, 0, 4)? == INTERPRETER {
                let from = usize::try_from(number(header, offset.0, offset.1)?).ok()?;
                let length = usize::try_from(number(header, length.0, length.1)?).ok()?;
                let name = bytes.get(from..from.checked_add(length)?)?;
                return name.split(|byte| *byte == 0).next();
            }
        }
        None
    }
}

/// A number of `size` bytes, in this machine's order.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let part = bytes.get(at..at + size)?;
    let mut whole = [0; 8];
    match cfg!(target_endian = "little") {
        true => whole.get_mut(..size)?.copy_from_slice(part),
        false => whole.get_mut(8 - size..)?.copy_from_slice(part),
    }
    Some(u64::from_ne_bytes(whole))
}

/// e_machine, as uname(1) names machines.
fn machine(number: u16) -> &'static str {
    match number {
        3 => "i686",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        _ => "another machine",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(
            needs(b"#!/bin/sh\nexit"),
            Some((Needs::Interpreter, &b"/bin/sh"[..]))
        );
        assert_eq!(
            needs(b"#! /usr/bin/env python\n"),
            Some((Needs::Interpreter, &b"/usr/bin/env"[..]))
        );
        assert_eq!(needs(b"#!"), None);
        assert_eq!(needs(b"exit 1\n"), None);
    }

    #[test]
    fn a_program_names_its_loader_and_its_machine() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let (what, name) = needs(&own[..BEGINNING]).unwrap_or((Needs::Loader, b"/ld"));
        assert_eq!(what, Needs::Loader);
        assert!(name.windows(3).any(|part| part == b"/ld"), "{name:?}");
        let mut other = own[..BEGINNING].to_vec();
        other[18] = if OWN.machine == 183 { 62 } else { 183 };
        let (what, name) = needs(&other).unwrap();
        assert_eq!(what, Needs::Machine);
        assert!(["aarch64", "x86_64"].contains(&std::str::from_utf8(name).unwrap()));
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..256), elf: bool) {
            if elf && bytes.len() > 20 {
                bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
                bytes[18..20].copy_from_slice(&OWN.machine.to_le_bytes());
            }
            needs(&bytes);
        }
    }
}
