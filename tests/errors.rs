//! Promise: every failure is one actionable line that names the JSON path or the file, and one valid JSON
//! record; no failure is a panic, and no log that nobody reads stops the runtime.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, Stage, end};
use crate::stage;

fn create_of(stage: &Stage, text: &str) -> Outcome {
    let bundle = stage.bundle();
    std::fs::write(bundle.folder.join("config.json"), text).unwrap();
    stage.call(&[
        "create",
        "--bundle",
        &bundle.folder.to_string_lossy(),
        &stage.id(),
    ])
}

#[test]
fn a_malformed_config_is_named_by_file_and_place() {
    let stage = stage!();
    create_of(&stage, "").refuses(&["config.json"]);
    create_of(&stage, "{\n\"ociVersion\": ").refuses(&["config.json", "line 2"]);
    create_of(&stage, "[]").refuses(&["config.json"]);
    create_of(&stage, "null").refuses(&["config.json"]);
    create_of(&stage, "\u{0}\u{1}garbage").refuses(&["config.json"]);
}

#[test]
fn a_config_that_is_not_there_is_named() {
    let stage = stage!();
    let folder = stage.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_string_lossy().into_owned();
    stage
        .call(&["create", "--bundle", &folder, &stage.id()])
        .refuses(&["/empty/config.json", "not found"]);
    stage
        .call(&["create", "--bundle", "/no/such/bundle", &stage.id()])
        .refuses(&["/no/such/bundle", "no such file or directory"]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_pointer() {
    let stage = stage!();
    let cases: &[(&str, Value)] = &[
        ("/process/args", json!("sh")),
        ("/process/user/uid", json!("root")),
        ("/process/rlimits/0/soft", json!(-1)),
        ("/mounts/1/options", json!(7)),
        ("/linux/namespaces", json!({})),
        ("/linux/resources/memory/limit", json!("1G")),
        ("/root", json!([])),
    ];
    for (pointer, value) in cases {
        let mut bundle = stage.bundle();
        bundle.set(pointer, value.clone());
        stage.try_create(&bundle).refuses(&[pointer]);
    }
}

#[test]
fn an_error_is_one_line() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/cwd", json!("relative"));
    let outcome = stage.try_create(&bundle).refuses(&["/process/cwd"]);
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{outcome}");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn an_error_is_one_record_in_the_json_log() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/cwd", json!("relative"));
    let log = stage.path("log.json");
    let id = stage.id();
    bundle.write(&id);
    let outcome = Outcome::of(
        stage
            .bare()
            .arg("--root")
            .arg(stage.state_root())
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json", "create"])
            .arg("--bundle")
            .arg(&bundle.folder)
            .arg(&id),
    );
    outcome.refuses(&["/process/cwd"]);
    let errors = records(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(errors.len(), 1);
    let record = &errors[0];
    assert!(
        record["msg"].as_str().unwrap().contains("/process/cwd"),
        "{record}"
    );
    let time = record["time"].as_str().unwrap();
    assert!(
        time.contains('T') && (time.ends_with('Z') || time.contains('+')),
        "{record}"
    );
    assert!(record["code"].is_string(), "no stable code: {record}");
    // The log is appended to, and --log-format=json is the same.
    let again = Outcome::of(
        stage
            .bare()
            .arg("--root")
            .arg(stage.state_root())
            .arg(format!("--log={}", log.display()))
            .args(["--log-format=json", "state", "no-such-container"]),
    );
    again.refuses(&["container does not exist"]);
    let errors = records(&std::fs::read_to_string(&log).unwrap());
    assert_eq!(errors.len(), 2);
    assert!(
        errors[1]["msg"]
            .as_str()
            .unwrap()
            .contains("container does not exist")
    );
}

/// The records of level error; every line has to be JSON with the three keys.
fn records(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    lines
        .inspect(|record| {
            assert!(
                ["level", "msg", "time"]
                    .iter()
                    .all(|key| record[key].is_string()),
                "{record}"
            )
        })
        .filter(|record| record["level"] == "error")
        .collect()
}

#[test]
fn the_text_log_has_runcs_form() {
    let stage = stage!();
    let log = stage.path("log.txt");
    Outcome::of(
        stage
            .capsid()
            .arg("--log")
            .arg(&log)
            .args(["state", "no-such-container"]),
    )
    .refuses(&["container does not exist"]);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        text.starts_with("time=\"")
            && text.contains("level=error msg=\"")
            && text.contains("container does not exist\""),
        "{text}"
    );
    assert_ne!(stage.call(&["--log-format", "xml", "list"]).code, 0);
}

