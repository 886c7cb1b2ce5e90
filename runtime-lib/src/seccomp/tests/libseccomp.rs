//! The same verdict as libseccomp's, whatever the profile, the architecture, the number and the
//! arguments; what differs on purpose is written down here.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use oci_spec::runtime::LinuxSeccompAction;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::abi::{ABIS, Family, X32_BIT};
use super::super::assembler::RETURN;
use super::super::rules;
use super::super::syscalls::{self, Column};
use super::*;
use crate::sys::seccomp::Instruction;

/// oracle.c, built; None where this machine lacks libseccomp's headers or a C compiler.
fn oracle() -> Option<&'static PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/tests/oracle.c");
            let folder = std::env::current_exe().unwrap().parent()?.to_path_buf();
            let program = folder.join("libseccomp-oracle");
            // Another run may be executing the one that is there.
            let new = folder.join(format!("libseccomp-oracle-{}", std::process::id()));
            let mut cc = Command::new("cc");
            cc.args(["-O1", "-Wall", "-o"])
                .arg(&new)
                .args([source, "-lseccomp"]);
            let built = cc.stderr(Stdio::null()).status();
            let built = built.is_ok_and(|status| status.success());
            (built && std::fs::rename(&new, &program).is_ok()).then_some(program)
        })
        .as_ref()
}

fn ask(lines: &str) -> Vec<u8> {
    let mut child = Command::new(oracle().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output.stdout
}

/// Says loudly that a test had no verdict.
fn is_missing(test: &str) -> bool {
    let missing = oracle().is_none();
    if missing {
        println!("SKIP {test}: no libseccomp-dev");
        if let Some(path) = std::env::var_os("CAPSID_SKIPS") {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path);
            let line = format!("seccomp::{test}\tno libseccomp-dev, or no C compiler\n");
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
    }
    missing
}

/// What libseccomp 2.5 calls an architecture; it does not know the later ones.
fn token(abi: &Abi) -> Option<u32> {
    let later = [Family::LoongArch, Family::M68k, Family::Sh, Family::ShEb];
    (!later.contains(&abi.family)).then_some(abi.arch as u32)
}

/// The ABIs that occur together with this one, itself first.
fn family(abi: &Abi) -> Vec<&'static Abi> {
    ABIS.iter()
        .filter(|other| other.family == abi.family)
        .collect()
}

/// The profile's program by libseccomp, its rules added as runc adds them.
fn theirs(profile: &LinuxSeccomp, abis: &[&Abi]) -> Vec<Instruction> {
    let default = rules::verdict(profile.default_action(), profile.default_errno_ret());
    let mut lines = format!("filter {default}\n");
    for abi in abis {
        lines += &format!("arch {}\n", token(abi).unwrap());
    }
    let mut verdicts = vec![default];
    for entry in profile.syscalls().iter().flatten() {
        let verdict = rules::verdict(entry.action(), entry.errno_ret());
        verdicts.push(verdict);
        let args = entry.args().clone().unwrap_or_default();
        let words: Vec<_> = args
            .iter()
            .map(|arg| {
                let second = arg.value_two().unwrap_or(0);
                format!(
                    " {} {} {} {second}",
                    arg.index(),
                    arg.op() as u32,
                    arg.value()
                )
            })
            .collect();
        let indices: HashSet<_> = args.iter().map(|arg| arg.index()).collect();
        let groups = match indices.len() == args.len() {
            true => vec![words.concat()],
            false => words,
        };
        // Version 2.5 leaves the load of the number out of some programs for several ABIs, and
        // for one that lacks a call which has a rule: where it matters it gets neither.
        let alone = |name: &&String| match abis {
            [abi] => syscalls::find(name).unwrap().number(abi.column).is_some(),
            _ => true,
        };
        for name in entry.names().iter().filter(alone) {
            for group in &groups {
                lines += &format!("rule {verdict} {name}{group}\n");
            }
        }
    }
    let bytes = ask(&(lines + "export\n"));
    // It writes in the order of the machine that the program is for.
    let big_endian = abis.iter().any(|abi| abi.family.is_big_endian());
    let read = |it: &[u8]| {
        let (code, value) = ([it[0], it[1]], [it[4], it[5], it[6], it[7]]);
        let (code, value) = match big_endian {
            // But for some of what is returned, which stays in the order of this machine.
            true if code == RETURN.to_be_bytes() => {
                let native = u32::from_ne_bytes(value);
                let said = verdicts.contains(&native);
                (
                    RETURN,
                    if said {
                        native
                    } else {
                        u32::from_be_bytes(value)
                    },
                )
            }
            true => (u16::from_be_bytes(code), u32::from_be_bytes(value)),
            false => (u16::from_le_bytes(code), u32::from_le_bytes(value)),
        };
        Instruction {
            code,
            on_true: it[2],
            on_false: it[3],
            value,
        }
    };
    bytes.chunks_exact(8).map(read).collect()
}

