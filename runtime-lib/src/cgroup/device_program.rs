//! The device rules as a BPF program for a cgroup2 directory (BPF_PROG_TYPE_CGROUP_DEVICE).
//!
//! For each kind of access in a request the last matching rule decides, so the program goes
//! from the last rule to the first and strikes off what has been allowed. Neighbours with the
//! same verdict may change places; they are sorted into a tree by kind and major number,
//! because the kernel's verifier takes about 5 µs for every instruction. Loaded elsewhere.

use std::collections::BTreeMap;

use super::devices::{ALL, DeviceRules, Kind, Rule};
use crate::error::{Code, Error, Result};
use crate::sys::bpf::Instruction;

// Registers: the verdict, the context, and what is loaded from it (struct bpf_cgroup_dev_ctx).
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Opcodes (linux/bpf_common.h, linux/bpf.h): class, width or operation, source.
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb7;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_ANY: u8 = 0x46;
const EXIT: u8 = 0x95;

/// The program. `None` when it would allow everything.
///
/// # Errors
/// [`Code::InvalidConfig`] when there are so many rules that a jump cannot reach over them
/// (beyond ten thousand).
pub(super) fn assemble(rules: &DeviceRules) -> Result<Option<Vec<Instruction>>> {
    let (default, rules) = rules.since_reset();
    if default && rules.iter().all(|rule| rule.allow) {
        return Ok(None);
    }
    let mut program = Assembly::begin();
    for run in rules.chunk_by(|a, b| a.allow == b.allow).rev() {
        // A run can settle everything; what came before it has no say.
        if program.reached {
            program.run(run);
        }
    }
    let code = program.finish(default);
    code.map(Some).ok_or_else(|| {
        Error::new(Code::InvalidConfig, "too many device rules").at("/linux/resources/devices")
    })
}

/// A place to jump to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

const DENY: Label = Label(0);
const ALLOW: Label = Label(1);

/// What is known of a label.
#[derive(Clone, Copy, Default)]
struct Place {
    at: Option<usize>,
    wanted: bool,
}

/// A program in the making.
struct Assembly {
    code: Vec<Instruction>,
    places: Vec<Place>,
    jumps: Vec<(usize, Label)>,
    /// Whether the next instruction can be reached: the verifier refuses what cannot.
    reached: bool,
}

/// The access bits of a run's rules for one kind of device, by major and minor number.
type Numbers = BTreeMap<Option<u32>, BTreeMap<Option<u32>, u8>>;

impl Assembly {
    fn begin() -> Assembly {
        let load = |register, offset| Instruction::new(LOAD_WORD, register, CONTEXT, offset, 0);
        let constant = |code, register, value| Instruction::new(code, register, 0, 0, value);
        Assembly {
            code: vec![
                load(KIND, 0),
                load(ACCESS, 0),
                constant(AND, KIND, 0xffff),
                constant(SHIFT_RIGHT, ACCESS, 16),
                load(MAJOR, 4),
                load(MINOR, 8),
            ],
            places: vec![Place::default(); 2],
            jumps: Vec::new(),
            reached: true,
        }
    }

    /// Rules with one verdict.
    fn run(&mut self, rules: &[Rule]) {
        let verdict = match rules.first() {
            Some(rule) if rule.allow => ALLOW,
            _ => DENY,
        };
        let mut block = numbers(rules, Kind::Block);
        let mut char = numbers(rules, Kind::Char);
        let both = take_wildcard(&mut block) & take_wildcard(&mut char);
        self.decide(verdict, both);
        for kind in [Kind::Block, Kind::Char] {
            let mut numbers = numbers(rules, kind);
            let wide = take_wildcard(&mut numbers) & !both;
            if self.reached && (wide != 0 || !numbers.is_empty()) {
                let next = self.label();
                self.jump(JUMP_UNEQUAL, KIND, kind.number(), next);
                self.decide(verdict, wide);
                self.majors(verdict, &numbers);
                self.place(next);
            }
        }
    }