#[test]
fn debug_logs_go_to_the_log_and_the_program_runs_the_same() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo out");
    let id = stage.id();
    bundle.write(&id);
    let log = stage.path("debug.log");
    let outcome = Outcome::of(
        stage
            .capsid()
            .arg("--debug")
            .arg("--log")
            .arg(&log)
            .arg("run")
            .arg("--bundle")
            .arg(&bundle.folder)
            .arg(&id),
    )
    .ok();
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "")
    );
    assert!(
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("level=debug")
    );
}

#[test]
fn s22_a_closed_stdout_is_no_panic() {
    let stage = stage!();
    let container = stage.running();
    for (verb, code) in [
        ("state", 1),
        ("list", 1),
        ("ps", 1),
        ("features", 1),
        ("--version", 1),
        ("--help", 1),
    ] {
        let with_id = if matches!(verb, "state" | "ps") {
            container.id.as_str()
        } else {
            ""
        };
        for redirection in ["> /dev/full", ">&-"] {
            let outcome = stage.shell(&format!("exec $capsid {verb} $1 {redirection}"), &[with_id]);
            assert!(outcome.code == code || outcome.code == 0, "{outcome}");
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
        }
    }
    // A reader that is gone, as in `capsid list | head -0`.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let outcome = stage
        .capsid()
        .arg("list")
        .stdout(Stdio::from(OwnedFd::from(writer)))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&outcome.stderr).contains("panicked"));
}

#[test]
fn closed_standard_descriptors_are_no_way_in() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("ls -l /proc/self/fd > /out/fds");
    let out = stage.path("out");
    std::fs::create_dir(&out).unwrap();
    bundle.bind(&out, "/out", &[]);
    let id = stage.id();
    bundle.write(&id);
    let outcome = stage.shell(
        "exec $capsid run --bundle \"$1\" \"$2\" <&- >&- 2>&-",
        &[&bundle.folder.to_string_lossy(), &id],
    );
    outcome.ok();
    let text = std::fs::read_to_string(out.join("fds")).unwrap();
    assert!(
        !text.contains("/tmp/t") && !text.contains("/state/"),
        "{text}"
    );
}

#[test]
fn f16_a_full_stderr_that_nobody_reads_blocks_nothing() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let id = stage.id();
    bundle.write(&id);
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Fill the pipe: dd stops when a write would block.
    let full = Outcome::of(
        std::process::Command::new("timeout")
            .args([
                "0.5",
                "sh",
                "-c",
                "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done >&0",
            ])
            .stdin(Stdio::from(OwnedFd::from(writer.try_clone().unwrap()))),
    );
    assert_eq!(full.code, 124, "{full}");
    let mut command = stage.capsid();
    command
        .args(["--debug", "run"])
        .arg("--bundle")
        .arg(&bundle.folder)
        .arg(&id);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(writer)))
        .spawn()
        .unwrap();
    assert_eq!(
        end(child),
        Some(0),
        "the runtime waits for its log's reader"
    );
    drop(command);
    let _ = reader.read(&mut [0; 16]);
}

#[test]
fn a_bundle_in_a_file_is_refused() {
    let stage = stage!();
    stage
        .call(&["create", "--bundle", "/etc/passwd", &stage.id()])
        .refuses(&["/etc/passwd", "not a directory"]);
    let bundle: Bundle = stage.bundle();
    std::fs::create_dir(bundle.folder.join("config.json")).unwrap();
    stage
        .call(&[
            "create",
            "--bundle",
            &bundle.folder.to_string_lossy(),
            &stage.id(),
        ])
        .refuses(&["config.json"]);
}

#[test]
fn a_pid_file_that_can_not_be_written_fails_create_and_leaves_nothing() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let (id, outcome) = stage.try_create_with(&bundle, &["--pid-file", "/no/such/folder/pid"]);
    outcome.refuses(&["/no/such/folder", "no such file or directory"]);
    assert_eq!(stage.remains(&id), Vec::<std::path::PathBuf>::new());
}

