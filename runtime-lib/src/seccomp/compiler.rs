//! Rules → program: for every architecture a tree of ranges of numbers, in which neighbours
//! with the same verdict are one, and behind it the conditions on arguments.
//!
//! Which rule decides, where several match: an unconditional one before all conditional ones
//! (libseccomp has it so), else the first in the profile.

use super::abi::{Abi, Family, X32_BIT};
use super::assembler::{AND, Assembler, IF_EQUAL, IF_GREATER, IF_GREATER_OR_EQUAL, LOAD, Place};
use super::rules::{Condition, Rule, Rules, Test};
use super::syscalls::{self, ARM_PRIVATE_BASE, Column};
use crate::sys::seccomp::Instruction;

// struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What has a number from `start` up to the next range gets this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    decision: Decision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Return(u32),
    /// The conditions of [`Compiler::blocks`] at this index.
    Ask(usize),
}

/// The conditional rules of one or more calls.
struct Block {
    wide: bool,
    rules: Vec<usize>,
    place: Option<Place>,
}

struct Compiler<'a> {
    rules: &'a Rules,
    family: Family,
    /// The verdict on calls that are newer than the profile; None: the default.
    newer: Option<u32>,
    assembler: Assembler,
    blocks: Vec<Block>,
}

/// Compiles for the ABIs that one machine has: all of one family.
pub fn compile(rules: &Rules, abis: &[&Abi]) -> Vec<Instruction> {
    let Some(family) = abis.first().map(|abi| abi.family) else {
        return Vec::new();
    };
    let mut compiler = Compiler {
        rules,
        family,
        newer: newer(rules.default, family),
        assembler: Assembler::default(),
        blocks: Vec::new(),
    };
    let mut dispatch = compiler.assembler.give(libc::SECCOMP_RET_KILL_THREAD);
    let mut audits: Vec<u32> = Vec::new();
    for abi in abis {
        if !audits.contains(&abi.audit) {
            audits.push(abi.audit);
        }
    }
    // The first is tested first, and lies nearest.
    for audit in audits.into_iter().rev() {
        let same = abis.iter().copied().filter(|abi| abi.audit == audit);
        let ranges = compiler.ranges(&same.collect::<Vec<_>>());
        let tree = compiler.tree(&ranges);
        let section = compiler.assembler.then(LOAD, NUMBER, tree);
        dispatch = compiler.assembler.test(IF_EQUAL, audit, section, dispatch);
    }
    compiler.assembler.then(LOAD, ARCH, dispatch);
    compiler.assembler.finish()
}

/// Programs ask for new calls and fall back when they don't exist; another errno, or a signal,
/// would break them. Where the default lets calls through, it lets new ones through too.
fn newer(default: u32, family: Family) -> Option<u32> {
    let lets_through = [
        libc::SECCOMP_RET_ALLOW,
        libc::SECCOMP_RET_LOG,
        libc::SECCOMP_RET_TRACE,
    ];
    let missing = libc::SECCOMP_RET_ERRNO | family.enosys();
    let action = default & libc::SECCOMP_RET_ACTION_FULL;
    (!lets_through.contains(&action) && default != missing).then_some(missing)
}

