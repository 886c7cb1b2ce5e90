//! Writes classic BPF from its end to its beginning: what is jumped to is there before what
//! jumps, so that every distance is known. It must not know what the program is about.

use crate::sys::seccomp::Instruction;

// linux/bpf_common.h and linux/filter.h.
pub const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
pub const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
pub const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
pub const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
pub const IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
pub const IF_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
pub const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The furthest that a test jumps.
const REACH: usize = u8::MAX as usize;

/// An instruction that can be jumped to, counted from the program's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

/// A program under construction.
#[derive(Debug, Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    /// The nearest return of each value.
    returns: Vec<(u32, Place)>,
}

impl Assembler {
    fn push(&mut self, code: u16, value: u32, on_true: u8, on_false: u8) -> Place {
        self.reversed.push(Instruction {
            code,
            on_true,
            on_false,
            value,
        });
        Place(self.reversed.len() - 1)
    }

    /// How many instructions lie between the next one to be written and `place`.
    fn distance(&self, place: Place) -> usize {
        self.reversed.len() - 1 - place.0
    }

    /// The place, or a jump to it that the next few instructions can reach.
    fn near(&mut self, place: Place) -> Place {
        match self.distance(place) {
            // The other branch of the same test may need a jump of its own.
            distance if distance < REACH => place,
            distance => self.push(JUMP, distance as u32, 0, 0),
        }
    }

    /// A return of this value: the nearest one, or another.
    pub fn give(&mut self, value: u32) -> Place {
        let known = self.returns.iter().position(|(known, _)| *known == value);
        if let Some((_, place)) = known.and_then(|at| self.returns.get(at))
            && self.distance(*place) < REACH
        {
            return *place;
        }
        let place = self.push(RETURN, value, 0, 0);
        match known.and_then(|at| self.returns.get_mut(at)) {
            Some(entry) => entry.1 = place,
            None => self.returns.push((value, place)),
        }
        place
    }

    /// A test of the accumulator against a constant.
    pub fn test(&mut self, code: u16, value: u32, on_true: Place, on_false: Place) -> Place {
        if on_true == on_false {
            return on_true;
        }
        let on_true = self.near(on_true);
        let on_false = self.near(on_false);
        let (on_true, on_false) = (self.distance(on_true), self.distance(on_false));
        self.push(code, value, on_true as u8, on_false as u8)
    }

    /// An instruction that goes on with `next`.
    pub fn then(&mut self, code: u16, value: u32, next: Place) -> Place {
        if self.distance(next) > 0 {
            let distance = self.distance(next) as u32;
            self.push(JUMP, distance, 0, 0);
        }
        self.push(code, value, 0, 0)
    }

    /// The program, from the instruction that was written last.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}
