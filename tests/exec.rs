//! Promise: exec runs one more process in a container, in all its namespaces, as confined as the first one,
//! from the configuration that the container was created with.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, View, end, until};
use crate::stage;

#[test]
fn exec_returns_the_status_of_the_command() {
    let stage = stage!();
    let container = stage.running();
    for code in [0, 1, 42] {
        container
            .exec(&["/bin/sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    container.exec(&["/bin/sh", "-c", "kill -9 $$"]).exits(137);
    container.exec(&["/bin/sh", "-c", "kill -15 $$"]).exits(143);
}

#[test]
fn exec_returns_255_when_the_command_never_ran() {
    let stage = stage!();
    let container = stage.running();
    container.exec(&["no-such-program"]).fails_with(
        255,
        &["exec: \"no-such-program\": executable file not found in $PATH"],
    );
    // Nor is nothing a program, or the folder that it would be looked up in.
    container
        .exec(&[""])
        .fails_with(255, &["exec: \"\": executable file not found in $PATH"]);
    container
        .exec(&["/bin/no-such-program"])
        .fails_with(255, &["/bin/no-such-program", "no such file or directory"]);
    container
        .exec(&["/etc/passwd"])
        .fails_with(255, &["/etc/passwd", "permission denied"]);
    stage
        .call(&["exec", "no-such-container", "true"])
        .fails_with(255, &["container does not exist"]);
    container.kill("KILL").ok();
    container.becomes("stopped");
    assert_eq!(container.exec(&["true"]).code, 255);
}

#[test]
fn exec_hands_on_output_and_finds_programs_in_the_path() {
    let stage = stage!();
    let container = stage.running();
    let outcome = container.exec(&["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[test]
fn exec_takes_everything_after_the_id_as_the_command() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec(&["echo", "--cwd", "/tmp", "-t", "--help"])
        .ok()
        .prints("--cwd /tmp -t --help");
}

#[test]
fn exec_joins_every_namespace_of_the_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.namespace("cgroup", None).sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let pid = container.pid();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let init = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(
            container.sh(&format!("readlink /proc/self/ns/{kind}")),
            init.to_string_lossy()
        );
        assert_ne!(init, own, "{kind}");
    }
}

#[test]
fn exec_enters_a_created_container() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    assert_eq!(container.sh("hostname"), "promises");
    assert_eq!(container.status(), "created");
}

#[test]
fn exec_refuses_a_paused_container_unless_told_otherwise() {
    let stage = stage!();
    let container = stage.running();
    container.call("pause", &[]).ok();
    container.exec(&["true"]).fails_with(
        255,
        &["cannot exec in a paused container (use --ignore-paused to override)"],
    );
    let mut waiting = stage.capsid();
    waiting.args(["exec", "--ignore-paused", &container.id, "true"]);
    let child = waiting.spawn().unwrap();
    container.call("resume", &[]).ok();
    assert_eq!(end(child), Some(0));
}

#[test]
fn s23_exec_is_as_confined_as_the_first_process() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let report = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid)' /proc/self/status; umask; ulimit -n; ulimit -c";
    bundle
        .sh(&format!("({report}) > /out/init; trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done"))
        .set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o27, "additionalGids": [10, 20]}))
        .set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]));
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    bundle.bind(&out, "/out", &[]);
    let container = stage.create(&bundle);
    container.start().ok();
    until("init has reported", || {
        std::fs::read_to_string(out.join("init")).is_ok_and(|text| text.lines().count() >= 13)
    });
    let init = std::fs::read_to_string(out.join("init")).unwrap();
    assert_eq!(container.sh(report), init.trim());
    assert!(
        init.contains("NoNewPrivs:\t1") && init.contains("Groups:\t10 20"),
        "{init}"
    );
}

#[test]
fn exec_sees_the_same_mounts_masks_and_cgroups() {
    let stage = stage!();
    let container = stage.running();
    let init = std::fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap();
    assert_eq!(container.sh("cat /proc/self/mountinfo"), init.trim());
    let init = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert_eq!(container.sh("cat /proc/self/cgroup"), init.trim());
}

#[test]
fn exec_uses_the_configuration_of_create_and_never_the_bundle_again() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps().push("/process/env", json!("WHICH=first"));
    let container = stage.create(&bundle);
    container.start().ok();
    bundle
        .set("/process/env", json!(["PATH=/bin", "WHICH=second"]))
        .set("/process/noNewPrivileges", json!(false))
        .write(&container.id);
    assert_eq!(
        container.sh("echo $WHICH; grep NoNewPrivs /proc/self/status"),
        "first\nNoNewPrivs:\t1"
    );
    std::fs::write(bundle.folder.join("config.json"), "garbage").unwrap();
    assert_eq!(container.sh("echo $WHICH"), "first");
    std::fs::remove_file(bundle.folder.join("config.json")).unwrap();
    assert_eq!(container.sh("echo $WHICH"), "first");
}

