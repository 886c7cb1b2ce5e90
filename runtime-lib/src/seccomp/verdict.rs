//! Runs a filter as the kernel would: for what the planner has to know of it, and for tests.

use super::assembler::{AND, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, JUMP, LOAD, RETURN};
use crate::sys::seccomp::Instruction;

/// A call as a filter sees it: struct seccomp_data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

impl Call {
    /// The word at an offset of struct seccomp_data.
    fn word(&self, offset: u32, big_endian: bool) -> Option<u32> {
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            16..64 => {
                let argument = self.arguments.get((offset as usize - 16) / 8)?;
                let upper = (offset % 8 == 4) != big_endian;
                Some(if upper { argument >> 32 } else { *argument } as u32)
            }
            _ => None,
        }
    }
}

/// What the filter says of a call (SECCOMP_RET_*); None where it is no filter.
pub fn verdict(program: &[Instruction], call: &Call, big_endian: bool) -> Option<u32> {
    let (mut at, mut a) = (0, 0);
    loop {
        let it = program.get(at)?;
        let taken = match it.code {
            LOAD => {
                a = call.word(it.value, big_endian)?;
                0
            }
            AND => {
                a &= it.value;
                0
            }
            JUMP => it.value as usize,
            IF_EQUAL => branch(it, a == it.value),
            IF_GREATER => branch(it, a > it.value),
            IF_GREATER_OR_EQUAL => branch(it, a >= it.value),
            RETURN => return Some(it.value),
            _ => return None,
        };
        at += 1 + taken;
    }
}

fn branch(it: &Instruction, holds: bool) -> usize {
    if holds { it.on_true } else { it.on_false }.into()
}
