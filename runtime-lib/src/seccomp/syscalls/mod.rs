//! The numbers of the system calls, for every ABI: names by the kernel's headers, numbers by
//! table. Where they come from is in generate.sh, beside this file.

mod table;

use table::{ARM_PRIVATE, NUMBERS};

/// "There is no such call": no number comes near it.
const NONE: u16 = u16::MAX;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    X86_64,
    X86,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64n32,
    Ppc,
    Ppc64,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
}

/// The first number of 32-bit Arm's private calls.
pub const ARM_PRIVATE_BASE: u32 = 0xf_0000;

/// A system call that some ABI has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    numbers: Option<&'static [u16; 18]>,
    arm_private: Option<u32>,
}

/// Looks a name up; None where no ABI has such a call.
pub fn find(name: &str) -> Option<Syscall> {
    let row = NUMBERS.binary_search_by_key(&name, |(known, _)| known).ok();
    let numbers = row
        .and_then(|row| NUMBERS.get(row))
        .map(|(_, numbers)| numbers);
    let private = ARM_PRIVATE.iter().find(|(known, _)| *known == name);
    let arm_private = private.map(|(_, number)| *number);
    (numbers.is_some() || arm_private.is_some()).then_some(Syscall {
        numbers,
        arm_private,
    })
}

impl Syscall {
    /// Its number in this column, x32's without its bit; None where it does not exist.
    pub fn number(self, column: Column) -> Option<u32> {
        if column == Column::Arm && self.arm_private.is_some() {
            return self.arm_private;
        }
        let number = *self.numbers?.get(column as usize)?;
        (number != NONE).then(|| number.into())
    }
}

/// Every name of the table.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    NUMBERS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_each_is_there_once() {
        assert!(NUMBERS.is_sorted_by(|one, other| one.0 < other.0));
    }

    #[test]
    fn columns_are_where_their_names_say() {
        let columns = table::COLUMNS;
        let word = |column: Column| columns.get(column as usize).copied();
        assert_eq!(word(Column::X86_64), Some("x86_64"));
        assert_eq!(word(Column::Mips64n32), Some("mips64n32"));
        assert_eq!(word(Column::S390x), Some("s390x"));
        assert_eq!(word(Column::Loongarch64), Some("loongarch64"));
        assert_eq!(word(Column::Sh), Some("sh"));
    }

    #[test]
    fn the_numbers_are_those_of_this_machines_libc() {
        let column = super::super::abi::native().column;
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execve", libc::SYS_execve),
            ("seccomp", libc::SYS_seccomp),
            ("clone3", libc::SYS_clone3),
            ("mseal", libc::SYS_mseal),
        ] {
            let found = find(name).unwrap().number(column);
            assert_eq!(found.map(libc::c_long::from), Some(number), "{name}");
        }
        assert_eq!(find("no_such_call"), None);
    }

    #[test]
    fn private_calls_of_arm_are_behind_all_others() {
        let cacheflush = find("cacheflush").unwrap();
        assert_eq!(cacheflush.number(Column::Arm), Some(0xf_0002));
        assert_eq!(cacheflush.number(Column::M68k), Some(123));
        assert_eq!(find("set_tls").unwrap().number(Column::X86_64), None);
    }
}
