//! Promise: every failure is one actionable line that names the JSON path or the file; no failure is a panic,
//! and its exit code is the one that is asked for.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, Stage};
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
fn s22_a_closed_stdout_is_no_panic() {
    let stage = stage!();
    let container = stage.running();
    let bundle = stage.bundle();
    bundle.write("explained");
    let folder = bundle.folder.to_string_lossy();
    for (words, argument) in [
        ("state", container.id.as_str()),
        ("ps --format json", &container.id),
        ("events --stats", &container.id),
        ("mounts list", &container.id),
        ("explain", &folder),
        ("list", ""),
        ("features", ""),
        ("info", ""),
        ("completion bash", ""),
        ("--version", ""),
        ("--help", ""),
    ] {
        for (redirection, why) in [
            ("> /dev/full", "no space left on device"),
            (">&-", "bad file descriptor"),
        ] {
            let script = format!("exec $capsid {words} $1 {redirection}");
            let outcome = stage.shell(&script, &[argument]);
            assert_eq!(outcome.code, 1, "{script}: {outcome}");
            let last = outcome.stderr.trim_end().lines().last().unwrap_or_default();
            let said = last.contains("write to standard output") && last.contains(why);
            assert!(said, "{script}: {outcome}");
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
    assert_eq!(stage.remains(&id), Vec::<PathBuf>::new());
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
        Outcome::of(&mut call).refuses(&["open the bundle", reason]);
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
        let outcome = Outcome::of(&mut call);
        if outcome.code != 0 {
            outcome.refuses(&[reason]);
        }
    }
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
        json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}]),
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
