//! Where the filter comes in the life of a process, and that everybody in the container has it.

use serde_json::json;

use super::*;
use crate::{seccomp_program, skip, stage};

/// What a program needs that only ends, linked statically by glibc; and what capsid needs besides.
const BARE: [&str; 9] = [
    "execve",
    "exit_group",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "mprotect",
];

fn only(names: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    })
}

fn bare(more: &[&str]) -> Value {
    let names = [
        &BARE[..],
        &["readlink", "readlinkat", "getrandom", "uname", "newfstatat"],
        more,
    ]
    .concat();
    only(&names)
}

#[test]
fn with_no_new_privs_the_filter_judges_nothing_before_the_program() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mut bundle = bundle(&stage, &call, bare(&[]), true);
    bundle.args(&["/call", "exit", "7"]);
    let outcome = stage.run(&bundle);
    assert_eq!(outcome.code, 7, "{outcome}");
    let container = stage.create(&bundle);
    container.start().ok();
    container.becomes("stopped");
}

#[test]
fn without_no_new_privs_four_calls_are_enough() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for user in [0, 1000] {
        let needed = ["capset", "write", "read"];
        let mut bundle = bundle(&stage, &call, bare(&needed), false);
        bundle
            .set("/process/user", json!({"uid": user, "gid": user}))
            .args(&["/call", "exit", "7"]);
        let outcome = stage.run(&bundle);
        assert_eq!(outcome.code, 7, "{outcome}");
        let container = stage.create(&bundle);
        container.start().ok();
        container.becomes("stopped");
    }
}

#[test]
fn f21_a_filter_that_would_kill_init_before_its_program_is_named() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for (profile, way, said) in [
        (
            only(&["read", "write", "clone3"]),
            true,
            "killed by SIGSYS (syscall 59, execve)",
        ),
        (
            only(&["execve", "write", "read", "clone3"]),
            false,
            "killed by SIGSYS (syscall 126, capset)",
        ),
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["write"], "action": "SCMP_ACT_ERRNO"}],
            }),
            false,
            "the filter refuses write (syscall 1): operation not permitted",
        ),
    ] {
        let mut bundle = bundle(&stage, &call, profile, way);
        bundle.args(&["/call", "exit", "7"]);
        for outcome in [stage.run(&bundle), stage.try_create(&bundle)] {
            assert_eq!(outcome.code, 1, "{outcome}");
            assert!(outcome.stderr.contains(said), "{outcome}");
            assert!(outcome.stderr.contains("/linux/seccomp"), "{outcome}");
        }
    }
}

#[test]
fn f21_a_filter_that_never_lets_a_program_be_executed_is_refused() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for (profile, why) in [
        (
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
            }),
            "the filter refuses execve (syscall 59): operation not supported",
        ),
        // Nor could the process say so, or even end.
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO"}),
            "the filter refuses execve (syscall 59): operation not permitted",
        ),
    ] {
        for way in WAYS {
            let mut bundle = bundle(&stage, &call, profile.clone(), way);
            bundle.args(&["/call", "exit", "7"]);
            for outcome in [stage.run(&bundle), stage.try_create(&bundle)] {
                outcome.refuses(&["/linux/seccomp", "allow execve", why]);
            }
        }
    }
}

#[test]
fn f21_a_process_that_may_not_even_say_that_it_was_not_executed_is_known_by_its_end() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for (action, end) in [
        ("SCMP_ACT_ERRNO", "exited with"),
        ("SCMP_ACT_KILL", "SIGSYS"),
    ] {
        // By their arguments: the plan can't tell.
        let refused = json!({
            "names": ["execve", "write"], "action": action,
            "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}],
        });
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]});
        let mut bundle = bundle(&stage, &call, profile, true);
        bundle.args(&["/call", "exit", "7"]);
        let needles = ["/linux/seccomp", "the program was never executed", end];
        stage.run(&bundle).refuses(&needles);
        let container = stage.create(&bundle);
        let exec = container.exec(&["/call", "exit", "7"]);
        exec.fails_with(255, &needles);
    }
}

