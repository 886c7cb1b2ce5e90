//! Promise: a message says what to do, in the words of who made the mistake: it names the flag or the file
//! that was written, and what may have been meant. The text that engines match on stays last.

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage};
use crate::stage;

/// The message of a failure, without the text log's quotes.
fn message(outcome: &Outcome) -> String {
    outcome.stderr.replace("\\\"", "\"").trim_end().to_owned()
}

/// `run` fails with all of the first words, and its line ends with the last.
#[track_caller]
fn run_ends(stage: &Stage, bundle: &Bundle, options: &[&str], words: &[&str], tail: &str) {
    let outcome = stage.run_with(bundle, options).refuses(words);
    let message = message(&outcome);
    let line = message.lines().last().unwrap_or_default();
    assert!(
        line.trim_end_matches('"')
            .ends_with(tail.trim_end_matches('"')),
        "{outcome}"
    );
}

#[test]
fn settings_of_another_platform_are_told_by_explain_and_refused_by_strict() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    for platform in ["windows", "vm"] {
        let pointer = format!("/{platform}");
        bundle.set(&pointer, json!({"a": 1}));
        assert_eq!(stage.run(&bundle).ok().stderr, "");
        let folder = bundle.folder.to_string_lossy().into_owned();
        let notice = format!("notice: {pointer}: settings of another platform are ignored");
        stage.call(&["explain", &folder]).ok().prints(&notice);
        let (_, outcome) = stage.try_create_with(&bundle, &["--strict"]);
        outcome.refuses(&[&pointer, "--strict"]);
        bundle.remove(&pointer);
    }
}

#[test]
fn explain_lists_every_notice_also_where_it_fails() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set("/process/capabilities/bounding", json!(["net_admin"]))
        .set("/linux/foo", json!(1));
    bundle.write("explained");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let told = |outcome: &Outcome| {
        for line in [
            "notice: /linux/foo: unknown setting \"foo\" is ignored",
            "notice: /process/capabilities/bounding/0: unknown capability \"net_admin\" is ignored: \
             CAP_NET_ADMIN may be meant",
        ] {
            assert!(outcome.stdout.contains(line), "{line}: {outcome}");
        }
    };
    told(&stage.call(&["explain", &folder]).ok());
    told(
        &stage
            .call(&["explain", "--strict", &folder])
            .refuses(&["--strict"]),
    );
    bundle.set("/process/cwd", json!("relative"));
    bundle.write("explained");
    told(&stage.call(&["explain", &folder]).refuses(&["/process/cwd"]));
    let outcome = stage.call(&["explain", "--format", "json", &folder]);
    let lists = outcome.json();
    assert_eq!(lists["problems"][0]["pointer"], "/process/cwd", "{outcome}");
    assert_eq!(
        lists["notices"].as_array().map(Vec::len),
        Some(2),
        "{outcome}"
    );
}

#[test]
fn a_document_that_is_around_the_object_is_refused() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("around.json");
    let write = |document: serde_json::Value| std::fs::write(&file, document.to_string()).unwrap();
    let path = file.to_string_lossy();
    write(json!({"linux": {"resources": {"pids": {"limit": 50}}}}));
    container.call("update", &["--resources", &path]).refuses(&[
        &format!("update {}: ", container.id),
        "the object that config.json has at /linux/resources is wanted",
        "setting \"linux\" is not one of /linux/resources",
    ]);
    write(json!({"process": {"args": ["/bin/true"], "cwd": "/"}}));
    let outcome = stage.call(&["exec", "--process", &path, &container.id]);
    outcome.fails_with(
        255,
        &["the object that config.json has at /process is wanted"],
    );
    // What belongs elsewhere is told where in this very file.
    write(json!({"pids": {"limit": 50}, "cpus": "0"}));
    let outcome = container.call("update", &["--resources", &path]).ok();
    assert!(
        message(&outcome).contains("it belongs at /cpu/cpus"),
        "{outcome}"
    );
}

