//! Promise: the process has the user, groups, capabilities, limits and surroundings that config.json gives
//! it, and nothing of the caller's.

use serde_json::json;

use crate::harness::Outcome;
use crate::{skip, stage};

fn status(text: &str, key: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{key}:")))
        .unwrap_or_else(|| panic!("no {key}: {text}"));
    line.split_whitespace()
        .skip(1)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn user_group_and_additional_groups_are_set() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 77]}),
    );
    let text = stage.prints(&mut bundle, "cat /proc/self/status");
    assert_eq!(status(&text, "Uid"), "1000 1000 1000 1000");
    assert_eq!(status(&text, "Gid"), "1001 1001 1001 1001");
    assert_eq!(status(&text, "Groups"), "5 77");
    bundle.set("/process/user", json!({"uid": 0, "gid": 0}));
    assert_eq!(
        status(
            &stage.prints(&mut bundle, "cat /proc/self/status"),
            "Groups"
        ),
        ""
    );
}

#[test]
fn each_capability_set_is_as_given() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW", "CAP_SETUID"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_CHOWN", "CAP_NET_RAW"],
            "ambient": ["CAP_CHOWN"],
        }),
    );
    bundle.set("/process/user/uid", json!(1000));
    // As a user other than root, what survives execve is what is ambient.
    let text = stage.prints(&mut bundle, "cat /proc/self/status");
    assert_eq!(status(&text, "CapBnd"), "00000000000020a1");
    assert_eq!(status(&text, "CapInh"), "0000000000002001");
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&text, set), "0000000000000001", "{set}");
    }
    bundle.set("/process/capabilities", json!({}));
    let text = stage.prints(&mut bundle, "cat /proc/self/status");
    for set in ["CapBnd", "CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&text, set), "0000000000000000", "{set}");
    }
    bundle
        .remove("/process/capabilities")
        .set("/process/user/uid", json!(0));
    assert_eq!(
        status(
            &stage.prints(&mut bundle, "cat /proc/self/status"),
            "CapBnd"
        ),
        "0000000000000000"
    );
}

#[test]
fn an_ambient_capability_that_is_not_inheritable_only_warns() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .capabilities(&["CAP_KILL"])
        .set("/process/capabilities/inheritable", json!([]))
        .sh("grep CapAmb /proc/self/status");
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.line(), "CapAmb:\t0000000000000000");
    assert!(
        outcome.stderr.contains("CAP_KILL") || outcome.stderr.contains("ambient"),
        "no warning: {outcome}"
    );
}

#[test]
fn no_new_privileges_is_as_given() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    for (value, expected) in [(json!(true), "1"), (json!(false), "0")] {
        bundle.set("/process/noNewPrivileges", value);
        assert_eq!(
            status(
                &stage.prints(&mut bundle, "cat /proc/self/status"),
                "NoNewPrivs"
            ),
            expected
        );
    }
}

#[test]
fn rlimits_are_set_also_in_a_user_namespace() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set(
        "/process/rlimits",
        json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
            {"type": "RLIMIT_NPROC", "soft": 500, "hard": 600},
        ]),
    );
    let script = "grep -E 'Max (open files|core|stack|processes)' /proc/self/limits | tr -s ' '";
    let expected = "Max stack size 1048576 2097152 bytes \nMax core file size 0 0 bytes \nMax processes 500 600 processes \nMax open files 100 200 files";
    assert_eq!(stage.prints(&mut bundle, script), expected);
    bundle.user_namespace(100_000, 65_536);
    assert_eq!(stage.prints(&mut bundle, script), expected);
}

#[test]
fn sysctls_are_set_in_the_container_and_nowhere_else() {
    let stage = stage!();
    let before = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let other = if before.trim() == "0" { "1" } else { "0" };
    let mut bundle = stage.bundle();
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": other, "kernel.shmmax": "12345678", "fs.mqueue.msg_max": "11", "net/ipv4/ip_default_ttl": "99"}));
    let text = stage.prints(&mut bundle, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/ip_default_ttl");
    assert_eq!(text, format!("{other}\n12345678\n11\n99"));
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(),
        before
    );
}

#[test]
fn the_umask_is_0022_or_as_given_and_never_the_callers() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("umask");
    let id = stage.id();
    bundle.write(&id);
    stage
        .shell(
            "umask 077; exec $capsid run --bundle $1 $2",
            &[&bundle.folder.to_string_lossy(), &id],
        )
        .ok()
        .prints("0022");
    bundle.set("/process/user/umask", json!(0o7));
    assert_eq!(stage.prints(&mut bundle, "umask"), "0007");
}

#[test]
fn the_oom_score_is_as_given() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/oomScoreAdj", json!(555));
    assert_eq!(
        stage.prints(&mut bundle, "cat /proc/self/oom_score_adj"),
        "555"
    );
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    bundle.remove("/process/oomScoreAdj");
    assert_eq!(
        stage.prints(&mut bundle, "cat /proc/self/oom_score_adj"),
        own.trim()
    );
}

/// Whether whoever calls the runtime in these tests may lower a process's score.
fn lowers_scores() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap() >> 24 & 1 == 1
}

