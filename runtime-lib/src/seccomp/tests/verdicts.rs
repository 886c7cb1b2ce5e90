//! Single verdicts, where the rule behind them is worth a sentence.

use serde_json::json;

use super::*;

const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;
const X32: u32 = 0x4000_0000;

fn allowing(names: &[&str]) -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

#[test]
fn calls_that_are_newer_than_the_profile_do_not_exist() {
    // mmap is 9, exit_group 231.
    let read = profile(allowing(&["mmap", "exit_group"]));
    let says = |number| judged(&read, X86_64, number, [0; 6]);
    assert_eq!([says(9), says(231)], [ALLOW, ALLOW]);
    assert_eq!([says(0), says(230)], [errno(1), errno(1)]);
    assert_eq!([says(232), says(470), says(0x3fff_ffff)], [errno(38); 3]);
}

#[test]
fn what_lets_calls_through_by_default_lets_newer_ones_through() {
    for (action, verdict) in [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
        ("SCMP_ACT_TRACE", libc::SECCOMP_RET_TRACE | 1),
    ] {
        let mut json = allowing(&[]);
        json["defaultAction"] = json!(action);
        json["syscalls"][0] = json!({"names": ["mmap"], "action": "SCMP_ACT_KILL_PROCESS"});
        assert_eq!(
            judged(&profile(json), X86_64, 470, [0; 6]),
            verdict,
            "{action}"
        );
    }
}

#[test]
fn a_profile_that_names_no_call_has_none_that_are_newer() {
    let read = profile(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    assert_eq!(judged(&read, X86_64, 470, [0; 6]), errno(1));
}

#[test]
fn architectures_that_are_not_listed_are_killed() {
    let mut json = allowing(&["getpid", "mseal"]);
    let read = profile(json.clone());
    assert_eq!(judged(&read, X86_64, 39, [0; 6]), ALLOW);
    assert_eq!(judged(&read, I386, 20, [0; 6]), KILL);
    assert_eq!(judged(&read, X86_64, X32 | 39, [0; 6]), KILL);
    // A tracer's "no call" is no call of x32.
    assert_eq!(judged(&read, X86_64, u32::MAX, [0; 6]), errno(1));
    json["architectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]);
    let read = profile(json);
    assert_eq!(judged(&read, I386, 20, [0; 6]), ALLOW);
    assert_eq!(judged(&read, I386, 39, [0; 6]), errno(1));
    assert_eq!(judged(&read, X86_64, X32 | 39, [0; 6]), ALLOW);
    assert_eq!(judged(&read, 0xc000_00b7, 172, [0; 6]), KILL);
}

#[test]
fn an_unconditional_rule_decides_wherever_it_stands() {
    let rule = |action: &str, args| json!({"names": ["dup"], "action": action, "args": args});
    let equal = |value: u64| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let read = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule("SCMP_ACT_ERRNO", equal(1)),
        rule("SCMP_ACT_TRAP", json!([])),
        rule("SCMP_ACT_LOG", json!([])),
    ]}));
    assert_eq!(judged(&read, X86_64, 32, [1; 6]), libc::SECCOMP_RET_TRAP);
}

#[test]
fn of_conditional_rules_the_first_that_holds_decides() {
    let rule = |action: &str, value: u64| {
        let args = json!([{"index": 0, "value": value, "op": "SCMP_CMP_GE"}]);
        json!({"names": ["dup"], "action": action, "args": args})
    };
    let read = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        rule("SCMP_ACT_ERRNO", 10), rule("SCMP_ACT_TRAP", 5), rule("SCMP_ACT_LOG", 7),
    ]}));
    let says = |argument| judged(&read, X86_64, 32, [argument; 6]);
    assert_eq!(
        [says(10), says(7), says(4)],
        [errno(1), libc::SECCOMP_RET_TRAP, ALLOW]
    );
}

#[test]
fn what_is_refused_by_its_name_is_refused_by_way_of_a_multiplexer() {
    let read = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "syscalls": [{"names": ["bind", "shmat"], "action": "SCMP_ACT_ERRNO"}],
    }));
    // socketcall(2) with SYS_BIND, and with SYS_CONNECT.
    assert_eq!(judged(&read, I386, 102, [2, 0, 0, 0, 0, 0]), errno(1));
    assert_eq!(judged(&read, I386, 102, [3, 0, 0, 0, 0, 0]), ALLOW);
    // ipc(2) with SHMAT, of any version, and with SHMDT.
    assert_eq!(judged(&read, I386, 117, [21, 0, 0, 0, 0, 0]), errno(1));
    assert_eq!(
        judged(&read, I386, 117, [0x1_0015, 0, 0, 0, 0, 0]),
        errno(1)
    );
    assert_eq!(judged(&read, I386, 117, [22, 0, 0, 0, 0, 0]), ALLOW);
    // On x86-64 there is neither.
    assert_eq!(judged(&read, X86_64, 102, [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(judged(&read, X86_64, 49, [0; 6]), errno(1));
}

#[test]
fn the_flags_are_runcs() {
    let flags = |json| {
        let compiled = super::super::compile(&profile(json), abi_of(Arch::ScmpArchX86_64));
        compiled.filter.flags
    };
    let with = |listed: serde_json::Value, action: &str| {
        json!({
            "defaultAction": "SCMP_ACT_ALLOW", "flags": listed, "listenerPath": "/x",
            "syscalls": [{"names": ["dup"], "action": action}],
        })
    };
    let (tsync, log, spec, listener, esrch, killable) = (1, 2, 4, 8, 16, 32);
    let all = json!([
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    assert_eq!(flags(json!({"defaultAction": "SCMP_ACT_ALLOW"})), spec);
    assert_eq!(flags(with(json!([]), "SCMP_ACT_TRAP")), 0);
    assert_eq!(flags(with(all.clone(), "SCMP_ACT_TRAP")), log | tsync);
    let asked = log | tsync | esrch | listener | killable;
    assert_eq!(flags(with(all, "SCMP_ACT_NOTIFY")), asked);
}

#[test]
fn a_filter_of_thousands_of_conditions_is_still_right() {
    // More than a jump reaches, more than once.
    let args = |n: u64| json!([{"index": 0, "value": n, "op": "SCMP_CMP_EQ"}]);
    let rules: Vec<_> = (0..600)
        .map(|n| json!({"names": ["dup", "dup2"], "action": "SCMP_ACT_ERRNO", "errnoRet": n + 1, "args": args(n)}))
        .collect();
    let read = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    for number in [32, 33] {
        for n in [0, 1, 255, 256, 257, 599] {
            assert_eq!(judged(&read, X86_64, number, [n; 6]), errno(n as u32 + 1));
        }
        assert_eq!(judged(&read, X86_64, number, [600; 6]), ALLOW);
    }
    assert_eq!(judged(&read, X86_64, 31, [0; 6]), ALLOW);
}
