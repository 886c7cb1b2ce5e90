//! Each action of a profile is seen to happen.

use serde_json::json;

use super::*;
use crate::{seccomp_program, stage};

/// Killed by SIGSYS.
const SIGSYS: i32 = 128 + 31;

#[test]
fn a_refused_call_gets_the_errno_that_was_asked_for() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for way in WAYS {
        for (errno, name) in [(95, "EOPNOTSUPP"), (0, "0")] {
            let mut profile = but_mkdir("SCMP_ACT_ERRNO");
            profile["syscalls"][0]["errnoRet"] = json!(errno);
            let mut bundle = bundle(&stage, &call, profile, way);
            let said = called(&stage, &mut bundle, &[&format!("{MKDIR}"), "39"]);
            assert_eq!(said, [name, "1"], "no_new_privs: {way}");
        }
        let mut bundle = bundle(&stage, &call, but_mkdir("SCMP_ACT_ERRNO"), way);
        assert_eq!(
            called(&stage, &mut bundle, &[&format!("{MKDIR}")]),
            ["EPERM"]
        );
    }
}

#[test]
fn a_call_that_kills_ends_the_process() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for way in WAYS {
        for action in [
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_TRAP",
        ] {
            let mut bundle = bundle(&stage, &call, but_mkdir(action), way);
            bundle.args(&["/call", "39", &format!("{MKDIR}"), "39"]);
            let outcome = stage.run(&bundle);
            assert_eq!(outcome.code, SIGSYS, "{action}: {outcome}");
            assert_eq!(outcome.stdout, "1\n", "{action}");
        }
    }
}

#[test]
fn killing_a_thread_leaves_the_others_and_killing_the_process_does_not() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for (action, code, said) in [
        ("SCMP_ACT_KILL_THREAD", 0, "first\n"),
        ("SCMP_ACT_KILL", 0, "first\n"),
        ("SCMP_ACT_KILL_PROCESS", SIGSYS, ""),
    ] {
        let mut bundle = bundle(&stage, &call, but_mkdir(action), true);
        bundle.args(&["/call", "thread", &MKDIR.to_string()]);
        let outcome = stage.run(&bundle);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (code, said),
            "{action}"
        );
    }
}

#[test]
fn a_logged_call_is_made_and_a_traced_one_has_nobody_who_traces() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for way in WAYS {
        // mkdir of a null path, had it been made.
        for (action, said) in [("SCMP_ACT_LOG", "EFAULT"), ("SCMP_ACT_TRACE", "ENOSYS")] {
            let mut bundle = bundle(&stage, &call, but_mkdir(action), way);
            assert_eq!(
                called(&stage, &mut bundle, &[&format!("{MKDIR}")]),
                [said],
                "{action}"
            );
        }
    }
}

#[test]
fn arguments_are_compared_whole() {
    let stage = stage!();
    let call = seccomp_program!("call");
    // dup3(2) with a flag that does not exist is EINVAL, from the kernel.
    let dup3 = |third: &str| format!("{},90,91,{third}", nix::libc::SYS_dup3);
    for (operator, value, second, refused, allowed) in [
        ("EQ", 7, 0, "7", "8"),
        ("NE", 7, 0, "8", "7"),
        ("LT", 7, 0, "6", "7"),
        ("LE", 7, 0, "7", "8"),
        ("GE", 7, 0, "7", "6"),
        ("GT", 7, 0, "8", "7"),
        ("MASKED_EQ", 6, 2, "3", "4"),
        ("EQ", 0x1_0000_0007, 0, "0x100000007", "7"),
        ("GT", 0x1_0000_0000_u64, 0, "0x200000000", "0xffffffff"),
    ] {
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["dup3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [
                {"index": 2, "value": value, "valueTwo": second, "op": format!("SCMP_CMP_{operator}")},
            ]}],
        });
        let mut bundle = bundle(&stage, &call, profile, true);
        let said = called(&stage, &mut bundle, &[&dup3(refused), &dup3(allowed)]);
        assert_eq!(said, ["EOPNOTSUPP", "EINVAL"], "{operator} {value}");
    }
}

#[test]
fn an_unknown_name_is_a_warning_and_the_others_count() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mut profile = but_mkdir("SCMP_ACT_ERRNO");
    profile["syscalls"][0]["names"] = json!(["mkdir", "make_coffee"]);
    let mut bundle = bundle(&stage, &call, profile, true);
    bundle.args(&["/call", &MKDIR.to_string()]);
    // Twice: what was compiled before says it again.
    for _ in 0..2 {
        let outcome = stage.run(&bundle).ok();
        assert_eq!(outcome.stdout, "EPERM\n");
        let warning =
            "/linux/seccomp/syscalls/0/names/1: unknown system call \\\"make_coffee\\\" is ignored";
        assert!(outcome.stderr.contains(warning), "{outcome}");
    }
}