    fn majors(&mut self, verdict: Label, numbers: &Numbers) {
        for (major, minors) in numbers {
            let whole = minors.get(&None) == Some(&ALL);
            match major {
                _ if !self.reached => return,
                Some(major) if whole => {
                    self.jump(JUMP_EQUAL, MAJOR, major.cast_signed(), verdict);
                }
                Some(major) => {
                    let next = self.label();
                    self.jump(JUMP_UNEQUAL, MAJOR, major.cast_signed(), next);
                    self.minors(verdict, minors);
                    self.place(next);
                }
                None => self.minors(verdict, minors),
            }
        }
    }

    fn minors(&mut self, verdict: Label, minors: &BTreeMap<Option<u32>, u8>) {
        for (minor, &access) in minors {
            match minor {
                None => self.decide(verdict, access),
                Some(minor) if access == ALL => {
                    self.jump(JUMP_EQUAL, MINOR, minor.cast_signed(), verdict);
                }
                Some(minor) => {
                    let next = self.label();
                    self.jump(JUMP_UNEQUAL, MINOR, minor.cast_signed(), next);
                    self.decide(verdict, access);
                    self.place(next);
                }
            }
        }
    }

    /// A rule matches: strikes off what it allows, or denies what is left of what it denies.
    fn decide(&mut self, verdict: Label, access: u8) {
        match (verdict, access) {
            (_, 0) => {}
            (_, ALL) => {
                self.jump(JUMP, 0, 0, verdict);
                self.reached = false;
            }
            (ALLOW, _) => {
                let rest = !i32::from(access);
                self.code.push(Instruction::new(AND, ACCESS, 0, 0, rest));
                self.jump(JUMP_EQUAL, ACCESS, 0, ALLOW);
            }
            (_, _) => self.jump(JUMP_ANY, ACCESS, access.into(), DENY),
        }
    }

    fn label(&mut self) -> Label {
        self.places.push(Place::default());
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            place.at = Some(self.code.len());
            self.reached |= place.wanted;
        }
    }

    fn jump(&mut self, code: u8, register: u8, value: i32, to: Label) {
        if let Some(place) = self.places.get_mut(to.0) {
            place.wanted = true;
        }
        self.jumps.push((self.code.len(), to));
        self.code
            .push(Instruction::new(code, register, 0, 0, value));
    }

    fn verdict(&mut self, label: Label) {
        self.place(label);
        if self.reached {
            let value = i32::from(label == ALLOW);
            self.code.push(Instruction::new(MOVE, VERDICT, 0, 0, value));
            self.code.push(Instruction::new(EXIT, 0, 0, 0, 0));
            self.reached = false;
        }
    }

    /// Ends with the default and the other verdict, and fills in the distances of the jumps.
    fn finish(mut self, default: bool) -> Option<Vec<Instruction>> {
        let verdicts = if default {
            [ALLOW, DENY]
        } else {
            [DENY, ALLOW]
        };
        verdicts.into_iter().for_each(|label| self.verdict(label));
        for (from, to) in self.jumps {
            let place = self.places.get(to.0)?.at?;
            let distance = i16::try_from(place.checked_sub(from + 1)?).ok()?;
            self.code.get_mut(from)?.offset = distance;
        }
        Some(self.code)
    }
}

fn numbers(rules: &[Rule], kind: Kind) -> Numbers {
    let mut numbers = Numbers::new();
    for rule in rules.iter().filter(|rule| rule.pattern.kind == kind) {
        let minors = numbers.entry(rule.pattern.major).or_default();
        *minors.entry(rule.pattern.minor).or_default() |= rule.access;
    }
    numbers
}

