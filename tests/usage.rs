//! Promise: a command line that is wrong is told in one line, with the verb and what to do, and as one record;
//! and the spellings that runc takes are taken.

use serde_json::Value;

use crate::harness::Outcome;
use crate::stage;

/// Words of a wrong command line, and what the one line has to say.
const WRONG: &[(&[&str], &[&str])] = &[
    (
        &["creat", "web"],
        &["'create'", "see capsid --help", "'creat'"],
    ),
    (&["rm", "web"], &["capsid delete ID", "'rm'"]),
    (&["stop", "web"], &["capsid kill ID", "'stop'"]),
    (&["inspect", "web"], &["capsid state ID", "'inspect'"]),
    (
        &["checkpoint", "web"],
        &["makes no checkpoints", "'checkpoint'"],
    ),
    (&["restore", "web"], &["makes no checkpoints", "'restore'"]),
    (&["init"], &["see capsid --help", "'init'"]),
    (&["state"], &["state: ", "see capsid state --help", "<ID>"]),
    (
        &["start", "a", "b"],
        &["start: ", "see capsid start --help", "'b'"],
    ),
    (
        &["create", "--bundel", "/b", "web"],
        &["create: ", "'--bundle'", "'--bundel'"],
    ),
    (
        &["create", "web", "--pid-file"],
        &["create: ", "'--pid-file <FILE>'"],
    ),
    (
        &["list", "--format", "yaml"],
        &["list: ", "'yaml'", "[possible values: table, json]"],
    ),
    (
        &["--log-format", "yaml", "list"],
        &[
            "see capsid --help",
            "'yaml'",
            "[possible values: text, json]",
        ],
    ),
    (
        &["--cgroup-manager", "no", "list"],
        &["cgroupfs, systemd or disabled"],
    ),
    (
        &["list", "--root", "/x"],
        &["list: ", "stands before the verb"],
    ),
    (
        &["update", "web", "--memory", "lots"],
        &["update: ", "'lots'", "k, m, g, t or p"],
    ),
    (
        &["update", "web", "--cpu-share", "x"],
        &["'x'", "not a whole number"],
    ),
    (
        &["events", "--interval", "5", "web"],
        &["events: ", "invalid duration", "5s"],
    ),
    (
        &["exec", "--preserve-fds", "-1", "web", "id"],
        &["exec: ", "'-1'", "'--preserve-fds <N>'"],
    ),
    (&["kill", "web", "-9"], &["kill: ", "capsid kill ID 9"]),
    (&["mounts", "ad", "web"], &["mounts: ", "'add'", "'ad'"]),
    (
        &["mounts", "add", "web"],
        &["mounts add: see capsid mounts add --help", "<SOURCE>"],
    ),
    (&["help", "foo"], &["see capsid --help", "'foo'"]),
    (
        &["completion", "tcsh"],
        &["completion: ", "bash, zsh, fish"],
    ),
    (&["--root"], &["'--root <DIR>'"]),
];

