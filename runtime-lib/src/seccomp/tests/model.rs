//! The compiler beside the plain reading of a profile: a rule at a time, without any tree.

use std::collections::HashSet;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};
use proptest::prelude::*;

use super::super::abi::{ABIS, X32_BIT};
use super::super::rules;
use super::super::syscalls::{self, Column};
use super::*;

fn holds(arg: &LinuxSeccompArg, arguments: [u64; 6], wide: bool) -> bool {
    let cut = |value: u64| if wide { value } else { value & 0xffff_ffff };
    let (it, value) = (cut(arguments[arg.index()]), cut(arg.value()));
    match arg.op() {
        Operator::ScmpCmpNe => it != value,
        Operator::ScmpCmpLt => it < value,
        Operator::ScmpCmpLe => it <= value,
        Operator::ScmpCmpEq => it == value,
        Operator::ScmpCmpGe => it >= value,
        Operator::ScmpCmpGt => it > value,
        Operator::ScmpCmpMaskedEq => it & value == cut(arg.value_two().unwrap_or(0)),
    }
}

/// The verdict on a call by its number, which may have several names.
fn read(profile: &LinuxSeccomp, abi: &Abi, number: u32, arguments: [u64; 6]) -> u32 {
    let is_it = |name: &String| syscalls::find(name).unwrap().number(abi.column) == Some(number);
    let default = rules::verdict(profile.default_action(), profile.default_errno_ret());
    let entries = profile.syscalls().iter().flatten();
    let spoken = entries.filter(|entry| entry.names().iter().any(is_it));
    let mut conditional = None;
    for entry in spoken {
        let verdict = rules::verdict(entry.action(), entry.errno_ret());
        if verdict == default {
            continue;
        }
        let args = entry.args().clone().unwrap_or_default();
        let trivial = |arg: &LinuxSeccompArg| {
            let cut = |value: u64| if abi.wide { value } else { value & 0xffff_ffff };
            let nothing = cut(arg.value()) == 0 && cut(arg.value_two().unwrap_or(0)) == 0;
            arg.op() == Operator::ScmpCmpMaskedEq && nothing
        };
        let indices: HashSet<_> = args.iter().map(|arg| arg.index()).collect();
        let together = indices.len() == args.len();
        let unconditional = match together {
            true => args.iter().all(trivial),
            false => args.iter().any(trivial),
        };
        if unconditional {
            return verdict;
        }
        let mut held = args.iter().map(|arg| holds(arg, arguments, abi.wide));
        let matches = match together {
            true => held.all(|held| held),
            false => held.any(|held| held),
        };
        if matches {
            conditional = conditional.or(Some(verdict));
        }
    }
    conditional.unwrap_or(default)
}

fn names() -> Vec<&'static str> {
    let plain = |name: &&str| !rules::is_multiplexed(name) && !["ipc", "socketcall"].contains(name);
    syscalls::names().filter(plain).collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_call_gets_the_verdict_that_a_plain_reading_gives(
        json in super::profiles::any_profile(names()),
        abi in proptest::sample::select(ABIS.iter().collect::<Vec<_>>()),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 6 * 12),
    ) {
        let read_profile = profile(json);
        let compiled = super::super::compile(&read_profile, abi);
        let values = super::libseccomp::interesting(&read_profile);
        let bit = if abi.column == Column::X32 { X32_BIT } else { 0 };
        let entries = read_profile.syscalls().iter().flatten();
        for name in entries.flat_map(|entry| entry.names()) {
            let Some(number) = syscalls::find(name).unwrap().number(abi.column) else {
                continue;
            };
            for chosen in picks.chunks(6) {
                let mut arguments = [0; 6];
                for (argument, pick) in arguments.iter_mut().zip(chosen) {
                    *argument = *pick.get(&values);
                }
                let call = Call { number: number | bit, arch: abi.audit, arguments };
                let big_endian = abi.family.is_big_endian();
                let said = verdict(&compiled.filter.program, &call, big_endian);
                let expected = read(&read_profile, abi, number, arguments);
                prop_assert_eq!(said, Some(expected), "{} on {}: {:x?}", name, abi.word, arguments);
            }
        }
    }
}

fn config() -> ProptestConfig {
    let cases = match std::env::var_os("CAPSID_SOAK") {
        Some(_) => 20_000,
        None => 300,
    };
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}