#[test]
fn an_oom_score_that_root_may_not_set_is_refused() {
    let stage = stage!();
    if lowers_scores() {
        skip!("root may set every score here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set("/process/oomScoreAdj", json!(-500))
        .args(&["/bin/true"]);
    let words = [
        "/process/oomScoreAdj",
        "CAP_SYS_RESOURCE",
        "permission denied",
    ];
    stage.try_create(&bundle).refuses(&words);
    bundle.user_namespace(100_000, 65_536);
    stage.try_create(&bundle).refuses(&words);
    let container = stage.running();
    let file = stage.path("process.json");
    let process = json!({"args": ["/bin/true"], "cwd": "/", "oomScoreAdj": -500});
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &["(/oomScoreAdj)", words[1], words[2]]);
}

#[test]
fn a_working_directory_that_is_missing_is_made() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.set("/process/cwd", json!("/new/working/folder"));
    assert_eq!(
        stage.prints(&mut bundle, "pwd; stat -c '%a %u' ."),
        "/new/working/folder\n755 0"
    );
    bundle
        .set("/process/cwd", json!("/home/user"))
        .set("/process/user/uid", json!(1000));
    assert_eq!(stage.prints(&mut bundle, "pwd"), "/home/user");
}

#[test]
fn a_working_directory_with_dots_is_the_one_that_is_made() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    bundle.set("/process/cwd", json!("/nowhere/../new/./folder/"));
    assert_eq!(stage.prints(&mut bundle, "pwd"), "/new/folder");
}

#[test]
fn a_working_directory_never_leaves_the_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    for number in 3..16 {
        bundle
            .set("/process/cwd", json!(format!("/proc/self/fd/{number}")))
            .sh("cat ../../../../../../container_marker 2>/dev/null; ls ..");
        let outcome = stage.run(&bundle);
        assert!(
            outcome.code != 0 || !outcome.stdout.contains("enclosure"),
            "the host's folders: {outcome}"
        );
    }
    let mut bundle = stage.bundle();
    for number in 3..16 {
        bundle.args(&[&format!("/proc/self/fd/{number}")]);
        assert_ne!(stage.run(&bundle).code, 0);
    }
}

#[test]
fn the_environment_is_the_configs_and_nothing_else() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/process/env",
            json!(["PATH=/bin", "A=1", "B=two\nlines", "EMPTY=", "A=2"]),
        )
        .args(&["/bin/env"]);
    let outcome = stage.run(&bundle).ok();
    let mut lines: Vec<_> = outcome.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["A=2", "B=two", "EMPTY=", "HOME=/root", "PATH=/bin", "lines"],
        "{outcome}"
    );
}

#[test]
fn home_is_filled_from_the_containers_passwd() {
    let stage = stage!();
    for (uid, env, expected) in [
        (0, "X=1", "/root"),
        (1000, "X=1", "/home/user"),
        (4711, "X=1", "/"),
        (1000, "HOME=/set", "/set"),
        (1000, "HOME=", "/home/user"),
    ] {
        let mut bundle = stage.bundle();
        bundle
            .set("/process/user/uid", json!(uid))
            .push("/process/env", json!(env));
        assert_eq!(
            stage.prints(&mut bundle, "echo $HOME"),
            expected,
            "{uid} {env}"
        );
    }
}

#[test]
fn signals_are_at_their_defaults_in_the_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["grep", "Sig", "/proc/self/status"]);
    let id = stage.id();
    bundle.write(&id);
    let outcome = stage
        .shell(
            "trap '' HUP INT TERM USR1 PIPE; exec $capsid run --bundle $1 $2",
            &[&bundle.folder.to_string_lossy(), &id],
        )
        .ok();
    assert_eq!(status(&outcome.stdout, "SigBlk"), "0000000000000000");
    // 32 and 33 are the C library's, which lets nobody reset them.
    let ignored = u64::from_str_radix(&status(&outcome.stdout, "SigIgn"), 16).unwrap();
    assert_eq!(ignored & 0x7fff_ffff, 0, "{ignored:x}");
}

#[test]
fn the_process_leads_a_session_of_its_own_keyring_and_group() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    assert_eq!(
        stage.prints(
            &mut bundle,
            "cut -d' ' -f1,5,6 /proc/self/stat | sed 's/^[0-9]* //'"
        ),
        "1 1"
    );
    if !std::path::Path::new("/proc/keys").exists() {
        skip!("no keyrings here");
    }
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.sh("cat /proc/keys");
    let (id, mut run) = stage.foreground(&bundle);
    let outcome = Outcome::of(&mut run).ok();
    assert!(outcome.stdout.contains(&format!("_ses.{id}")), "{outcome}");
}

#[test]
fn a_user_can_open_the_standard_streams_anew() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    // A user that is not root can reopen the streams that were handed in.
    let id = stage.id();
    bundle.sh("echo reopened > /dev/stderr").write(&id);
    let outcome = stage.shell(
        "exec $capsid run --bundle $1 $2 2>$3",
        &[
            &bundle.folder.to_string_lossy(),
            &id,
            &stage.path("err").to_string_lossy(),
        ],
    );
    outcome.ok();
    assert_eq!(
        std::fs::read_to_string(stage.path("err")).unwrap(),
        "reopened\n"
    );
}

