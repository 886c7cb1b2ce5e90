//! bpf(2), for device programs on cgroup2 directories: load, attach, replace, list, detach.
//!
//! Knows nothing of what the programs mean.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::{NixPath, Result};

use super::checked;

// linux/bpf.h: commands, types and flags; libc has none of them.
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// struct bpf_insn.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The opcode.
    pub code: u8,
    registers: u8,
    /// The jump's distance, or the load's offset.
    pub offset: i16,
    /// The constant.
    pub value: i32,
}

impl Instruction {
    /// `destination` and `source` are register numbers, 0 to 10.
    pub const fn new(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Self {
        // Two bit fields of four bits, whose order in the byte is the machine's.
        let registers = match cfg!(target_endian = "big") {
            true => destination << 4 | source,
            false => source << 4 | destination,
        };
        Instruction {
            code,
            registers,
            offset,
            value,
        }
    }
}

/// What a test that runs a program has to know.
#[cfg(test)]
impl Instruction {
    /// The number of the register that is read and changed.
    pub const fn destination(self) -> u8 {
        match cfg!(target_endian = "big") {
            true => self.registers >> 4,
            false => self.registers & 0xf,
        }
    }

    /// The number of the register that is only read.
    pub const fn source(self) -> u8 {
        match cfg!(target_endian = "big") {
            true => self.registers & 0xf,
            false => self.registers >> 4,
        }
    }
}

/// The beginning of union bpf_attr for PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The beginning of union bpf_attr for PROG_ATTACH and PROG_DETACH, `replaced` since Linux 5.6.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The beginning of union bpf_attr for PROG_QUERY, with room behind it: newer kernels write
/// their answers there whatever the size that they were given.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    room: [u64; 24],
}

/// The beginning of union bpf_attr for PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// # Safety
/// `T` is a beginning of union bpf_attr for this command (the kernel takes the rest as zero),
/// and every address in it is valid for what the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> Result<libc::c_long> {
    let size = size_of::<T>();
    // SAFETY: `attributes` is valid for `size` bytes; what it points to is the caller's promise.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) })
}

/// Loads a BPF_PROG_TYPE_CGROUP_DEVICE program. Needs CAP_SYS_ADMIN, or CAP_BPF and
/// CAP_NET_ADMIN, in the first user namespace. EINVAL or EACCES: the verifier refuses it.
pub fn load_device_program(program: &[Instruction]) -> Result<OwnedFd> {
    let mut attributes = Load {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name: *b"capsid_devices\0\0",
        ..Load::default()
    };
    // SAFETY: the instructions and the licence outlive the call; there is no log buffer.
    let fd = unsafe { bpf(PROG_LOAD, &mut attributes) }?;
    Ok(owned(fd))
}

/// The beginning of union bpf_attr for OBJ_PIN.
#[repr(C)]
#[derive(Default)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

/// Gives a program a name on a mounted bpffs, which keeps it loaded. EEXIST: it is taken; EPERM:
/// it has a dot, or the directory is of no bpffs.
pub fn pin(program: BorrowedFd<'_>, path: &std::path::Path) -> Result<()> {
    path.with_nix_path(|path| {
        let mut attributes = Pin {
            path: path.as_ptr() as u64,
            object: number(program),
            flags: 0,
        };
        // SAFETY: the path is a C string that outlives the call.
        unsafe { bpf(OBJ_PIN, &mut attributes) }.map(drop)
    })?
}

/// The device programs of one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Their ids, in the order in which they are asked.
    pub ids: Vec<u32>,
    /// Whether there may be several: without BPF_F_ALLOW_MULTI a second takes the first's place.
    flags: u32,
}

impl Attached {
    /// Whether there may be several.
    pub fn several(&self) -> bool {
        self.ids.is_empty() || self.flags & ALLOW_MULTI != 0
    }
}

/// Attaches a device program to a cgroup2 directory, beside those of other owners.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    attach(cgroup, program, ALLOW_MULTI, 0)
}

/// Attaches a device program in the place of the one with this id, or of the only one that can
/// be there, at once. ENOENT: that one is not there any more.
pub fn replace_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    attached: &Attached,
    id: u32,
) -> Result<()> {
    if !attached.several() {
        // The flags of the first are those that a second has to have.
        return attach(cgroup, program, attached.flags, 0);
    }
    let old = by_id(id)?;
    attach(cgroup, program, ALLOW_MULTI | REPLACE, number(old.as_fd()))
}

/// As others may have attached theirs: nothing can stand beside it.
#[cfg(test)]
pub fn attach_alone(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    attach(cgroup, program, 0, 0)
}

fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
    replaced: u32,
) -> Result<()> {
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        kind: CGROUP_DEVICE,
        flags,
        replaced,
    };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// The device programs that are attached to this very directory, at most 64.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Attached> {
    let mut ids = vec![0_u32; 64];
    let mut attributes = Query {
        target: number(cgroup),
        kind: CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    // SAFETY: `ids` has room for the `count` numbers that the kernel may write.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    ids.truncate(attributes.count as usize);
    Ok(Attached {
        ids,
        flags: attributes.attach_flags,
    })
}

/// Detaches the program with this id from the directory. ENOENT: it is not there any more.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, id: u32) -> Result<()> {
    let program = by_id(id)?;
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program.as_fd()),
        kind: CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

fn by_id(id: u32) -> Result<OwnedFd> {
    let mut attributes = ById {
        id,
        ..ById::default()
    };
    // SAFETY: the attributes hold no address.
    unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }.map(owned)
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}