/// Every number that an ABI may be asked for, and some beyond.
fn numbers(abi: &Abi) -> Vec<u32> {
    let (base, bit) = match abi.column {
        Column::Mips => (4000, 0),
        Column::Mips64 => (5000, 0),
        Column::Mips64n32 => (6000, 0),
        Column::X32 => (0, X32_BIT),
        _ => (0, 0),
    };
    let mut numbers: Vec<u32> = (0..600).map(|n| (base + n) | bit).collect();
    numbers.extend([
        0,
        1,
        999,
        3999,
        7000,
        0xf_0000,
        0x3fff_ffff,
        0x7fff_ffff,
        u32::MAX,
    ]);
    numbers.extend((0..8).map(|n| 0xf_0000 + n));
    numbers
}

/// The greatest number of the profile's calls on an ABI: what is above is newer than it.
fn last(profile: &LinuxSeccomp, abi: &Abi) -> Option<u32> {
    let names = profile
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|entry| entry.names());
    let numbers = names.filter_map(|name| syscalls::find(name)?.number(abi.column));
    let bit = if abi.column == Column::X32 {
        X32_BIT
    } else {
        0
    };
    numbers.filter(|n| *n < 0xf_0000).map(|n| n | bit).max()
}

/// The values around which a condition may change its mind.
pub fn interesting(profile: &LinuxSeccomp) -> Vec<u64> {
    let entries = profile.syscalls().iter().flatten();
    let args = entries.flat_map(|entry| entry.args().clone().unwrap_or_default());
    let mut values = vec![0, 1, u32::MAX.into(), 1 << 32, u64::MAX];
    for arg in args {
        for value in [arg.value(), arg.value_two().unwrap_or(0)] {
            let others = [value.wrapping_sub(1), value, value.wrapping_add(1), !value];
            values.extend(others);
            values.extend([value ^ 1 << 40, value & 0xffff_ffff, value << 32 | value]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Compares the verdicts; the first difference in words. `alone`: with a program of libseccomp
/// for each ABI.
fn compare(
    profile: &LinuxSeccomp,
    native: &'static Abi,
    alone: bool,
    mut random: u64,
) -> Result<(), String> {
    let abis = match native.family == Family::X86 {
        // What an absent x32 means is part of the comparison.
        true => super::super::abis(profile, native),
        false => family(native),
    };
    let big_endian = native.family.is_big_endian();
    let profile = &{
        let mut all = profile.clone();
        all.set_architectures(Some(abis.iter().map(|abi| abi.arch).collect()));
        all
    };
    let ours = super::super::compile(profile, native).filter.program;
    let together = match alone {
        false => Some(theirs(profile, &abis)),
        true => None,
    };
    let default = rules::verdict(profile.default_action(), profile.default_errno_ret());
    let lenient = [
        LinuxSeccompAction::ScmpActAllow,
        LinuxSeccompAction::ScmpActLog,
        LinuxSeccompAction::ScmpActTrace,
    ];
    let stub = !lenient.contains(&profile.default_action());
    let conditional = conditional_numbers(profile);
    let values = interesting(profile);
    for abi in &abis {
        let x32_too = abis.iter().any(|abi| abi.column == Column::X32);
        let newest = last(profile, abi);
        let by_itself = || theirs(profile, &[abi]);
        let theirs = together.clone().unwrap_or_else(by_itself);
        for number in numbers(abi) {
            let x32 = native.family == Family::X86 && abi.wide && number & X32_BIT != 0;
            // Numbers that belong to the other of the two.
            if x32 && x32_too || abi.column == Column::X32 && number & X32_BIT == 0 {
                continue;
            }
            let rounds = if conditional.contains(&(abi.audit, number)) {
                40
            } else {
                1
            };
            for round in 0..rounds {
                let mut arguments = [0; 6];
                for argument in arguments.iter_mut().filter(|_| round > 0) {
                    random = random
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    *argument = values[(random >> 33) as usize % values.len()];
                }
                let call = Call {
                    number,
                    arch: abi.audit,
                    arguments,
                };
                let mut expected = verdict(&theirs, &call, big_endian).unwrap();
                if stub && newest.is_some_and(|newest| number > newest) && !x32 {
                    let private = abi.column == Column::Arm && number >= 0xf_0000;
                    if !private {
                        expected = errno(native.family.enosys());
                    }
                }
                let said = verdict(&ours, &call, big_endian).unwrap();
                if said != expected {
                    return Err(format!(
                        "{} {number} {arguments:x?}: {said:#x}, libseccomp {expected:#x} (default {default:#x}, last {newest:?})",
                        abi.word,
                    ));
                }
            }
        }
    }
    let foreign = Call {
        number: 0,
        arch: 0xdead,
        arguments: [0; 6],
    };
    let killed = verdict(&ours, &foreign, big_endian);
    assert_eq!(killed, Some(libc::SECCOMP_RET_KILL_THREAD));
    if let Some(theirs) = together {
        assert_eq!(killed, verdict(&theirs, &foreign, big_endian));
    }
    Ok(())
}

/// Where arguments may matter.
fn conditional_numbers(profile: &LinuxSeccomp) -> HashSet<(u32, u32)> {
    let entries = profile.syscalls().iter().flatten();
    let mut names: Vec<&str> = entries
        .filter(|entry| entry.args().is_some())
        .flat_map(|entry| entry.names().iter().map(String::as_str))
        .collect();
    names.extend(["socketcall", "ipc"]);
    let mut numbers = HashSet::new();
    for abi in &ABIS {
        let bit = if abi.column == Column::X32 {
            X32_BIT
        } else {
            0
        };
        let found = names
            .iter()
            .filter_map(|name| syscalls::find(name)?.number(abi.column));
        numbers.extend(found.map(|number| (abi.audit, number | bit)));
    }
    numbers
}

#[test]
fn the_profiles_of_the_engines_mean_what_libseccomp_makes_of_them() {
    if is_missing("the_profiles_of_the_engines_mean_what_libseccomp_makes_of_them") {
        return;
    }
    for name in ["docker", "docker-all-capabilities", "containerd", "podman"] {
        let profile = fixture(name);
        compare(&profile, abi_of(Arch::ScmpArchX86_64), false, 1)
            .unwrap_or_else(|it| panic!("{name}: {it}"));
    }
    let arm = fixture("docker-arm64");
    compare(&arm, abi_of(Arch::ScmpArchAarch64), false, 1).unwrap();
    let s390x = fixture("docker-s390x");
    compare(&s390x, abi_of(Arch::ScmpArchS390x), false, 1).unwrap();
}

/// Calls whose numbers libseccomp knows as well, on every architecture that it has.
fn known_names() -> Vec<&'static str> {
    let (mut lines, mut asked) = (String::new(), Vec::new());
    // A name is looked up on this machine first, when a rule for it is added.
    let native = abi::native();
    for abi in std::iter::once(native).chain(ABIS.iter()) {
        let Some(token) = token(abi) else { continue };
        for name in syscalls::names() {
            lines += &format!("resolve {token} {name}\n");
            asked.push((abi, name));
        }
    }
    let answers = String::from_utf8(ask(&lines)).unwrap();
    let mut unknown = HashSet::from(["ipc", "socketcall", "sys_debug_setcontext"]);
    unknown.extend(syscalls::names().filter(|name| rules::is_multiplexed(name)));
    for ((abi, name), answer) in asked.into_iter().zip(answers.lines()) {
        let theirs: i64 = answer.parse().unwrap();
        let bit = if abi.column == Column::X32 {
            X32_BIT
        } else {
            0
        };
        let ours = syscalls::find(name).unwrap().number(abi.column);
        let ours = ours.map(|number| i64::from(number | bit));
        if ours != Some(theirs) && (ours.is_some() || theirs == -1) {
            unknown.insert(name);
        }
    }
    syscalls::names()
        .filter(|name| !unknown.contains(name))
        .collect()
}

#[test]
fn generated_profiles_mean_what_libseccomp_makes_of_them() {
    if is_missing("generated_profiles_mean_what_libseccomp_makes_of_them") {
        return;
    }
    let usual = if std::env::var_os("CAPSID_SOAK").is_some() {
        1000
    } else {
        60
    };
    let count = std::env::var("CAPSID_SECCOMP_PROFILES")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut config = Config::with_cases(count.unwrap_or(usual));
    config.failure_persistence = None;
    let natives: Vec<_> = ABIS.iter().filter(|abi| token(abi).is_some()).collect();
    let first = |abi: &&Abi| *family(abi)[0] == **abi;
    let mut natives: Vec<&'static Abi> = natives.into_iter().filter(first).collect();
    // The machines that engines run on get the most of them.
    natives.extend([abi_of(Arch::ScmpArchX86_64); 6]);
    let subs = proptest::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..=2);
    let strategy = (
        profiles::plain(known_names()),
        proptest::sample::select(natives),
        subs,
        any::<u64>(),
    );
    let result = TestRunner::new(config).run(&strategy, |(json, native, subs, seed)| {
        let mut json = json;
        json["architectures"] = subs.into();
        compare(&profile(json), native, true, seed).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_number_is_the_one_that_libseccomp_has() {
    if is_missing("every_number_is_the_one_that_libseccomp_has") {
        return;
    }
    let (mut lines, mut asked) = (String::new(), Vec::new());
    for abi in ABIS.iter().filter(|abi| token(abi).is_some()) {
        for name in syscalls::names() {
            lines += &format!("resolve {} {name}\n", token(abi).unwrap());
            asked.push((abi, name));
        }
    }
    let answers = String::from_utf8(ask(&lines)).unwrap();
    let mut compared = 0;
    for ((abi, name), answer) in asked.into_iter().zip(answers.lines()) {
        let theirs: i64 = answer.parse().unwrap();
        let bit = if abi.column == Column::X32 {
            X32_BIT
        } else {
            0
        };
        let ours = syscalls::find(name).unwrap().number(abi.column);
        match (ours.map(|number| i64::from(number | bit)), theirs) {
            (Some(ours), theirs) if theirs >= 0 => {
                assert_eq!(ours, theirs, "{name} on {}", abi.word);
                compared += 1;
            }
            // It keeps numbers of its own for what goes by socketcall(2) or ipc(2), and does
            // not know what is newer; and the headers that we read lack what a compiler adds.
            (Some(ours), _) => {
                let newer = ours as u32 & !X32_BIT >= 424
                    || ["uretprobe", "riscv_hwprobe", "sync_file_range2"].contains(&name);
                assert!(
                    newer || rules::is_multiplexed(name),
                    "{name} on {} is {ours}",
                    abi.word
                );
            }
            (None, theirs) => assert!(theirs < 0, "{name} on {} is {theirs}", abi.word),
        }
    }
    assert!(compared > 5_000, "{compared}");
}