/// What `run` and `exec` say of a program that can't be executed, each with its tail.
#[test]
fn a_program_that_can_not_be_executed_is_told_why() {
    let stage = stage!();
    let mut bundle = stage.own_bundle();
    let rootfs = std::path::PathBuf::from(bundle.config["root"]["path"].as_str().unwrap());
    let make = r#"cd "$1"; mkdir t; printf '#!/no/interp -x\n' > t/script; printf 'echo no shebang\n' > t/text;
        printf 'x' > t/plain; printf '#!/bin/sh\n' > t/closed; printf '#!/t/plain\n' > t/denied; cp bin/busybox t/other; cp "$2" t/dynamic; chmod 755 t/script t/text t/denied t/other t/dynamic; chmod 644 t/plain t/closed
        printf '\267\0' | dd of=t/other bs=1 seek=18 conv=notrunc 2>/dev/null"#;
    let dynamic = ["/usr/bin/env", "/bin/ls"]
        .iter()
        .find(|path| std::path::Path::new(path).exists());
    let Some(dynamic) = dynamic else {
        crate::skip!("no dynamic program here");
    };
    stage
        .shell(make, &[&rootfs.to_string_lossy(), dynamic])
        .ok();
    bundle
        .mount("/noexec", "tmpfs", "tmpfs", &["noexec"])
        .sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    container.sh("cp /bin/busybox /noexec/program");
    let other = if cfg!(target_arch = "aarch64") {
        ""
    } else {
        "it is built for aarch64"
    };
    for (program, needles) in [
        (
            "nosuch",
            ["exec: \"nosuch\": executable file not found in $PATH", ""],
        ),
        (
            "/t/nosuch",
            [
                "exec: \"/t/nosuch\": stat /t/nosuch: no such file or directory",
                "",
            ],
        ),
        (
            "/t/plain",
            [
                "its mode doesn't let this user execute it: exec: \"/t/plain\": permission denied",
                "",
            ],
        ),
        (
            "/t/closed",
            [
                "its mode doesn't let this user execute it: exec: \"/t/closed\": permission denied",
                "",
            ],
        ),
        (
            "/t/plain/x",
            ["exec: \"/t/plain/x\": stat /t/plain/x: not a directory", ""],
        ),
        (
            "/t",
            ["exec: \"/t\": is a directory: permission denied", ""],
        ),
        (
            "/t/script",
            [
                "the interpreter /no/interp of its first line is missing",
                "exec /t/script: no such file or directory",
            ],
        ),
        (
            "/t/denied",
            [
                "the interpreter /t/plain of its first line",
                "exec /t/denied: permission denied",
            ],
        ),
        (
            "/t/dynamic",
            [
                "the loader /lib",
                "exec /t/dynamic: no such file or directory",
            ],
        ),
        (
            "/t/text",
            [
                "a script without a #! line",
                "exec /t/text: exec format error",
            ],
        ),
        ("/t/other", [other, "exec /t/other: exec format error"]),
        (
            "/noexec/program",
            [
                "has the option noexec",
                "exec: \"/noexec/program\": permission denied",
            ],
        ),
    ] {
        let outcome = container.exec(&[program]).fails_with(255, &needles);
        let line = outcome.stderr.replace("\\\"", "\"");
        let line = line.trim_end().trim_end_matches('"');
        let tail = needles
            .iter()
            .rev()
            .find(|needle| !needle.is_empty())
            .unwrap();
        let last = tail.split("it: ").last().unwrap();
        assert!(
            line.ends_with(last) || program == "/t/text" || program == "nosuch",
            "{outcome}"
        );
    }
    for (program, needle) in [
        ("/t/script", "/no/interp"),
        ("/t/dynamic", "the loader /lib"),
    ] {
        bundle.args(&[program]);
        let created = stage.create(&bundle);
        created.start().refuses(&[
            needle,
            &format!("exec {program}: no such file or directory"),
        ]);
    }
}

#[test]
fn a_misspelt_setting_is_told_and_what_was_meant() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set("/process/noNewPriviliges", serde_json::json!(true))
        .set("/x-mine", serde_json::json!(1));
    let outcome = stage.run(&bundle).ok();
    assert!(
        outcome.stderr.contains("/process/noNewPriviliges"),
        "{outcome}"
    );
    assert!(
        outcome.stderr.contains("noNewPrivileges may be meant"),
        "{outcome}"
    );
    assert!(!outcome.stderr.contains("x-mine"), "{outcome}");
}

