//! Compiled seccomp filters: the one that a container was created with, for exec, and a few
//! that were compiled lately, for the next container with the same profile.
//!
//! Both are files of one kind. It holds all that it was compiled from, which is compared and
//! not only hashed: nobody gets the filter of another profile, whatever that one says. The
//! lately compiled lie in `.seccomp` of the state root (no id begins with a dot), which only
//! the caller writes, as it alone writes the frozen configurations there; on the tmpfs that
//! /run is they go with the machine. There are at most [`SLOTS`], each found by the hash of
//! its profile and replaced whole by rename(2): nothing is to be swept, and a file that was cut
//! short or damaged has the wrong sum and counts as none.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;

use super::store::StateDir;
use crate::error::Result;
use crate::seccomp::{Filter, MOST_INSTRUCTIONS, native};
use crate::sys::seccomp::Instruction;

/// The file of a container, and the folder in the state root.
pub const SECCOMP: &str = "seccomp";
const FOLDER: &str = ".seccomp";

/// How many filters are kept for later.
const SLOTS: u64 = 64;

/// The largest file that is read: a profile of a thousand times what engines write.
const LARGEST: u64 = 1 << 20;

/// Goes up with every change of what a profile is compiled to; a test says when.
pub const COMPILER: u32 = 1;

const MAGIC: [u8; 8] = *b"capsidsf";
/// Magic, compiler, flags, sum, length of the profile.
const HEAD: usize = 8 + 4 + 4 + 8 + 8;

/// A filter that was compiled before.
pub struct Found {
    pub filter: Filter,
    file: File,
}

/// What a profile's program depends on.
pub fn profile_key(profile: &LinuxSeccomp) -> Vec<u8> {
    let parts = (
        native().word,
        profile.default_action(),
        profile.default_errno_ret(),
        profile.architectures(),
        profile.flags(),
        profile.syscalls(),
    );
    // Words and numbers that came from JSON: there is nothing that can't be written.
    serde_json::to_vec(&parts).unwrap_or_default()
}

/// The filter of a profile, if it was compiled lately.
pub fn find(root: &Path, key: &[u8]) -> Option<Found> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(slot(root, key))
        .ok()?;
    let about = file.metadata().ok()?;
    let ours = about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0;
    if !ours || !about.is_file() || about.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::with_capacity(about.len() as usize + 1);
    (&mut file).take(LARGEST).read_to_end(&mut bytes).ok()?;
    let (stored, filter) = parse(&bytes)?;
    (stored == key).then_some(Found { filter, file })
}

/// Keeps a container's filter in its state directory.
///
/// # Errors
/// The file can't be written.
pub fn freeze(
    state_dir: &StateDir,
    key: &[u8],
    filter: &Filter,
    found: Option<&Found>,
) -> Result<()> {
    if let Some(found) = found {
        // By the open file: the name may have got another one since.
        let open = PathBuf::from(format!("/proc/self/fd/{}", found.file.as_raw_fd()));
        if follow_link(&open, &state_dir.path().join(SECCOMP)).is_ok() {
            return Ok(());
        }
    }
    state_dir.write(SECCOMP, &bytes(key, filter))
}

/// The filter that a container was created with; None when its file is not there or damaged.
pub fn frozen(state_dir: &StateDir) -> Result<Option<Filter>> {
    let bytes = state_dir.read(SECCOMP)?;
    Ok(bytes.and_then(|bytes| parse(&bytes).map(|(_, filter)| filter)))
}

fn slot(root: &Path, key: &[u8]) -> PathBuf {
    let number = sum([key]) % SLOTS;
    root.join(FOLDER).join(number.to_string())
}

/// Keeps a filter that was frozen for the next container with this profile.
///
/// # Errors
/// There will be none to find; nothing else depends on it.
pub fn keep(state_dir: &StateDir, root: &Path, key: &[u8]) -> std::io::Result<()> {
    let own = &state_dir.path().join(SECCOMP);
    let slot = slot(root, key);
    let new = slot.with_extension("new");
    let folder = root.join(FOLDER);
    if !folder.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    }
    // What a create left that was killed between the two calls.
    if let Err(error) = std::fs::hard_link(own, &new) {
        std::fs::remove_file(&new).map_err(|_| error)?;
        std::fs::hard_link(own, &new)?;
    }
    std::fs::rename(&new, &slot)
}

/// linkat(2) with AT_SYMLINK_FOLLOW.
fn follow_link(open: &Path, name: &Path) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, AtFlags};
    nix::unistd::linkat(AT_FDCWD, open, AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)
}

fn bytes(key: &[u8], filter: &Filter) -> Vec<u8> {
    let mut program = Vec::with_capacity(filter.program.len() * 8);
    for it in &filter.program {
        program.extend(it.code.to_ne_bytes());
        program.extend([it.on_true, it.on_false]);
        program.extend(it.value.to_ne_bytes());
    }
    let mut bytes = Vec::with_capacity(HEAD + key.len() + program.len());
    bytes.extend(MAGIC);
    bytes.extend(COMPILER.to_ne_bytes());
    bytes.extend(filter.flags.to_ne_bytes());
    bytes.extend(sum([&filter.flags.to_ne_bytes(), key, &program]).to_ne_bytes());
    bytes.extend((key.len() as u64).to_ne_bytes());
    bytes.extend(key);
    bytes.extend(program);
    bytes
}