#[test]
fn f21_a_start_whose_init_is_reaped_at_once_by_its_parent_says_what_it_died_of() {
    let stage = stage!();
    // Process 1 of a pid namespace that ignores SIGCHLD: nobody is left to be looked at.
    let script = r#"exec unshare --pid --fork --mount-proc /bin/sh -c 'trap "" CHLD; left=20
        while [ $left -gt 0 ]; do left=$((left - 1))
            env --default-signal=CHLD $capsid create --bundle "$1" "$2" 2>> "$3.create"
            env --default-signal=CHLD $capsid start "$2" 2>> "$3"
            env --default-signal=CHLD $capsid delete --force "$2"
        done' sh "$@""#;
    let refused = json!({
        "names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS",
        "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}],
    });
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]});
    let mut bundle = stage.bundle();
    bundle.set("/linux/seccomp", profile).args(&["true"]);
    let (id, said) = (stage.id(), stage.path("said"));
    bundle.write(&id);
    let mut command = stage.in_own_mounts(script);
    Outcome::of(command.arg(&bundle.folder).arg(&id).arg(&said));
    let said = std::fs::read_to_string(&said).expect("what start said");
    let release = nix::sys::utsname::uname().expect("uname");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>());
    let mut number = || numbers.next().and_then(Result::ok);
    if (number(), number()) < (Some(6), Some(15)) {
        skip!("this kernel keeps no account of processes that are gone");
    }
    let named = said.matches("container init was killed by SIGSYS").count();
    assert_eq!(named, 20, "{said}");
}

#[test]
fn f21_a_filter_that_kills_whoever_looks_for_the_reason_leaves_the_reason() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for way in WAYS {
        let mut bundle = bundle(&stage, &call, bare(&["capset", "write", "read"]), way);
        let script = stage.path("script");
        std::fs::write(&script, "#!/no/interpreter\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        bundle.bind(&script, "/script", &["ro"]).args(&["/script"]);
        let why = "exec /script: no such file or directory";
        stage.run(&bundle).refuses(&[why]);
        stage.create(&bundle).start().refuses(&[why]);
    }
}

#[test]
fn s23_what_is_executed_in_the_container_has_inits_filter() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mut profile = but_mkdir("SCMP_ACT_ERRNO");
    profile["syscalls"][0]["errnoRet"] = json!(95);
    let mkdir = MKDIR.to_string();
    for way in WAYS {
        let mut bundle = bundle(&stage, &call, profile.clone(), way);
        bundle.sleeps();
        let container = stage.create(&bundle);
        let seccomp = "grep -E 'Seccomp|NoNewPrivs|Cap' /proc/$0/status";
        let status = |pid: &str| {
            let outcome = container.exec(&["/bin/sh", "-c", seccomp, pid]).ok();
            lines(&outcome)
        };
        // Also before start: whoever is executed then must not be freer than init will be.
        assert_eq!(
            lines(&container.exec(&["/call", &mkdir]).ok()),
            ["EOPNOTSUPP"]
        );
        container.start().ok();
        assert_eq!(
            lines(&container.exec(&["/call", &mkdir]).ok()),
            ["EOPNOTSUPP"]
        );
        let (own, init) = (status("self"), status("1"));
        assert!(own.contains(&"Seccomp:\t2".to_owned()), "{own:?}");
        assert!(own.contains(&"Seccomp_filters:\t1".to_owned()), "{own:?}");
        assert!(
            own.contains(&format!("NoNewPrivs:\t{}", u8::from(way))),
            "{own:?}"
        );
        assert_eq!(own, init);
        // What the bundle says now is of no interest.
        bundle.remove("/linux/seccomp").write(&container.id);
        assert_eq!(
            lines(&container.exec(&["/call", &mkdir]).ok()),
            ["EOPNOTSUPP"]
        );
        // And the file of the program is no more than a saving of time.
        let file = stage.state_root().join(&container.id).join("seccomp");
        assert!(file.is_file());
        std::fs::write(&file, "damaged").unwrap();
        assert_eq!(
            lines(&container.exec(&["/call", &mkdir]).ok()),
            ["EOPNOTSUPP"]
        );
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            lines(&container.exec(&["/call", &mkdir]).ok()),
            ["EOPNOTSUPP"]
        );
        // A process may be more confined than init.
        let bounded = container
            .exec_with(&["--no-new-privs"], &["/call", &mkdir])
            .ok();
        assert_eq!(lines(&bounded), ["EOPNOTSUPP"]);
        container.delete_force().ok();
    }
}