#[test]
fn a_file_that_was_named_is_named_with_its_option() {
    let stage = stage!();
    let bundle = stage.bundle();
    let tail = "JSON specification file /nope.json not found";
    run_ends(
        &stage,
        &bundle,
        &["--config", "/nope.json"],
        &["named by --config"],
        tail,
    );
    let outcome = stage.run_with(&bundle, &["--config", "/nope.json"]);
    assert!(!message(&outcome).contains("--bundle:"), "{outcome}");
    let folder = stage.path("empty");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.to_string_lossy().into_owned();
    let outcome = stage.call(&["explain", &folder]);
    let tail = "capsid spec --bundle DIR writes it: JSON specification file config.json not found";
    outcome.refuses(&[tail]);
    let nowhere = "/no/such/folder";
    stage
        .call(&["spec", "--bundle", nowhere])
        .refuses(&["--bundle names a directory that exists"]);
    let outcome = Outcome::of(stage.bare().args(["--root", "/etc/passwd", "list"]));
    outcome.refuses(&["/etc/passwd: see --root: not a directory"]);
}

#[test]
fn what_is_in_the_way_of_a_verb_is_told() {
    let stage = stage!();
    let container = stage.running();
    let missing = stage.call(&["state", "nope"]);
    missing.refuses(&["capsid list shows", ": container does not exist"]);
    let bundle = stage.bundle();
    bundle.write(&container.id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    stage
        .call(&["run", "--bundle", &folder, &container.id])
        .refuses(&["capsid delete", ": container with given ID already exists"]);
    container.call("pause", &[]).ok();
    let again = container.call("pause", &[]);
    again.refuses(&["it is paused already: container not running"]);
    container.call("resume", &[]).ok();
    stage
        .call(&["--debug"])
        .fails_with(2, &["see capsid --help: a verb is missing"]);
    stage
        .call(&["delete", "--regex", "["])
        .refuses(&["read the regular expression \"[\""]);
    stage
        .call(&["ps", &container.id, "--bogus"])
        .refuses(&["options of ps(1)"]);
    let usage = stage.call(&["run", "--lxcfs", "/var/lib/lxcfs", "one"]);
    usage.fails_with(2, &["--lxcfs=DIR"]);
}

#[test]
fn a_flag_of_exec_is_named_and_no_setting_that_nobody_wrote() {
    let stage = stage!();
    let container = stage.running();
    let exec = |options: &[&str], words: &[&str]| {
        let outcome = container.exec_with(options, &["id"]).fails_with(255, words);
        assert!(!outcome.stderr.contains("/process/env"), "{outcome}");
        assert!(!outcome.stderr.contains("/process/cwd"), "{outcome}");
    };
    exec(
        &["--env", "A"],
        &["read --env: it takes NAME=VALUE: invalid environment variable: \"A\""],
    );
    exec(
        &["--cwd", "tmp"],
        &["read --cwd", "begins with /: Cwd must be an absolute path"],
    );
    exec(
        &["--detach", "--tty"],
        &["--console-socket", "exec's --tty"],
    );
    let flag = container.exec(&["-u", "5", "id"]);
    flag.fails_with(
        255,
        &["options stand before the id: exec: \"-u\": executable file not found in $PATH"],
    );
    exec(
        &["--detach", "--tty", "--console-socket", "/etc/passwd"],
        &["it is no socket, or nobody listens", "connection refused"],
    );
}

#[test]
fn a_program_that_no_path_leads_to_is_told_why() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["id"]).set("/process/env", json!([]));
    let tail = "exec: \"id\": executable file not found in $PATH";
    run_ends(
        &stage,
        &bundle,
        &[],
        &["its environment has no PATH: "],
        tail,
    );
    bundle.remove("/process");
    let tail = "process property must not be empty";
    run_ends(
        &stage,
        &bundle,
        &[],
        &["execute the program (/process)"],
        tail,
    );
}

