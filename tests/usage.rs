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
    (
        &["--root", "list"],
        &[
            "--root has taken list for its value",
            "capsid --root DIR VERB",
        ],
    ),
    (
        &["run", "--memory", "64m", "web"],
        &[
            "/linux/resources/memory/limit of its config.json",
            "capsid update --memory",
        ],
    ),
    (
        &["create", "--pids-limit=5", "web"],
        &[
            "/linux/resources/pids/limit of its config.json",
            "'--pids-limit'",
        ],
    ),
    (
        &["run", "--cpus", "2", "web"],
        &["/linux/resources of its config.json"],
    ),
    (
        &["run", "web", "/tmp/b"],
        &["--bundle", "/process/args", "'/tmp/b'"],
    ),
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

#[test]
fn an_option_that_has_taken_the_verb_is_told_so_and_leaves_no_file() {
    let stage = stage!();
    let folder = stage.path("here");
    std::fs::create_dir(&folder).unwrap();
    for words in [
        &["--log", "list"][..],
        &["--log", "list", "--format", "json"],
        &["--log=list"],
        &["--log", "run", "--bundle", "b", "web"],
        &["--log-format", "json", "--log", "state", "web"],
        &["--debug", "--log", "list"],
    ] {
        let outcome = Outcome::of(stage.bare().current_dir(&folder).args(words));
        let outcome = outcome.fails_with(2, &["--log has taken ", "capsid --log FILE VERB"]);
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert!(left.is_empty(), "{words:?} leaves {left:?}");
    }
    // A log that is called as a verb is no mistake where a verb follows.
    let words = ["--log", "list", "list", "--bogus"];
    let outcome = Outcome::of(stage.bare().current_dir(&folder).args(words));
    let outcome = outcome.fails_with(2, &["list: ", "'--bogus'"]);
    assert!(!outcome.stderr.contains("taken"), "{outcome}");
    assert!(folder.join("list").exists());
}

#[test]
fn a_path_in_the_place_of_an_id_is_told_what_is_wanted() {
    let stage = stage!();
    for (words, begins) in [
        (&["state", "./bundle"][..], "state: "),
        (&["start", "/run/capsid/web"], "start: "),
        (&["kill", "../b"], "kill: "),
        (&["delete", "--force", "."], "delete: "),
        (&["exec", "./b", "id"], "exec: "),
        (&["ps", "b/"], "ps: "),
        (&["mounts", "add", "./b", "/srv", "/srv"], "mounts add: "),
        (&["mounts", "list", "./b"], "mounts list: "),
    ] {
        let line = format!(
            "msg=\"{begins}this is a path, and an id is wanted: capsid list shows the ids: invalid container ID format"
        );
        let code = if words[0] == "exec" { 255 } else { 1 };
        stage.call(words).fails_with(code, &[&line]);
    }
    for verb in ["create", "run"] {
        let words = [
            &format!("{verb}: this is a path, and an id is wanted"),
            &format!("capsid {verb} --bundle DIR ID"),
            ": invalid container ID format",
        ];
        stage
            .call(&[verb, "./bundle"])
            .refuses(&words.map(|word| word as &str));
    }
}

#[test]
fn a_signal_before_the_id_is_told_the_order() {
    let stage = stage!();
    let container = stage.running();
    let id = &container.id;
    for signal in ["TERM", "sigkill", "9"] {
        let line = format!(
            "kill: read the signal: the id comes first: capsid kill {id} {signal}: unknown signal"
        );
        stage.call(&["kill", signal, id]).refuses(&[&line]);
    }
    // Two that are no signal, and none that is a container: what a signal is.
    stage
        .call(&["kill", "web", "TREM"])
        .refuses(&["give a name such as TERM"]);
}

#[test]
fn an_error_of_mounts_names_the_verb_below_it() {
    let stage = stage!();
    let container = stage.running();
    let id = &container.id;
    stage
        .call(&["mounts", "add", id, "/etc", "mnt"])
        .refuses(&[&format!(
            "msg=\"mounts add {id}: mnt: a path of the container begins with /: the destination must be absolute"
        )]);
    stage
        .call(&["mounts", "remove", id, "mnt"])
        .refuses(&[&format!("msg=\"mounts remove {id}: mnt: ")]);
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
            &["kill", "a%b"],
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
    let stage = stage!();
    let container = stage.running();
    container.exec_with(&["--cwd", "/nope"], &["id"]).fails_with(
        255,
        &["(/process/cwd): --cwd names a directory of the container: no such file or directory"],
    );
    let bundle = stage.bundle();
    let pid_file = ["--pid-file", "/no/such/pid"];
    stage.run_with(&bundle, &pid_file).refuses(&[
        "write the pid file /no/such/pid: --pid-file makes the file, in a directory that exists: ",
    ]);
    let config = ["--config", "/tmp"];
    stage
        .run_with(&bundle, &config)
        .refuses(&["/tmp: it is named by --config: not a regular file"]);
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
        "open the bundle ~/web: /",
        "/~/web: a shell expands a ~ only",
        "no such file or directory",
    ]);
    let folder = stage.path("somewhere");
    std::fs::create_dir(&folder).unwrap();
    let mut command = stage.capsid();
    command.current_dir(&folder);
    let outcome = Outcome::of(command.args(["run", "--bundle", "nope", "web"]));
    let line = format!(
        "run web: open the bundle nope: {}/nope: a bundle is a directory with a config.json: \
         no such file or directory",
        folder.display()
    );
    outcome.refuses(&[&line]);
    stage
        .call(&["--log", "/no/such/log", "list"])
        .refuses(&["open the log: /no/such/log: --log makes the file"]);
    container
        .exec(&["true"])
        .fails_with(255, &["cannot exec in a stopped container"]);
}