#[test]
fn a_wrong_command_line_is_one_line_with_the_verb_and_what_to_do() {
    let stage = stage!();
    for (words, needles) in WRONG {
        let outcome = Outcome::of(stage.bare().args(*words)).fails_with(2, needles);
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        assert!(outcome.stderr.contains("level=error msg="), "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
}

#[test]
fn a_wrong_command_line_is_one_record_of_the_log_and_one_line_beside_it() {
    let stage = stage!();
    for (n, (words, needles)) in WRONG.iter().enumerate() {
        let log = stage.path(&format!("log{n}"));
        let mut command = stage.bare();
        command
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"]);
        // A second format would count instead.
        let second = words.contains(&"--log-format");
        let outcome = Outcome::of(command.args(*words)).fails_with(2, needles);
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        if second {
            continue;
        }
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let record: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["level"], "error", "{text}");
        assert_eq!(record["code"], "argument.invalid", "{text}");
        assert_eq!(
            format!("{}\n", record["msg"].as_str().unwrap()),
            outcome.stderr
        );
    }
}

#[test]
fn a_verb_without_its_own_verb_is_told_its_help() {
    let stage = stage!();
    for words in [&[][..], &["mounts"]] {
        let outcome = Outcome::of(stage.bare().args(words)).exits(2);
        assert!(outcome.stderr.contains("Usage: capsid"), "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
        let outcome = Outcome::of(stage.bare().args(["--log-format", "json"]).args(words)).exits(2);
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        assert!(outcome.stderr.contains("a verb is missing"), "{outcome}");
    }
}

/// An engine's own options come beside those that its user has set: `podman --runtime-flag log-format=json`.
#[test]
fn the_last_of_an_option_counts() {
    let stage = stage!();
    let container = stage.running();
    let mut command = stage.bare();
    command.args([
        "--root",
        "/nowhere",
        "--log-format",
        "text",
        "--debug",
        "--debug",
        "--root",
    ]);
    command
        .arg(stage.state_root())
        .args(["--log-format=json", "state"]);
    let outcome = Outcome::of(command.arg(&container.id)).ok();
    assert_eq!(outcome.json()["id"], container.id);
    let mut command = stage.capsid();
    command.args(["--log-format", "text", "--log-format", "json", "list"]);
    command.args(["--format", "json", "--format", "table", "--quiet", "-q"]);
    assert_eq!(Outcome::of(&mut command).ok().line(), container.id);
    // What may repeat still does.
    let show = [
        "--env",
        "A=1",
        "-e",
        "B=2",
        &container.id,
        "sh",
        "-c",
        "echo $A$B",
    ];
    let words = [&["exec"], &show[..]].concat();
    assert_eq!(stage.call(&words).ok().line(), "12");
}

#[test]
fn a_switch_may_be_spelled_out() {
    let stage = stage!();
    let container = stage.running();
    let outcome = stage
        .call(&[
            "--debug=true",
            "--systemd-cgroup=false",
            "list",
            "--quiet=true",
        ])
        .ok();
    assert_eq!(outcome.line(), container.id);
    assert!(
        stage
            .call(&["list", "-f", "table", "--quiet=false"])
            .ok()
            .stdout
            .starts_with("ID ")
    );
    let words = ["exec", "--tty=false", &container.id, "echo", "--tty=false"];
    assert_eq!(stage.call(&words).ok().line(), "--tty=false");
    stage
        .call(&["list", "--quiet=maybe"])
        .fails_with(2, &["'maybe'", "'--quiet'"]);
    stage
        .call(&["delete", "--force=false", &container.id])
        .refuses(&["is not stopped: running"]);
    stage.call(&["delete", "--force=true", &container.id]).ok();
}

#[test]
fn an_error_names_the_verb_and_the_container() {
    let stage = stage!();
    for (words, begins, code) in [
        (&["start", "absent"][..], "start absent: ", 1),
        (&["state", "absent"], "state absent: ", 1),
        (&["exec", "absent", "true"], "exec in absent: ", 255),
        (&["kill", "absent"], "kill absent: ", 1),
        (&["ps", "absent"], "ps absent: ", 1),
        (&["pause", "absent"], "pause absent: ", 1),
        (&["resume", "absent"], "resume absent: ", 1),
        (&["events", "absent"], "events absent: ", 1),
        (
            &["update", "absent", "--pids-limit", "9"],
            "update absent: ",
            1,
        ),
        (&["delete", "absent"], "delete absent: ", 1),
        (&["mounts", "list", "absent"], "mounts list absent: ", 1),
        (
            &["mounts", "remove", "absent", "/x"],
            "mounts remove absent: ",
            1,
        ),
    ] {
        let outcome = stage
            .call(words)
            .fails_with(code, &["container does not exist"]);
        assert!(
            outcome.stderr.contains(&format!("msg=\"{begins}")),
            "{outcome}"
        );
    }
    for (words, line) in [
        (
            &["kill", "web", "TREM"][..],
            "kill: read the signal: give a name such as TERM, a number, or RTMIN+n: unknown signal",
        ),
        (
            &["kill", "a/b"],
            "kill: a container id is made of letters, digits and _ + - .: invalid container ID format",
        ),
        (
            &["run", "--bundle", "/b", ".a"],
            "run: a container id doesn't begin with a dot: invalid container ID format",
        ),
        (
            &["spec", "--bundle", "/no/such"],
            "spec: /no/such/config.json: --bundle names a directory that exists: ",
        ),
        (
            &["delete", "--regex", "a("],
            "delete: read the regular expression",
        ),
    ] {
        stage.call(words).refuses(&[line]);
    }
    let mut command = stage.bare();
    command.args(["--root", "/no/such", "list"]);
    Outcome::of(&mut command).refuses(&[
        "list: /no/such: no container was made with this --root: no such file or directory",
    ]);
}

#[test]
fn what_can_be_done_instead_is_told() {
    let stage = stage!();
    let container = stage.running();
    container.start().refuses(&[
        "capsid exec runs a further command in it: cannot start an already running container",
    ]);
    container.call("pause", &[]).ok();
    container
        .start()
        .refuses(&["capsid resume lets it go on: cannot start a container in the paused state"]);
    container.call("resume", &[]).ok();
    container.kill("KILL").ok();
    container.becomes("stopped");
    container
        .start()
        .refuses(&["delete it, and create it again: cannot start a container that has stopped"]);
    stage.call(&["create", "--bundle=~/web", "web"]).refuses(&[
        "open the bundle: ~/web: a shell expands a ~ only",
        "no such file or directory",
    ]);
    stage
        .call(&["--log", "/no/such/log", "list"])
        .refuses(&["open the log: /no/such/log: --log makes the file"]);
    container
        .exec(&["true"])
        .fails_with(255, &["cannot exec in a stopped container"]);
}