#[test]
fn words_that_are_wrong_are_told_the_right_ones() {
    let stage = stage!();
    let cases = [
        (
            "/process/rlimits",
            json!([{"type": "FOO", "soft": 1, "hard": 1}]),
            ["it is one of RLIMIT_", "wrong rlimit value: FOO"],
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X8664"]}),
            [
                "SCMP_ARCH_X86_64 may be meant: ",
                "SCMP_ARCH_X8664 is not a valid arch for seccomp",
            ],
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["FOO"]}),
            [
                "SECCOMP_FILTER_FLAG_LOG",
                "seccomp flag \"FOO\" not known to runtime",
            ],
        ),
        (
            "/linux/rootfsPropagation",
            json!("shard"),
            ["[r]shared", "rootfsPropagation=shard is not supported"],
        ),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}]),
            ["it is one of b, c, u, p: ", "invalid device type \"a\""],
        ),
        (
            "/linux/resources/devices",
            json!([{"allow": true, "access": "rx"}]),
            [
                "access is made of r, w and m: ",
                "invalid device access \"rx\"",
            ],
        ),
        (
            "/linux/resources/blockIO",
            json!({"weight": 5}),
            ["it is from 10 to 1000: ", "invalid weight: 5"],
        ),
        (
            "/linux/resources/memory",
            json!({"limit": "64M"}),
            [
                "it is a number of bytes, without quotes: 64M is 67108864: ",
                "invalid type: string \"64M\", expected a whole number",
            ],
        ),
        (
            "/linux/resources/cpu",
            json!({"idle": 7}),
            ["it is 0 or 1: ", "invalid value: 7"],
        ),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 100_000_000_000_u64}]),
            ["/proc/sys/fs/nr_open", "operation not permitted"],
        ),
        (
            "/root/path",
            json!(""),
            [
                "the directory of the root filesystem: ",
                "root must be specified",
            ],
        ),
    ];
    for (pointer, value, [hint, tail]) in cases {
        let mut bundle = stage.bundle();
        bundle.set(pointer, value);
        run_ends(&stage, &bundle, &[], &[hint], tail);
    }
    // Also when it is one of several.
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/process/rlimits",
            json!([{"type": "FOO", "soft": 1, "hard": 1}]),
        )
        .set("/process/cwd", json!("relative"));
    let words = ["it is one of RLIMIT_", "one of 2 problems"];
    run_ends(&stage, &bundle, &[], &words, "wrong rlimit value: FOO");
}

#[test]
fn mounts_that_are_wrong_are_told_what_is_missing() {
    let stage = stage!();
    let run = |change: &dyn Fn(&mut Bundle), words: &[&str], tail: &str| {
        let mut bundle = stage.bundle();
        change(&mut bundle);
        run_ends(&stage, &bundle, &[], words, tail);
    };
    run(
        &|b| {
            b.set("/mounts/0/type", json!("porc"));
        },
        &["/mounts/0/type", "its type is \"porc\""],
        "\"/proc\" cannot be mounted because it is not of type proc",
    );
    run(
        &|b| {
            b.mount("/mnt", "tmpfs", "tmpfs", &["nosiud"]);
        },
        &["\"nosuid\" may be meant"],
        "invalid argument",
    );
    run(
        &|b| {
            b.mount("/mnt", "tmpfs", "tmpfs", &["nosuid,nodev"]);
        },
        &["each option is a string of its own"],
        "invalid argument",
    );
    run(
        &|b| {
            b.bind("/etc".as_ref(), "/mnt", &["rsharedd"]);
        },
        &["\"rshared\" may be meant"],
        "bind mounts cannot have any filesystem-specific options applied",
    );
    let container = stage.running();
    let source = stage.path("nope").to_string_lossy().into_owned();
    let add = ["mounts", "add", &container.id, &source, "/mnt2"];
    let words = [
        "the host has no such file or directory",
        "no such file or directory",
    ];
    stage.call(&add).refuses(&words);
}

#[test]
fn exec_into_a_container_that_takes_long_to_end_says_that_it_ends() {
    use nix::sys::ptrace;
    use nix::sys::wait::waitpid;
    use nix::unistd::Pid;
    let stage = stage!();
    let container = stage.running();
    let init = container.pid();
    let other = Pid::from_raw(container.exec_detached(&["sleep", "1000"]));
    // The end of init waits for all of its pid namespace, and a zombie that is traced stays.
    ptrace::seize(other, ptrace::Options::empty()).unwrap();
    container.kill("KILL").ok();
    crate::harness::until("init has lost its namespaces", || {
        std::fs::metadata(format!("/proc/{init}/ns/mnt")).is_err()
    });
    let outcome = container.exec(&["true"]);
    waitpid(other, None).unwrap();
    outcome.fails_with(255, &["or is about to: cannot exec in a stopped container"]);
}