#[test]
fn a_stream_that_is_a_device_of_everybodys_keeps_its_owner() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.sh("true");
    // Nodes of the test's own, for what fails here would be the machine's /dev.
    let script = "for n in '1 3' '1 5' '1 7' '1 8' '1 9'; do rm -f $3; mknod -m 666 $3 c $n; \
                  before=$(stat -c %u:%z $3); $capsid run --bundle $1 $2 <$3 || exit 1; \
                  [ \"$before\" = \"$(stat -c %u:%z $3)\" ] || echo \"$n: $before, $(stat -c %u:%z $3)\"; done";
    let id = stage.id();
    bundle.write(&id);
    let outcome = stage.shell(
        script,
        &[
            &bundle.folder.to_string_lossy(),
            &id,
            &stage.path("node").to_string_lossy(),
        ],
    );
    assert_eq!(outcome.ok().line(), "");
}

#[test]
fn s12_a_sysctl_leads_to_no_other_file_and_its_value_to_no_other_parameter() {
    let stage = stage!();
    let host = |name: &str| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let before = [host("vm/overcommit_ratio"), host("kernel/core_pattern")];
    let refused = |name: &str, value: &str| {
        let mut bundle = stage.bundle();
        bundle.set("/linux/sysctl", json!({name: value}));
        stage.try_create(&bundle).refuses(&["/linux/sysctl/"]);
    };
    for name in [
        "vm.overcommit_ratio",
        "net/../vm/overcommit_ratio",
        "net.../vm.overcommit_ratio",
        "net/./../vm/overcommit_ratio",
        "kernel.shm/../../vm/overcommit_ratio",
        "/vm/overcommit_ratio",
        "net//../vm/overcommit_ratio",
        "kernel.core_pattern",
    ] {
        refused(name, "7");
    }
    // CVE-2022-0811: tools that hand several of them on in one string part them by "+".
    for value in [
        "1024+kernel.core_pattern=|/evil",
        "1024\nkernel.core_pattern=|/evil",
        "1\u{0}",
    ] {
        refused("kernel.shm_rmid_forced", value);
    }
    let after = [host("vm/overcommit_ratio"), host("kernel/core_pattern")];
    assert_eq!(after, before);
}

#[test]
fn s12_a_sysctl_of_a_namespace_that_is_the_callers_own_is_refused() {
    let stage = stage!();
    let parameter = "net/ipv4/ip_default_ttl";
    // Its own value: were it written, nobody would notice.
    let value = std::fs::read_to_string(format!("/proc/sys/{parameter}")).unwrap();
    for path in ["/proc/self/ns/net", "/proc/thread-self/ns/net"] {
        let mut bundle = stage.bundle();
        let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "network", "path": path}));
        bundle.set("/linux/sysctl", json!({parameter: value.trim()}));
        stage.try_create(&bundle).refuses(&[
            "/linux/sysctl/net~1ipv4~1ip_default_ttl",
            "the caller's own namespace",
            "not allowed in host network namespace",
        ]);
    }
}

#[test]
fn s12_no_link_of_the_kernels_parameters_is_followed() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    // A file that is not there is an error of its own, and names what the kernel lacks.
    bundle.set("/linux/sysctl", json!({"net.ipv4.no_such_parameter": "1"}));
    stage.try_create(&bundle).refuses(&[
        "/linux/sysctl/net.ipv4.no_such_parameter",
        "this kernel has no such sysctl",
        "no such file or directory",
    ]);
}

#[test]
fn securebits_and_the_kept_capabilities_are_gone_when_the_program_runs() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))
        .capabilities(&["CAP_KILL"])
        .args(&["/bin/probe", "security", "capabilities"]);
    let seen = stage.run(&bundle).ok().json();
    assert_eq!(seen["security"]["securebits"], 0);
    let kill = json!(["CAP_KILL"]);
    for set in [
        "bounding",
        "permitted",
        "effective",
        "inheritable",
        "ambient",
    ] {
        assert_eq!(seen["capabilities"][set], kill, "{set}");
    }
}

#[test]
fn an_exec_has_a_session_keyring_of_the_containers_name_unless_it_keeps_the_callers() {
    let stage = stage!();
    if !std::path::Path::new("/proc/keys").exists() {
        skip!("no keyrings here");
    }
    let keys = |options: &[&str]| {
        let mut bundle = stage.bundle();
        bundle.set("/linux/maskedPaths", json!([])).sleeps();
        let container = stage.create_with(&bundle, options);
        container.start().ok();
        // Another user than the keyring's sees it only in possession of it.
        let outcome = container
            .exec_with(&["--user", "1000:1000"], &["/bin/probe", "keyring"])
            .ok();
        outcome.stdout.contains(&format!("_ses.{}", container.id))
    };
    assert!(keys(&[]));
    assert!(!keys(&["--no-new-keyring"]));
}