/// The profile and the filter that a file holds.
fn parse(bytes: &[u8]) -> Option<(&[u8], Filter)> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let word = |at: usize| Some(u32::from_ne_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(head.get(at..at + 8)?.try_into().ok()?));
    if head.get(..8)? != MAGIC || word(8)? != COMPILER {
        return None;
    }
    let flags = word(12)?;
    let (key, program) = rest.split_at_checked(usize::try_from(long(24)?).ok()?)?;
    let whole = program.len() % 8 == 0 && program.len() / 8 <= MOST_INSTRUCTIONS;
    if !whole || program.is_empty() || sum([&flags.to_ne_bytes(), key, program]) != long(16)? {
        return None;
    }
    let read = |it: &[u8]| {
        Some(Instruction {
            code: u16::from_ne_bytes(it.get(..2)?.try_into().ok()?),
            on_true: *it.get(2)?,
            on_false: *it.get(3)?,
            value: u32::from_ne_bytes(it.get(4..)?.try_into().ok()?),
        })
    };
    let program = program.chunks_exact(8).map(read).collect::<Option<_>>()?;
    Some((key, Filter { program, flags }))
}

/// FNV-1a, a word at a time: it finds damage, and slots. What must not be mistaken is compared.
fn sum<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let mix = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23)
    };
    let mut sum = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        sum = mix(sum, part.len() as u64);
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            sum = mix(sum, u64::from_le_bytes(word));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(value: u32) -> Filter {
        Filter {
            program: vec![Instruction {
                code: 6,
                on_true: 0,
                on_false: 0,
                value,
            }],
            flags: 4,
        }
    }

    fn place() -> (tempfile::TempDir, StateDir) {
        let root = tempfile::tempdir().unwrap();
        let id = super::super::ContainerId::new("web").unwrap();
        let state_dir = StateDir::claim(root.path(), &id).unwrap();
        (root, state_dir)
    }

    #[test]
    fn a_filter_is_found_by_its_profile_and_only_by_it() {
        let (root, state_dir) = place();
        assert!(find(root.path(), b"profile").is_none());
        freeze(&state_dir, b"profile", &filter(7), None).unwrap();
        keep(&state_dir, root.path(), b"profile").unwrap();
        assert_eq!(frozen(&state_dir).unwrap(), Some(filter(7)));
        let found = find(root.path(), b"profile").unwrap();
        assert_eq!(found.filter, filter(7));
        // Even one that was given the other's place.
        let other = slot(root.path(), b"another");
        std::fs::rename(slot(root.path(), b"profile"), other).unwrap();
        assert!(find(root.path(), b"another").is_none());
    }

    #[test]
    fn the_next_container_gets_the_same_file() {
        let (root, state_dir) = place();
        freeze(&state_dir, b"profile", &filter(7), None).unwrap();
        keep(&state_dir, root.path(), b"profile").unwrap();
        let id = super::super::ContainerId::new("other").unwrap();
        let next = StateDir::claim(root.path(), &id).unwrap();
        let found = find(root.path(), b"profile").unwrap();
        freeze(&next, b"profile", &found.filter, Some(&found)).unwrap();
        let inode = |dir: &StateDir| std::fs::metadata(dir.path().join(SECCOMP)).unwrap().ino();
        assert_eq!(inode(&state_dir), inode(&next));
        // And keeps it when the place is given to another profile.
        std::fs::remove_file(slot(root.path(), b"profile")).unwrap();
        assert_eq!(frozen(&next).unwrap(), Some(filter(7)));
    }

    #[test]
    fn what_is_damaged_cut_or_somebody_elses_is_none() {
        let (root, state_dir) = place();
        freeze(&state_dir, b"profile", &filter(7), None).unwrap();
        keep(&state_dir, root.path(), b"profile").unwrap();
        let path = slot(root.path(), b"profile");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            assert!(find(root.path(), b"profile").is_none(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(find(root.path(), b"profile").is_none(), "{at} bytes");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(find(root.path(), b"profile").is_some());
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, open_to_all).unwrap();
        assert!(find(root.path(), b"profile").is_none());
    }

    #[test]
    fn what_a_killed_create_left_is_no_obstacle() {
        let (root, state_dir) = place();
        freeze(&state_dir, b"profile", &filter(7), None).unwrap();
        keep(&state_dir, root.path(), b"profile").unwrap();
        let path = slot(root.path(), b"profile");
        std::fs::rename(&path, path.with_extension("new")).unwrap();
        freeze(&state_dir, b"profile", &filter(8), None).unwrap();
        keep(&state_dir, root.path(), b"profile").unwrap();
        assert_eq!(find(root.path(), b"profile").unwrap().filter, filter(8));
    }

    #[test]
    fn the_program_of_a_profile_is_the_one_that_this_compiler_is_known_for() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../fixtures/seccomp/docker.json"
        );
        let profile: LinuxSeccomp =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let abi = crate::seccomp::of_word("SCMP_ARCH_X86_64").unwrap();
        let compiled = crate::seccomp::compile(&profile, abi);
        let program = bytes(&[], &compiled.filter);
        let known = (COMPILER, sum([&program[HEAD..]]));
        assert_eq!(
            known,
            (1, 12_424_323_168_125_409_328),
            "another program: COMPILER has to go up, then this number"
        );
    }
}
