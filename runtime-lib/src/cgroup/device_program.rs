//! The device rules as a BPF program for a cgroup2 directory (BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! Assembled here instruction by instruction; loaded by sys/bpf.rs. For each kind of access
//! in a request the last matching rule decides, so the program goes through the rules from
//! the last to the first and strikes off what has been allowed.

use super::devices::{ALL, DeviceRules, Kind, Rule};
use crate::sys::bpf::Instruction;

// Registers: the verdict, the context, and what is loaded from it (struct bpf_cgroup_dev_ctx).
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Opcodes (linux/bpf_common.h, linux/bpf.h): class, width or operation, source.
const LOAD_WORD: u8 = 0x61;
const AND_CONSTANT: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE_CONSTANT: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

// linux/bpf.h: BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

const DENY: i32 = 0;
const ALLOW: i32 = 1;

/// The program. `None` when it would allow everything.
pub(super) fn assemble(rules: &DeviceRules) -> Option<Vec<Instruction>> {
    let (default, rules) = rules.since_reset();
    if default && rules.iter().all(|rule| rule.allow) {
        return None;
    }
    let mut program = vec![
        load(KIND, 0),
        load(ACCESS, 0),
        constant(AND_CONSTANT, KIND, 0xffff),
        constant(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    program.extend(rules.iter().rev().flat_map(block));
    program.extend(verdict(if default { ALLOW } else { DENY }));
    Some(program)
}

/// One rule: tests that skip it, and what it does when it matches.
fn block(rule: &Rule) -> Vec<Instruction> {
    let kind = match rule.pattern.kind {
        Kind::Block => BLOCK,
        Kind::Char => CHAR,
    };
    let major = rule.pattern.major.map(u32::cast_signed);
    let minor = rule.pattern.minor.map(u32::cast_signed);
    let tests = [(KIND, Some(kind)), (MAJOR, major), (MINOR, minor)];
    let tests: Vec<_> = tests
        .into_iter()
        .filter_map(|(r, n)| n.map(|n| (r, n)))
        .collect();
    let body = body(rule);
    let length = tests.len() + body.len();
    let skip = |(index, (register, number))| {
        let after = length - index - 1; // at most 9
        jump(JUMP_UNEQUAL, register, number, after as i16)
    };
    tests
        .into_iter()
        .enumerate()
        .map(skip)
        .chain(body)
        .collect()
}

fn body(rule: &Rule) -> Vec<Instruction> {
    let access = i32::from(rule.access);
    let steps = match (rule.allow, rule.access) {
        (true, ALL) => vec![],
        (true, _) => vec![
            constant(AND_CONSTANT, ACCESS, !access),
            jump(JUMP_UNEQUAL, ACCESS, 0, 2),
        ],
        (false, _) => vec![
            copy(SCRATCH, ACCESS),
            constant(AND_CONSTANT, SCRATCH, access),
            jump(JUMP_EQUAL, SCRATCH, 0, 2),
        ],
    };
    let verdict = verdict(if rule.allow { ALLOW } else { DENY });
    steps.into_iter().chain(verdict).collect()
}

fn verdict(value: i32) -> [Instruction; 2] {
    [
        constant(MOVE_CONSTANT, VERDICT, value),
        Instruction::new(EXIT, 0, 0, 0, 0),
    ]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, register, CONTEXT, offset, 0)
}

fn constant(code: u8, register: u8, value: i32) -> Instruction {
    Instruction::new(code, register, 0, 0, value)
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(MOVE, to, from, 0, 0)
}

fn jump(code: u8, register: u8, value: i32, skip: i16) -> Instruction {
    Instruction::new(code, register, 0, skip, value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::devices::tests::{allowed, rules};
    use super::*;

    /// Runs a program as the kernel does, for the few instructions that are used. `None`: it
    /// does something that the verifier would refuse.
    fn run(program: &[Instruction], context: [u32; 3]) -> Option<u64> {
        let mut registers = [None::<u64>; 11];
        let mut at = 0_usize;
        loop {
            let i = program.get(at)?;
            let (to, from) = (i.destination() as usize, i.source() as usize);
            at += 1;
            match i.code {
                LOAD_WORD => {
                    assert_eq!((from, i.offset % 4), (CONTEXT as usize, 0));
                    registers[to] = Some((*context.get(i.offset as usize / 4)?).into());
                }
                AND_CONSTANT => {
                    registers[to] = Some((registers[to]? as u32 & i.value as u32).into())
                }
                SHIFT_RIGHT => registers[to] = Some((registers[to]? as u32 >> i.value).into()),
                MOVE_CONSTANT => registers[to] = Some(i.value as i64 as u64),
                MOVE => registers[to] = Some(registers[from]?),
                JUMP_EQUAL if registers[to]? as u32 != i.value as u32 => {}
                JUMP_UNEQUAL if registers[to]? as u32 == i.value as u32 => {}
                JUMP_EQUAL | JUMP_UNEQUAL => at += usize::try_from(i.offset).ok()?,
                EXIT => return registers[VERDICT as usize],
                _ => return None,
            }
        }
    }

    fn decide(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let number = match kind {
            Kind::Block => BLOCK,
            Kind::Char => CHAR,
        };
        match assemble(rules) {
            None => true,
            Some(program) => {
                let request = u32::from(access) << 16 | number as u32;
                run(&program, [request, major, minor]).expect("a valid program") == 1
            }
        }
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_list_does(
            rules in rules(),
            char: bool,
            major in 0_u32..4,
            minor in 0_u32..4,
            access in 1..=ALL,
        ) {
            let kind = if char { Kind::Char } else { Kind::Block };
            prop_assert_eq!(
                decide(&rules, kind, major, minor, access),
                allowed(&rules, kind, major, minor, access)
            );
        }
    }

    #[test]
    fn s17_dev_mem_is_denied_without_any_rule() {
        let rules = DeviceRules::read(None).unwrap();
        for access in [2, 4, 6] {
            assert!(!decide(&rules, Kind::Char, 1, 1, access));
        }
        assert!(decide(&rules, Kind::Char, 1, 3, 6));
        assert!(decide(&rules, Kind::Char, 136, 77, 6));
        assert!(decide(&rules, Kind::Char, 1, 1, 1), "mknod opens nothing");
    }

    #[test]
    fn the_largest_numbers_are_told_apart() {
        let all = serde_json::json!([{
            "allow": true, "type": "c", "major": u32::MAX, "minor": u32::MAX - 1, "access": "r",
        }]);
        let rules = super::super::devices::tests::read(all).unwrap();
        assert!(decide(&rules, Kind::Char, u32::MAX, u32::MAX - 1, 2));
        assert!(!decide(&rules, Kind::Char, u32::MAX, u32::MAX, 2));
    }

    #[test]
    fn allowing_everything_needs_no_program() {
        let all = serde_json::json!([{"allow": true, "access": "rwm"}]);
        assert!(assemble(&super::super::devices::tests::read(all).unwrap()).is_none());
    }
}