#[test]
fn exec_takes_a_working_directory_byte_by_byte() {
    let stage = stage!();
    let container = stage.running();
    let odd = OsStr::from_bytes(b"/dev/shm/\xe9t\xe9");
    let in_it = || {
        let words = ["exec", "--cwd", "", &container.id, "stat", "-c", "%i", "."];
        let words = words.map(|word| match word {
            "" => odd,
            word => OsStr::new(word),
        });
        stage.call(&words)
    };
    // No other directory in its place.
    in_it().fails_with(255, &["no such file or directory"]);
    let made = container.sh("cd /dev/shm && mkdir $(printf '\\351t\\351') && stat -c %i *t*");
    assert_eq!(in_it().ok().stdout.trim(), made);
}

#[test]
fn exec_sets_the_working_directory_and_the_environment() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(&["--cwd", "/tmp"], &["pwd"])
        .ok()
        .prints("/tmp");
    container
        .exec_with(
            &["--env", "A=1", "-e", "B=two words"],
            &["sh", "-c", "echo $A $B"],
        )
        .ok()
        .prints("1 two words");
    container
        .exec_with(&["--env", "TERM=dumb"], &["sh", "-c", "echo $TERM"])
        .ok()
        .prints("dumb");
}

#[test]
fn s10_exec_takes_the_user_by_number_and_never_falls_back_to_root() {
    let stage = stage!();
    let container = stage.running();
    for (user, expected) in [
        ("1000", "1000 0"),
        ("1000:1000", "1000 1000"),
        ("0:5", "0 5"),
        ("4242:4243", "4242 4243"),
    ] {
        container
            .exec_with(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"])
            .ok()
            .prints(expected);
    }
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "1:x",
        "1:-2",
        "",
        "nobody-of-that-name",
        "1:2:3",
        " 1",
    ] {
        let outcome = container.exec_with(&["--user", user], &["id", "-u"]);
        assert_ne!(outcome.code, 0, "{outcome}");
    }
}

#[test]
fn exec_finds_home_in_the_containers_passwd() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(&["--user", "1000"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/home/user");
    container
        .exec_with(&["--user", "0"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/root");
    container
        .exec_with(&["--user", "777"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/");
    container
        .exec_with(&["--env", "HOME=/elsewhere"], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/elsewhere");
    container
        .exec_with(&["--env", "HOME="], &["sh", "-c", "echo $HOME"])
        .ok()
        .prints("/root");
}

#[test]
fn exec_adds_groups() {
    let stage = stage!();
    let container = stage.running();
    container
        .exec_with(
            &["--additional-gids", "100", "--additional-gids", "65534"],
            &["grep", "Groups", "/proc/self/status"],
        )
        .ok()
        .prints("Groups:\t100 65534");
}

#[test]
fn s09_exec_adds_capabilities_and_never_inheritable_ones() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/process/capabilities/ambient", json!([]));
    let container = stage.create(&bundle);
    container.start().ok();
    let status = container
        .exec_with(
            &["--cap", "CAP_SYS_PTRACE", "--cap", "CAP_CHOWN"],
            &["cat", "/proc/self/status"],
        )
        .ok()
        .stdout;
    let set = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{status}"));
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let (ptrace, chown) = (1 << 19, 1);
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(
            set(name) & (ptrace | chown),
            ptrace | chown,
            "{name}: {status}"
        );
    }
    assert_eq!(set("CapInh"), 0, "{status}");
}

#[test]
fn exec_sets_no_new_privileges() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/process/noNewPrivileges", json!(false));
    let container = stage.create(&bundle);
    container.start().ok();
    assert_eq!(
        container.sh("grep NoNewPrivs /proc/self/status"),
        "NoNewPrivs:\t0"
    );
    container
        .exec_with(
            &["--no-new-privs"],
            &["grep", "NoNewPrivs", "/proc/self/status"],
        )
        .ok()
        .prints("NoNewPrivs:\t1");
}

#[test]
fn exec_takes_a_process_file() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("process.json");
    let mut process: Value =
        Bundle::new(&stage.path("other"), "/".as_ref()).config["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", "echo $X; pwd; id -u; exit 7"]);
    process["env"] = json!(["PATH=/bin", "X=from the file"]);
    process["cwd"] = json!("/tmp");
    process["user"]["uid"] = json!(1000);
    std::fs::write(&file, process.to_string()).unwrap();
    let outcome = container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .exits(7);
    assert_eq!(outcome.stdout, "from the file\n/tmp\n1000\n");
    process["cwd"] = json!("relative");
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &["/cwd"]);
    process["args"] = json!([]);
    process["seccomp"] = json!({});
    std::fs::write(&file, process.to_string()).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(
            255,
            &[
                "one of 2 problems: /cwd, /args: ",
                "/seccomp: setting \"seccomp\" is ignored here: it belongs at /linux/seccomp",
            ],
        );
    std::fs::write(&file, "{\"args\": 5, \"noNewPriviliges\": true}").unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(
            255,
            &["/args", "process.json", "noNewPrivileges may be meant"],
        );
    std::fs::remove_file(&file).unwrap();
    container
        .exec_with(&["--process", &file.to_string_lossy()], &[])
        .fails_with(255, &["process.json", "not found"]);
}