#[test]
fn a_setting_that_is_like_none_is_listed_by_explain_and_refused_by_strict_alone() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set("/linux/x-mine", serde_json::json!(1));
    let outcome = stage.run(&bundle).ok();
    assert_eq!(outcome.stderr, "");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let line = "notice: /linux/x-mine: unknown setting \"x-mine\" is ignored";
    let outcome = stage.call(&["explain", &folder]).ok();
    assert!(outcome.stdout.contains(line), "{outcome}");
    stage
        .call(&["explain", "--strict", &folder])
        .refuses(&["/linux/x-mine", "--strict"]);
    let (_, outcome) = stage.try_create_with(&bundle, &["--strict"]);
    outcome.refuses(&["/linux/x-mine", "unknown setting", "--strict"]);
    bundle.remove("/linux/x-mine");
    bundle.write("strict");
    stage.call(&["explain", "--strict", &folder]).ok();
    let container = stage.running();
    let document = stage.path("resources.json");
    std::fs::write(&document, r#"{"x-mine": 1, "pids": {"limit": 50}}"#).unwrap();
    let document = document.to_string_lossy();
    let outcome = container.call("update", &["--strict", "--resources", &document]);
    outcome.refuses(&["/x-mine", "--strict"]);
    let outcome = container.call("update", &["--resources", &document]).ok();
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_path_that_the_state_can_not_name_is_refused_with_the_reason() {
    use std::os::unix::ffi::OsStrExt;
    let stage = stage!();
    let strange = stage.folder.join(std::ffi::OsStr::from_bytes(b"bad\xff"));
    let mut bundle = stage.own_bundle();
    bundle.args(&["/bin/true"]).write("strange");
    let reason = "the path is not UTF-8";
    let call = |before: &[&str]| {
        let mut call = stage.capsid();
        call.args(before).arg(&strange);
        call
    };
    std::fs::rename(&bundle.folder, &strange).unwrap();
    for mut call in [call(&["explain"]), call(&["create", "strange", "--bundle"])] {
        crate::harness::Outcome::of(&mut call).refuses(&["open the bundle", reason]);
    }
    std::fs::rename(&strange, &bundle.folder).unwrap();
    std::fs::rename(bundle.folder.join("rootfs"), &strange).unwrap();
    std::os::unix::fs::symlink(&strange, bundle.folder.join("rootfs")).unwrap();
    stage.try_create(&bundle).refuses(&["/root/path", reason]);
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let folder = bundle.folder.to_string_lossy().into_owned();
    bundle.write("strange");
    for option in ["--overlay-dir", "--lxcfs"] {
        let mut call = stage.capsid();
        let mut option = std::ffi::OsString::from(format!("{option}="));
        option.push(&strange);
        call.args(["run", "--bundle", &folder])
            .arg(option)
            .arg("strange");
        let outcome = crate::harness::Outcome::of(&mut call);
        if outcome.code != 0 {
            outcome.refuses(&[reason]);
        }
    }
}

#[test]
fn a_setting_in_the_wrong_place_is_told_its_own_also_when_something_else_fails() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set(
            "/seccomp",
            serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO"}),
        )
        .set("/process/noNewPriviliges", serde_json::json!(true));
    let told = [
        "/seccomp: setting \"seccomp\" is ignored here: it belongs at /linux/seccomp",
        "noNewPrivileges may be meant",
    ];
    let all = |outcome: &crate::harness::Outcome| {
        for needle in told {
            assert!(
                outcome.stderr.replace('\\', "").contains(needle),
                "{needle}: {outcome}"
            );
        }
    };
    all(&stage.run(&bundle).ok());
    let folder = bundle.folder.to_string_lossy().into_owned();
    // A wrong type, a broken rule, and what is found out by the machine.
    for (pointer, value) in [
        ("/process/args", serde_json::json!("sh")),
        ("/process/cwd", serde_json::json!("relative")),
        ("/root/path", serde_json::json!("nosuch")),
    ] {
        let before = bundle.config.pointer(pointer).unwrap().clone();
        bundle.set(pointer, value);
        all(&stage.run(&bundle).refuses(&[pointer]));
        all(&stage.call(&["explain", &folder]).refuses(&[pointer]));
        bundle.set(pointer, before);
    }
}