impl Compiler<'_> {
    /// The ranges of all numbers that come with one value of seccomp_data.arch.
    fn ranges(&mut self, abis: &[&Abi]) -> Vec<Range> {
        let x86_64 = self.family == Family::X86 && abis.iter().any(|abi| abi.wide);
        let mut ranges = Vec::new();
        for abi in abis {
            self.numbers(abi, &mut ranges);
        }
        let x32 = abis.iter().any(|abi| abi.column == Column::X32);
        if x86_64 && !x32 {
            // Its calls are those of another architecture, but for -1: a tracer's "none".
            let kill = Decision::Return(libc::SECCOMP_RET_KILL_THREAD);
            add(&mut ranges, X32_BIT, kill);
            let default = Decision::Return(self.rules.default);
            add(&mut ranges, u32::MAX, default);
        }
        ranges
    }

    fn numbers(&mut self, abi: &Abi, ranges: &mut Vec<Range>) {
        let bit = match abi.column {
            Column::X32 => X32_BIT,
            _ => 0,
        };
        let default = Decision::Return(self.rules.default);
        let mut spoken: Vec<(u32, usize)> = Vec::with_capacity(self.rules.calls.len());
        let mut last = None;
        for (call, rules) in &self.rules.calls {
            if let Some(number) = call.number(abi.column) {
                spoken.extend(rules.clone().map(|rule| (number | bit, rule)));
                if number < ARM_PRIVATE_BASE {
                    last = last.max(Some(number | bit));
                }
            }
        }
        for (name, rules) in [
            ("socketcall", &self.rules.socketcall),
            ("ipc", &self.rules.ipc),
        ] {
            let number = syscalls::find(name).and_then(|call| call.number(abi.column));
            if let Some(number) = number {
                spoken.extend(rules.iter().map(|rule| (number, *rule)));
            }
        }
        spoken.sort_unstable();
        spoken.dedup();

        add(ranges, bit, default);
        let mut newer = self.newer.zip(last);
        for group in spoken.chunk_by(|one, other| one.0 == other.0) {
            let Some((number, _)) = group.first() else {
                continue;
            };
            if newer.is_some_and(|(_, last)| *number > last) {
                self.beyond(abi, newer.take(), ranges);
            }
            let decision = self.decide(abi.wide, group.iter().map(|(_, rule)| *rule));
            add(ranges, *number, decision);
            add(ranges, number + 1, default);
        }
        self.beyond(abi, newer, ranges);
    }

    /// What comes after the newest call of the profile. (Arm's private calls are not newer.)
    fn beyond(&self, abi: &Abi, newer: Option<(u32, u32)>, ranges: &mut Vec<Range>) {
        if let Some((verdict, last)) = newer {
            add(ranges, last + 1, Decision::Return(verdict));
            if abi.column == Column::Arm {
                add(
                    ranges,
                    ARM_PRIVATE_BASE,
                    Decision::Return(self.rules.default),
                );
            }
        }
    }

    fn decide(&mut self, wide: bool, rules: impl Iterator<Item = usize> + Clone) -> Decision {
        let find = |index: usize| self.rules.rules.get(index);
        let mut found = rules.clone().filter_map(find);
        if let Some(rule) = found.find(|rule| rule.is_unconditional(wide)) {
            return Decision::Return(rule.verdict);
        }
        let rules: Vec<_> = rules.collect();
        let same = |block: &Block| block.wide == wide && block.rules == rules;
        let index = self.blocks.iter().position(same).unwrap_or_else(|| {
            self.blocks.push(Block {
                wide,
                rules,
                place: None,
            });
            self.blocks.len() - 1
        });
        Decision::Ask(index)
    }

    /// A tree that finds the range of the number in the accumulator.
    fn tree(&mut self, ranges: &[Range]) -> Place {
        match ranges {
            [] => self.assembler.give(self.rules.default),
            [range] => self.leaf(range.decision),
            // One number among others.
            [before, one, after]
                if before.decision == after.decision && one.start + 1 == after.start =>
            {
                let others = self.leaf(before.decision);
                let one_place = self.leaf(one.decision);
                let others = self.again(others, before.decision);
                self.assembler.test(IF_EQUAL, one.start, one_place, others)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let start = high.first().map_or(0, |range| range.start);
                let high = self.tree(high);
                let low = self.tree(low);
                self.assembler.test(IF_GREATER_OR_EQUAL, start, high, low)
            }
        }
    }

    /// A leaf's place, which what was written since may have put out of reach.
    fn again(&mut self, place: Place, decision: Decision) -> Place {
        match decision {
            Decision::Return(verdict) => self.assembler.give(verdict),
            Decision::Ask(_) => place,
        }
    }

    fn leaf(&mut self, decision: Decision) -> Place {
        let index = match decision {
            Decision::Return(verdict) => return self.assembler.give(verdict),
            Decision::Ask(index) => index,
        };
        let Some(block) = self.blocks.get(index) else {
            return self.assembler.give(self.rules.default);
        };
        if let Some(place) = block.place {
            return place;
        }
        let (wide, rules) = (block.wide, block.rules.clone());
        let mut place = self.assembler.give(self.rules.default);
        for rule in rules
            .iter()
            .rev()
            .filter_map(|index| self.rules.rules.get(*index))
        {
            place = self.rule(rule, wide, place);
        }
        if let Some(block) = self.blocks.get_mut(index) {
            block.place = Some(place);
        }
        place
    }

    fn rule(&mut self, rule: &Rule, wide: bool, otherwise: Place) -> Place {
        let mut place = self.assembler.give(rule.verdict);
        for condition in rule.conditions.iter().rev() {
            place = self.condition(condition, wide, place, otherwise);
        }
        place
    }

    fn condition(&mut self, it: &Condition, wide: bool, then: Place, otherwise: Place) -> Place {
        let (then, otherwise) = match it.negated {
            true => (otherwise, then),
            false => (then, otherwise),
        };
        let at = ARGUMENTS + 8 * it.argument;
        let (low_at, high_at) = match self.family.is_big_endian() {
            true => (at + 4, at),
            false => (at, at + 4),
        };
        let half = |whole: u64| (whole as u32, (whole >> 32) as u32);
        let ((low, high), (low_mask, high_mask)) = (half(it.value), half(it.mask));
        let code = match it.test {
            Test::Equal => IF_EQUAL,
            Test::Greater => IF_GREATER,
            Test::GreaterOrEqual => IF_GREATER_OR_EQUAL,
        };
        let place = self.assembler.test(code, low, then, otherwise);
        let place = self.load(low_at, low_mask, place);
        if !wide || high_mask == 0 && high == 0 {
            return place;
        }
        let place = self.assembler.test(IF_EQUAL, high, place, otherwise);
        let place = match it.test {
            Test::Equal => place,
            _ => self.assembler.test(IF_GREATER, high, then, place),
        };
        self.load(high_at, high_mask, place)
    }

    fn load(&mut self, at: u32, mask: u32, next: Place) -> Place {
        let next = match mask {
            u32::MAX => next,
            mask => self.assembler.then(AND, mask, next),
        };
        self.assembler.then(LOAD, at, next)
    }
}

/// Appends a range; one that begins where the last one does takes its place.
fn add(ranges: &mut Vec<Range>, start: u32, decision: Decision) {
    if ranges.last().is_some_and(|last| last.start == start) {
        ranges.pop();
    }
    if ranges.last().map(|last| last.decision) != Some(decision) {
        ranges.push(Range { start, decision });
    }
}