/// Takes out what holds for every number.
fn take_wildcard(numbers: &mut Numbers) -> u8 {
    let Some(minors) = numbers.get_mut(&None) else {
        return 0;
    };
    let access = minors.remove(&None).unwrap_or_default();
    if minors.is_empty() {
        numbers.remove(&None);
    }
    access
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
                AND => registers[to] = Some((registers[to]? as u32 & i.value as u32).into()),
                SHIFT_RIGHT => registers[to] = Some((registers[to]? as u32 >> i.value).into()),
                MOVE => registers[to] = Some(i.value as i64 as u64),
                JUMP_EQUAL if registers[to]? as u32 != i.value as u32 => {}
                JUMP_UNEQUAL if registers[to]? as u32 == i.value as u32 => {}
                JUMP_ANY if registers[to]? as u32 & i.value as u32 == 0 => {}
                JUMP | JUMP_EQUAL | JUMP_UNEQUAL | JUMP_ANY => {
                    at += usize::try_from(i.offset).ok()?;
                }
                EXIT => return registers[VERDICT as usize],
                _ => return None,
            }
        }
    }

    fn decide(rules: &DeviceRules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        match assemble(rules).unwrap() {
            None => true,
            Some(program) => {
                let request = u32::from(access) << 16 | kind.number() as u32;
                run(&program, [request, major, minor]).expect("a valid program") == 1
            }
        }
    }

    /// Every instruction that can be reached, as the verifier counts them.
    fn reachable(program: &[Instruction]) -> usize {
        let mut seen = vec![false; program.len()];
        let mut todo = vec![0];
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let target = at + 1 + usize::try_from(program[at].offset).unwrap();
            match program[at].code {
                EXIT => {}
                JUMP => todo.push(target),
                JUMP_EQUAL | JUMP_UNEQUAL | JUMP_ANY => todo.extend([at + 1, target]),
                _ => todo.push(at + 1),
            }
        }
        seen.into_iter().filter(|seen| *seen).count()
    }

    proptest! {
        #[test]
        fn no_instruction_is_out_of_reach(rules in rules()) {
            if let Some(program) = assemble(&rules).unwrap() {
                prop_assert_eq!(reachable(&program), program.len());
            }
        }

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
        let rules = DeviceRules::read(None, &[]).unwrap();
        for access in [2, 4, 6] {
            assert!(!decide(&rules, Kind::Char, 1, 1, access));
        }
        assert!(decide(&rules, Kind::Char, 1, 3, 6));
        assert!(decide(&rules, Kind::Char, 136, 77, 6));
        assert!(decide(&rules, Kind::Char, 1, 1, 1), "mknod opens nothing");
    }

    #[test]
    fn the_standard_rules_make_a_short_program() {
        let rules = DeviceRules::read(None, &[]).unwrap();
        assert_eq!(assemble(&rules).unwrap().unwrap().len(), 25);
    }

    #[test]
    fn more_rules_than_a_jump_can_span_are_refused() {
        let rule = |n: u32| serde_json::json!({"allow": true, "type": "c", "major": n % 2, "minor": n, "access": "r"});
        let many = serde_json::Value::Array((0..40_000).map(rule).collect());
        let rules = super::super::devices::tests::read(many).unwrap();
        assert_eq!(
            assemble(&rules).unwrap_err().tail(),
            "too many device rules"
        );
    }

    #[test]
    fn the_largest_numbers_are_told_apart() {
        let all = serde_json::json!([{
            "allow": true, "type": "c", "major": u32::MAX - 1, "minor": u32::MAX - 2, "access": "r",
        }]);
        let rules = super::super::devices::tests::read(all).unwrap();
        assert!(decide(&rules, Kind::Char, u32::MAX - 1, u32::MAX - 2, 2));
        assert!(!decide(&rules, Kind::Char, u32::MAX - 1, u32::MAX - 1, 2));
    }

    #[test]
    fn allowing_everything_needs_no_program() {
        let all = serde_json::json!([{"allow": true, "access": "rwm"}]);
        assert!(
            assemble(&super::super::devices::tests::read(all).unwrap())
                .unwrap()
                .is_none()
        );
    }
}
