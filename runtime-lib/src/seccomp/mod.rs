//! Which system calls a process may make: the profile of config.json (config-linux.md,
//! "Seccomp") compiled to the program of classic BPF that seccomp(2) installs.
//!
//! profile → `rules` → `compiler` → program. Pure: the same profile is the same program
//! on every machine of an architecture. Where it is installed is the planner's decision.

mod abi;
mod assembler;
mod compiler;
mod rules;
mod syscalls;
#[cfg(test)]
mod tests;
mod verdict;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

pub use abi::{Abi, Family, native};
use rules::Rules;
use verdict::{Call, verdict};

use crate::sys::seccomp::Instruction;

/// Every action of config-linux.md, "Seccomp".
pub const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

/// Every operator.
pub const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
];

/// Every flag.
pub const FLAGS: [LinuxSeccompFilterFlag; 4] = [
    LinuxSeccompFilterFlag::SeccompFilterFlagLog,
    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
    LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
];

/// The ABI of an architecture, by the configuration's word.
pub fn of_word(word: &str) -> Option<&'static Abi> {
    abi::ABIS.iter().find(|abi| abi.word == word)
}

/// The words of every architecture.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    abi::ABIS.iter().map(|abi| abi.word)
}

/// The longest program that seccomp(2) takes (BPF_MAXINSNS).
pub const MOST_INSTRUCTIONS: usize = 4096;

/// A profile as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub(crate) program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*
    pub(crate) flags: u32,
}

impl Filter {
    /// Whether somebody has to listen to it.
    pub(crate) fn listens(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0
    }

    pub(crate) fn waits_killable(&self) -> bool {
        self.flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32 != 0
    }

    /// The same filter for a process that nobody listens to: for it, what the listener would be
    /// asked about does not exist (ENOSYS).
    pub(crate) fn unheard(mut self) -> Filter {
        let listening = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
        self.flags &= !(listening as u32);
        self
    }

    /// The number of a call on this machine, and what becomes of it whatever its arguments;
    /// None where they matter, or there is no such call.
    pub(crate) fn certain_verdict(&self, name: &str) -> Option<(u32, u32)> {
        let native = native();
        let number = syscalls::find(name)?.number(native.column)?;
        let judge = |argument| {
            let call = Call {
                number,
                arch: native.audit,
                arguments: [argument; 6],
            };
            verdict(&self.program, &call, native.family.is_big_endian())
        };
        let said = judge(0)?;
        (Some(said) == judge(u64::MAX)).then_some((number, said))
    }
}

/// What came of compiling a profile.
#[derive(Debug)]
pub struct Compiled {
    pub filter: Filter,
    /// Names that no architecture knows, with their pointers.
    pub unknown: Vec<(String, String)>,
}

/// Compiles a profile for a machine whose own ABI is `native`.
///
/// Architectures of the profile that such a machine can't run are left out: none of their
/// calls can reach it.
pub fn compile(profile: &LinuxSeccomp, native: &'static Abi) -> Compiled {
    let rules = Rules::read(profile);
    Compiled {
        filter: Filter {
            program: compiler::compile(&rules, &abis(profile, native)),
            flags: flags(profile),
        },
        unknown: rules.unknown,
    }
}

/// The ABIs of a profile that occur on such a machine, its own always and first.
fn abis(profile: &LinuxSeccomp, native: &'static Abi) -> Vec<&'static Abi> {
    let mut abis = vec![native];
    let listed = profile.architectures().iter().flatten();
    for abi in listed.filter_map(|arch| abi::of(*arch)) {
        if abi.family == native.family && !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis
}

/// Whether any rule asks for a listener.
pub fn notifies(profile: &LinuxSeccomp) -> bool {
    let mut syscalls = profile.syscalls().iter().flatten();
    syscalls.any(|entry| entry.action() == LinuxSeccompAction::ScmpActNotify)
}

/// A flag of a profile, as seccomp(2) takes it.
pub fn flag_bit(flag: LinuxSeccompFilterFlag) -> u32 {
    let bit = match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        }
    };
    bit as u32
}

/// Whether this machine's kernel has a flag.
pub fn has_flag(flag: LinuxSeccompFilterFlag) -> bool {
    let listening = match flag {
        // It is about the listener's answer, and refused without one.
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32
        }
        _ => 0,
    };
    crate::sys::seccomp::takes(flag_bit(flag) | listening)
}

/// Without a list, programs keep the speed that the mitigation of speculative store bypass
/// would cost (as runc has it); an empty list asks for none.
fn flags(profile: &LinuxSeccomp) -> u32 {
    let Some(listed) = profile.flags() else {
        return with_listener(profile, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    };
    let bits = listed.iter().fold(0, |bits, flag| bits | flag_bit(*flag));
    with_listener(profile, bits)
}

fn with_listener(profile: &LinuxSeccomp, mut flags: u32) -> u32 {
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;
    if !notifies(profile) {
        // The kernel refuses it where there is nothing to receive.
        return flags & !killable;
    }
    flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    if flags & libc::SECCOMP_FILTER_FLAG_TSYNC as u32 != 0 {
        // Else the return value could be a thread's id.
        flags |= libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
    }
    flags
}
