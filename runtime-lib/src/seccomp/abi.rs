//! The architectures that a profile may name: what the kernel calls them, whose numbers they
//! use, and which of them one machine can run. It must not know any system call.

use oci_spec::runtime::Arch;

use super::syscalls::Column;

/// The bit by which an x32 call differs from one of x86-64 (asm/unistd.h: __X32_SYSCALL_BIT).
pub const X32_BIT: u32 = 0x4000_0000;

/// The kernels that a binary can find itself on: the ABIs of one family occur together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    X86,
    Arm,
    Mips,
    MipsEl,
    Ppc,
    PpcLe,
    S390,
    Parisc,
    Riscv,
    LoongArch,
    M68k,
    Sh,
    ShEb,
}

impl Family {
    /// asm/errno.h: two architectures have their own.
    pub fn enosys(self) -> u32 {
        match self {
            Family::Mips | Family::MipsEl => 89,
            Family::Parisc => 251,
            _ => 38,
        }
    }

    /// Whether the first word of a 64-bit argument is the upper one.
    pub fn is_big_endian(self) -> bool {
        matches!(
            self,
            Family::Mips
                | Family::Ppc
                | Family::S390
                | Family::Parisc
                | Family::M68k
                | Family::ShEb
        )
    }
}

/// One way of calling a kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Abi {
    pub arch: Arch,
    /// The word of the configuration.
    pub word: &'static str,
    /// seccomp_data.arch (linux/audit.h); x32 has that of x86-64.
    pub audit: u32,
    pub column: Column,
    /// Arguments are 64 bits wide; else the upper half is not looked at.
    pub wide: bool,
    pub family: Family,
}

const fn abi(
    arch: Arch,
    word: &'static str,
    audit: u32,
    column: Column,
    wide: bool,
    family: Family,
) -> Abi {
    Abi {
        arch,
        word,
        audit,
        column,
        wide,
        family,
    }
}

/// Every architecture of config-linux.md, "Seccomp"; the first of a family is its widest.
#[rustfmt::skip]
pub const ABIS: [Abi; 23] = [
    abi(Arch::ScmpArchX86_64, "SCMP_ARCH_X86_64", 0xc000_003e, Column::X86_64, true, Family::X86),
    abi(Arch::ScmpArchX86, "SCMP_ARCH_X86", 0x4000_0003, Column::X86, false, Family::X86),
    abi(Arch::ScmpArchX32, "SCMP_ARCH_X32", 0xc000_003e, Column::X32, false, Family::X86),
    abi(Arch::ScmpArchAarch64, "SCMP_ARCH_AARCH64", 0xc000_00b7, Column::Aarch64, true, Family::Arm),
    abi(Arch::ScmpArchArm, "SCMP_ARCH_ARM", 0x4000_0028, Column::Arm, false, Family::Arm),
    abi(Arch::ScmpArchMips64, "SCMP_ARCH_MIPS64", 0x8000_0008, Column::Mips64, true, Family::Mips),
    abi(Arch::ScmpArchMips64n32, "SCMP_ARCH_MIPS64N32", 0xa000_0008, Column::Mips64n32, false, Family::Mips),
    abi(Arch::ScmpArchMips, "SCMP_ARCH_MIPS", 0x0000_0008, Column::Mips, false, Family::Mips),
    abi(Arch::ScmpArchMipsel64, "SCMP_ARCH_MIPSEL64", 0xc000_0008, Column::Mips64, true, Family::MipsEl),
    abi(Arch::ScmpArchMipsel64n32, "SCMP_ARCH_MIPSEL64N32", 0xe000_0008, Column::Mips64n32, false, Family::MipsEl),
    abi(Arch::ScmpArchMipsel, "SCMP_ARCH_MIPSEL", 0x4000_0008, Column::Mips, false, Family::MipsEl),
    abi(Arch::ScmpArchPpc64, "SCMP_ARCH_PPC64", 0x8000_0015, Column::Ppc64, true, Family::Ppc),
    abi(Arch::ScmpArchPpc, "SCMP_ARCH_PPC", 0x0000_0014, Column::Ppc, false, Family::Ppc),
    abi(Arch::ScmpArchPpc64le, "SCMP_ARCH_PPC64LE", 0xc000_0015, Column::Ppc64, true, Family::PpcLe),
    abi(Arch::ScmpArchS390x, "SCMP_ARCH_S390X", 0x8000_0016, Column::S390x, true, Family::S390),
    abi(Arch::ScmpArchS390, "SCMP_ARCH_S390", 0x0000_0016, Column::S390, false, Family::S390),
    abi(Arch::ScmpArchParisc64, "SCMP_ARCH_PARISC64", 0x8000_000f, Column::Parisc64, true, Family::Parisc),
    abi(Arch::ScmpArchParisc, "SCMP_ARCH_PARISC", 0x0000_000f, Column::Parisc, false, Family::Parisc),
    abi(Arch::ScmpArchRiscv64, "SCMP_ARCH_RISCV64", 0xc000_00f3, Column::Riscv64, true, Family::Riscv),
    abi(Arch::ScmpArchLoongarch64, "SCMP_ARCH_LOONGARCH64", 0xc000_0102, Column::Loongarch64, true, Family::LoongArch),
    abi(Arch::ScmpArchM68k, "SCMP_ARCH_M68K", 0x0000_0004, Column::M68k, false, Family::M68k),
    abi(Arch::ScmpArchSh, "SCMP_ARCH_SH", 0x4000_002a, Column::Sh, false, Family::Sh),
    abi(Arch::ScmpArchSheb, "SCMP_ARCH_SHEB", 0x0000_002a, Column::Sh, false, Family::ShEb),
];