#[test]
fn s23_the_capability_that_the_filter_needed_is_gone() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for user in [0, 1000] {
        let mut bundle = bundle(&stage, &call, but_mkdir("SCMP_ACT_ERRNO"), false);
        bundle
            .set("/process/user", json!({"uid": user, "gid": user}))
            .capabilities(&["CAP_KILL"])
            .sh("grep Cap /proc/self/status; grep -c . /proc/1/status >&2");
        let said = lines(&stage.run(&bundle).ok());
        for line in &said {
            assert!(line.ends_with("0000000000000020"), "{user}: {said:?}");
        }
        assert_eq!(said.len(), 5);
        // Nor does the process have it that waits for start.
        bundle.sleeps();
        let container = stage.create(&bundle);
        let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        let permitted = status
            .lines()
            .find(|line| line.starts_with("CapPrm"))
            .unwrap();
        assert_eq!(permitted, "CapPrm:\t0000000000000020");
    }
}

#[test]
fn in_a_user_namespace_of_an_ordinary_user_there_are_filters_as_well() {
    let stage = stage!().of_user();
    let call = seccomp_program!("call");
    for way in WAYS {
        let mut profile = but_mkdir("SCMP_ACT_ERRNO");
        profile["syscalls"][0]["errnoRet"] = json!(95);
        let mut bundle = bundle(&stage, &call, profile, way);
        bundle
            .remove("/linux/cgroupsPath")
            .remove("/linux/resources");
        assert_eq!(
            called(&stage, &mut bundle, &[&MKDIR.to_string()]),
            ["EOPNOTSUPP"]
        );
    }
}

#[test]
fn a_profile_that_was_compiled_before_means_the_same_again() {
    let stage = stage!();
    let call = seccomp_program!("call");
    let mkdir = MKDIR.to_string();
    let mut bundle = bundle(&stage, &call, but_mkdir("SCMP_ACT_ERRNO"), true);
    assert_eq!(called(&stage, &mut bundle, &[&mkdir]), ["EPERM"]);
    let folder = stage.state_root().join(".seccomp");
    let kept: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(called(&stage, &mut bundle, &[&mkdir]), ["EPERM"]);
    // Damaged, it is compiled anew.
    std::fs::write(kept[0].path(), "damaged").unwrap();
    assert_eq!(called(&stage, &mut bundle, &[&mkdir]), ["EPERM"]);
    assert_ne!(std::fs::read(kept[0].path()).unwrap(), b"damaged");
    // Another profile is another filter.
    bundle.set("/linux/seccomp/syscalls/0/errnoRet", json!(95));
    assert_eq!(called(&stage, &mut bundle, &[&mkdir]), ["EOPNOTSUPP"]);
    // And no container is to be seen there.
    stage.call(&["list", "--quiet"]).ok().prints("");
}

#[test]
fn explain_shows_the_filter_and_its_place() {
    let stage = stage!();
    let call = seccomp_program!("call");
    for (way, before) in [
        (true, "execute the program"),
        (false, "set the capabilities"),
    ] {
        let mut bundle = bundle(&stage, &call, fixture("docker"), way);
        bundle.args(&["/call", "39"]);
        bundle.write("x");
        let outcome = stage
            .call(&["explain", &bundle.folder.to_string_lossy()])
            .ok();
        let mut lines = outcome.stdout.lines();
        let found = lines
            .find(|line| line.contains("install the seccomp filter"))
            .unwrap();
        assert!(found.ends_with("instructions   /linux/seccomp"), "{found}");
        assert!(lines.next().unwrap().contains(before), "{outcome}");
    }
    // It looks, and makes nothing.
    assert!(!stage.state_root().join(".seccomp").exists());
}
