//! Promise: on a kernel that lacks a call capsid says which one and which kernel has it; it never falls back to
//! calls that follow paths.

use nix::errno::Errno;
use nix::libc;
use serde_json::json;

use crate::harness::old_kernel::{NEW_CALLS, Refusal, where_refused, without};
use crate::harness::{Bundle, Container, Outcome, Stage};
use crate::stage;

/// Runs the bundle where these calls are missing; nothing of it may be left.
#[track_caller]
fn run_without(stage: &Stage, bundle: &Bundle, calls: &[libc::c_long]) -> Outcome {
    let (id, mut command) = stage.foreground(bundle);
    let outcome = without(calls, &mut command);
    assert_eq!(stage.remains(&id), Vec::<std::path::PathBuf>::new());
    outcome
}

#[test]
fn a_call_that_the_kernel_lacks_is_named_with_the_kernel_that_has_it() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo it ran");
    for (name, number) in NEW_CALLS {
        let outcome = run_without(&stage, &bundle, &[number]).refuses(&[name, "Linux 5.14"]);
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
}

#[test]
fn without_the_mount_api_nothing_is_mounted_by_paths() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo it ran");
    let calls = NEW_CALLS.map(|(_, number)| number);
    let outcome = run_without(&stage, &bundle, &calls).refuses(&["Linux 5.14", "not implemented"]);
    let named = NEW_CALLS
        .iter()
        .any(|(name, _)| outcome.stderr.contains(name));
    assert!(named && outcome.stdout.is_empty(), "{outcome}");
}

#[test]
fn a_filter_that_fails_after_start_is_not_taken_for_the_program() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/noNewPrivileges", json!(true))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["reboot"], "action": "SCMP_ACT_ERRNO"},
            ]}),
        )
        .sleeps();
    let (id, mut create) = stage.command(&["create"], &bundle);
    let refused = Refusal {
        call: libc::SYS_seccomp,
        unless_zero: None,
    };
    where_refused(&[refused], Errno::EACCES, &mut create).ok();
    let container = Container { id, stage: &stage };
    let said = [
        "install the seccomp filter",
        "/linux/seccomp",
        "permission denied",
    ];
    let outcome = container.start().refuses(&said);
    assert!(!outcome.stderr.contains("exec"), "{outcome}");
    container.call("delete", &["--force"]).ok();
}

#[test]
fn where_no_node_may_be_made_the_hosts_are_shown() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("stat -c '%n %t:%T' /dev/null /dev/zero; head -c 2 /dev/zero | wc -c; chmod 0666 /dev/null 2>/dev/null || echo refused");
    let (_, mut command) = stage.foreground(&bundle);
    // A node has a number, the place of a bind has none.
    let mknod = Refusal {
        call: libc::SYS_mknodat,
        unless_zero: Some(3),
    };
    let outcome = where_refused(&[mknod], Errno::EPERM, &mut command).ok();
    assert_eq!(outcome.line(), "/dev/null 1:3\n/dev/zero 1:5\n2\nrefused");
}