/// The ABI of an architecture; None for SCMP_ARCH_NATIVE.
pub fn of(arch: Arch) -> Option<&'static Abi> {
    ABIS.iter().find(|abi| abi.arch == arch)
}

/// The ABI that this very program uses.
pub fn native() -> &'static Abi {
    const WORD: &str = if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
        "SCMP_ARCH_X32"
    } else if cfg!(target_arch = "x86_64") {
        "SCMP_ARCH_X86_64"
    } else if cfg!(target_arch = "x86") {
        "SCMP_ARCH_X86"
    } else if cfg!(target_arch = "aarch64") {
        "SCMP_ARCH_AARCH64"
    } else if cfg!(target_arch = "arm") {
        "SCMP_ARCH_ARM"
    } else if cfg!(target_arch = "riscv64") {
        "SCMP_ARCH_RISCV64"
    } else if cfg!(target_arch = "loongarch64") {
        "SCMP_ARCH_LOONGARCH64"
    } else if cfg!(target_arch = "s390x") {
        "SCMP_ARCH_S390X"
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        "SCMP_ARCH_PPC64LE"
    } else if cfg!(target_arch = "powerpc64") {
        "SCMP_ARCH_PPC64"
    } else if cfg!(all(target_arch = "powerpc", target_endian = "big")) {
        "SCMP_ARCH_PPC"
    } else if cfg!(all(target_arch = "mips64", target_endian = "little")) {
        "SCMP_ARCH_MIPSEL64"
    } else if cfg!(target_arch = "mips64") {
        "SCMP_ARCH_MIPS64"
    } else if cfg!(all(target_arch = "mips", target_endian = "little")) {
        "SCMP_ARCH_MIPSEL"
    } else if cfg!(target_arch = "mips") {
        "SCMP_ARCH_MIPS"
    } else if cfg!(target_arch = "m68k") {
        "SCMP_ARCH_M68K"
    } else {
        ""
    };
    const INDEX: usize = {
        let mut index = 0;
        while index < ABIS.len() && !same(ABIS[index].word, WORD) {
            index += 1;
        }
        assert!(index < ABIS.len(), "no system call table for this target");
        index
    };
    &ABIS[INDEX]
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_its_word_and_the_kernels_number() {
        for abi in &ABIS {
            assert_eq!(abi.arch.to_string(), abi.word);
            // oci-spec's own numbers are the kernel's but for x32, which has x86-64's.
            let x32 = abi.arch == Arch::ScmpArchX32;
            assert_eq!(abi.audit, abi.arch as u32 | u32::from(x32) << 31);
        }
    }

    #[test]
    fn this_machine_is_one_of_them() {
        assert_eq!(native().wide, cfg!(target_pointer_width = "64"));
        let big = cfg!(target_endian = "big");
        assert_eq!(native().family.is_big_endian(), big);
    }
}