#[test]
fn explain_lists_every_problem_with_its_place() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .set("/process/args", serde_json::json!(["sh", 1, "x", false]))
        .set("/process/user/uid", serde_json::json!("root"))
        .set("/process/cwd", serde_json::json!("relative"))
        .set(
            "/process/rlimits",
            serde_json::json!([{"type": "NOFILE", "soft": 1, "hard": 1}]),
        )
        .set("/process/oomScoreAdj", serde_json::json!(1001))
        .set(
            "/linux/seccomp",
            serde_json::json!({"defaultAction": "allow", "syscalls": [{"name": "x"}]}),
        )
        .set("/hooks/prestart", serde_json::json!([{"args": []}]))
        .set("/hooks/poststop", serde_json::json!([{"path": "relative"}]))
        .set("/hostname", serde_json::json!(5));
    bundle.write("explained");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let outcome = stage.call(&["explain", &folder]);
    let mut places = [
        "/process/args/1",
        "/process/args/3",
        "/process/user/uid",
        "/process/cwd",
        "/process/rlimits/0/type",
        "/process/oomScoreAdj",
        "/linux/seccomp/defaultAction",
        "/linux/seccomp/syscalls/0/names",
        "/hooks/prestart/0/path",
        "/hooks/poststop/0/path",
        "/hostname",
    ];
    let mut told: Vec<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("problem: ")?.split(": ").next())
        .collect();
    places.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, places, "{outcome}");
    for meant in ["RLIMIT_NOFILE may be meant", "SCMP_ACT_ALLOW may be meant"] {
        assert!(outcome.stdout.contains(meant), "{outcome}");
    }
    outcome.refuses(&["explain "]);
    // And create says how many there are.
    stage
        .run(&bundle)
        .refuses(&["one of 11 problems, capsid explain lists them"]);
}

#[test]
fn an_option_in_the_wrong_place_is_told_its_own() {
    let stage = stage!();
    stage
        .call(&["list", "--log-format", "json"])
        .fails_with(2, &["--log-format stands before the verb"]);
    stage
        .call(&["kill", "-9", "web"])
        .fails_with(2, &["capsid kill ID 9"]);
}

#[test]
fn a_message_is_never_as_long_as_what_it_is_about() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let long = "x".repeat(60_000);
    bundle.mount("/mnt", "tmpfs", "tmpfs", &[&format!("{long}={long}")]);
    let outcome = stage.run(&bundle).refuses(&["/mounts/7"]);
    assert!(
        outcome.stderr.len() < 20_000,
        "{} bytes",
        outcome.stderr.len()
    );
}

#[test]
fn a_limit_of_open_files_is_no_obstacle_of_the_runtimes() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("ulimit -n").set(
        "/process/rlimits",
        serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}]),
    );
    stage.run(&bundle).ok().prints("3");
    if crate::harness::user::obstacle().is_none() {
        let stage = stage!(crate::harness::View::Host).of_user();
        bundle.folder = stage.path("bundle");
        std::fs::create_dir_all(&bundle.folder).unwrap();
        bundle.remove("/linux/cgroupsPath");
        stage.run(&bundle).ok().prints("3");
    }
}

#[test]
fn exit_codes_are_dockers_where_that_is_asked_for() {
    let stage = stage!();
    let container = stage.running();
    let with = |map: &str, verb: &[&str]| {
        let mut command = stage.capsid();
        command.args(["--exit-code-map", map]).args(verb);
        Outcome::of(&mut command).code
    };
    let id = container.id.as_str();
    for (program, runcs, dockers) in [
        ("nosuch", 255, 127),
        ("/etc/passwd", 255, 126),
        ("true", 0, 0),
    ] {
        assert_eq!(with("runc", &["exec", id, program]), runcs, "{program}");
        assert_eq!(with("docker", &["exec", id, program]), dockers, "{program}");
    }
    assert_eq!(with("docker", &["exec", "absent", "true"]), 125);
    assert_eq!(with("docker", &["state", "absent"]), 125);
    let mut bundle = stage.bundle();
    let other = stage.id();
    bundle.args(&["/no/such"]).write(&other);
    let folder = bundle.folder.to_string_lossy().into_owned();
    assert_eq!(with("docker", &["run", "--bundle", &folder, &other]), 127);
    for (wrong, dockers) in [
        (vec!["no-such-verb"], 125),
        (vec!["state", "--no-such-option", "x"], 125),
        (vec!["--log", "/no/such/log", "state", "x"], 125),
        (vec!["--help"], 0),
    ] {
        assert_eq!(with("docker", &wrong), dockers, "{wrong:?}");
    }
    assert_eq!(with("runc", &["no-such-verb"]), 2);
}

#[test]
fn a_capability_that_the_caller_lacks_is_named() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    for set in ["bounding", "permitted", "effective"] {
        let pointer = format!("/process/capabilities/{set}");
        bundle.set(&pointer, json!(["CAP_KILL", "CAP_SYS_BOOT"]));
    }
    let id = stage.id();
    bundle.write(&id);
    let script = "exec setpriv --bounding-set=-sys_boot $capsid run --bundle \"$1\" \"$2\"";
    stage
        .shell(script, &[&bundle.folder.to_string_lossy(), &id])
        .refuses(&[
            "the caller itself has no CAP_SYS_BOOT",
            "operation not permitted",
        ]);
}