#[test]
fn exec_detached_returns_at_once_and_writes_the_pid() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("exec.pid");
    container
        .exec_with(
            &["--detach", "--pid-file", &file.to_string_lossy()],
            &["sleep", "604"],
        )
        .ok();
    let pid: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    until("the program runs", || {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line == "sleep\x00604\x00")
    });
    let list = container
        .stage
        .call(&["ps", "--format", "json", &container.id])
        .ok()
        .json();
    assert!(list.as_array().unwrap().contains(&json!(pid)), "{list}");
}

#[test]
fn exec_is_in_the_containers_cgroup() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("exec.pid");
    container
        .exec_with(
            &["-d", "--pid-file", &file.to_string_lossy()],
            &["sleep", "605"],
        )
        .ok();
    let pid = std::fs::read_to_string(&file).unwrap();
    let cgroup = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(&pid), cgroup(&container.pid().to_string()));
}

#[test]
fn exec_keeps_the_descriptors_it_was_asked_to_and_no_others() {
    let stage = stage!();
    let container = stage.running();
    let list = "ls /proc/self/fd | wc -l";
    let script = r#"exec 3</etc/passwd 4</etc/group 5</; exec $capsid exec "$@""#;
    // 0, 1, 2 and the one that ls reads the folder through.
    stage
        .shell(script, &[&container.id, "sh", "-c", list])
        .ok()
        .prints("4");
    stage
        .shell(
            script,
            &["--preserve-fds", "2", &container.id, "sh", "-c", list],
        )
        .ok()
        .prints("6");
    let script = r#"exec 3<&- ; exec $capsid exec "$@""#;
    assert_ne!(
        stage
            .shell(script, &["--preserve-fds", "1", &container.id, "true"])
            .code,
        0
    );
}

#[test]
fn f09_many_short_execs_all_return_their_status() {
    let stage = stage!();
    let container = stage.running();
    for round in 0..crate::harness::machine::count("CAPSID_EXECS", 40, 1000) {
        let code = (round % 200) as i32;
        container
            .exec(&["/bin/sh", "-c", &format!("exit {code}")])
            .exits(code);
    }
    // Another test's orphan may be one for a moment.
    until("nobody is left unreaped", || {
        let mut ps = std::process::Command::new("ps");
        let children = Outcome::of(ps.args(["-o", "stat=", "--ppid", "1"])).stdout;
        !children.contains('Z')
    });
}

#[test]
fn exec_enters_a_cgroup_below_the_containers() {
    for view in View::versions() {
        let stage = stage!(view);
        let container = stage.running();
        let controller = match view {
            View::V1 => "memory",
            _ => "",
        };
        let own = container.cgroup(controller);
        let sub = own.join("sub");
        std::fs::create_dir(&sub).unwrap();
        let line = |options: &[&str]| {
            let outcome = container.exec_with(options, &["cat", "/proc/self/cgroup"]);
            let outcome = outcome.ok().stdout;
            let own = |line: &&str| line.contains(&format!(":{controller}:"));
            outcome.lines().find(own).unwrap().to_owned()
        };
        let named = format!("{controller}:sub");
        let wanted = match view {
            View::V1 => named.as_str(),
            _ => "sub",
        };
        let inside = line(&["--cgroup", wanted]);
        assert!(inside.ends_with("/sub"), "{inside}");
        assert!(!line(&[]).ends_with("/sub") && !line(&["--cgroup", "/"]).ends_with("/sub"));
        container
            .exec_with(&["--cgroup", "missing"], &["true"])
            .fails_with(
                255,
                &["into the cgroup missing", "has to exist: no such file"],
            );
        for path in ["../other", "a/../../b", "/..", "sub/.."] {
            container
                .exec_with(&["--cgroup", path], &["true"])
                .fails_with(255, &["bad sub cgroup path"]);
        }
        container
            .exec_with(&["--cgroup", "nosuch"], &["true"])
            .fails_with(255, &["nosuch", "no such file or directory"]);
        container
            .exec_with(&["--cgroup", "nosuch:sub"], &["true"])
            .fails_with(255, &["unknown controller nosuch"]);
        std::fs::remove_dir(&sub).unwrap();
    }
}

#[test]
fn exec_takes_users_and_groups_by_their_names_in_the_container() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let etc = std::path::PathBuf::from(bundle.config["root"]["path"].as_str().unwrap()).join("etc");
    std::fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n7:x:0:0::/:/bin/sh\nbad:x:-1:0::/:\nhuge:x:4294967295:0::/:\n",
    )
    .unwrap();
    std::fs::write(
        etc.join("group"),
        "root:x:0:\nusers:x:1001:\naudio:x:29:other,user\nvideo:x:44:user\nno:x:45:usero\n",
    )
    .unwrap();
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let ids = [
        "sh",
        "-c",
        "echo $(id -u) $(id -g) $(grep Groups /proc/self/status) $HOME",
    ];
    for (user, expected) in [
        ("user", "1000 1001 Groups: 29 44 /home/user"),
        ("user:audio", "1000 29 Groups: 29 44 /home/user"),
        ("user:5", "1000 5 Groups: 29 44 /home/user"),
        ("1000:video", "1000 44 Groups: /home/user"),
        // Digits are a number, also where a name looks the same.
        ("7", "7 0 Groups: /"),
        ("root", "0 0 Groups: /root"),
    ] {
        let outcome = container.exec_with(&["--user", user], &ids).ok();
        assert_eq!(outcome.line(), expected, "{user}");
    }
    container
        .exec_with(&["-g", "audio", "-g", "7"], &ids)
        .ok()
        .prints("Groups: 7 29");
    for (user, tail) in [
        ("nobody", "no matching entries in passwd file"),
        ("bad", "no matching entries in passwd file"),
        ("huge", "no matching entries in passwd file"),
        ("user:nobody", "no matching entries in group file"),
    ] {
        container
            .exec_with(&["--user", user], &ids)
            .fails_with(255, &[tail]);
    }
}

#[test]
fn s13_account_files_that_are_no_files_are_refused_in_time() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let etc = std::path::PathBuf::from(bundle.config["root"]["path"].as_str().unwrap()).join("etc");
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    for make in [
        "mkfifo $1/passwd",
        "mknod $1/passwd c 1 5",
        "mkdir $1/passwd",
        "ln -s /proc/self/fd/0 $1/passwd",
        "ln -s ../../../../../../../../etc/secret $1/passwd",
        "truncate -s 1G $1/passwd",
    ] {
        let script = format!("rm -rf $1/passwd; {make}");
        stage.shell(&script, &[&etc.to_string_lossy()]).ok();
        let outcome = container.exec_with(&["--user", "user"], &["id"]);
        assert_eq!(outcome.code, 255, "{make}: {outcome}");
        assert!(
            outcome.took < std::time::Duration::from_secs(10),
            "{make}: {outcome}"
        );
    }
}

#[test]
fn exec_into_a_paused_container_is_ended_by_a_signal_and_leaves_no_process() {
    for view in View::versions() {
        let stage = stage!(view);
        let container = stage.running();
        container.call("pause", &[]).ok();
        for (earlier, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
            .iter()
            .enumerate()
        {
            let mut command = stage.capsid();
            command.args(["exec", "--ignore-paused", &container.id, "sleep", "617"]);
            let waiting = command.stderr(std::process::Stdio::null()).spawn().unwrap();
            let pid = waiting.id() as i32;
            // Its process is there, and frozen. On v1 those before it end when they are thawed.
            let frozen = if view == View::V1 { earlier } else { 0 };
            until("the process is in the container's cgroup", || {
                let list = stage
                    .call(&["ps", "--format", "json", &container.id])
                    .ok()
                    .json();
                list.as_array().unwrap().len() > 2 + frozen
            });
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), *signal).unwrap();
            assert_eq!(end(waiting), Some(255), "{view:?} {signal}");
        }
        container.call("resume", &[]).ok();
        until("what was given up is gone", || {
            let list = stage
                .call(&["ps", "--format", "json", &container.id])
                .ok()
                .json();
            list.as_array().unwrap().len() == 2
        });
    }
}

#[test]
fn f09_exec_that_races_the_containers_end_says_that_it_has_stopped() {
    let stage = stage!();
    for _ in 0..crate::harness::machine::count("CAPSID_RACES", 20, 300) {
        let container = stage.running();
        let mut command = stage.capsid();
        command.args(["exec", &container.id, "sleep", "618"]);
        let racing = std::thread::scope(|scope| {
            let racing = scope.spawn(|| Outcome::of(&mut command));
            container.kill("KILL").ok();
            racing.join().unwrap()
        });
        // It ran and was killed with the container, or it never ran.
        match racing.code {
            137 => assert_eq!(racing.stderr, "", "{racing}"),
            255 => drop(racing.fails_with(255, &["cannot exec in a stopped container"])),
            _ => panic!("{racing}"),
        }
        container.delete_force().ok();
    }
}
