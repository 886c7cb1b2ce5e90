//! Promise: a failure is one valid record, in the form and at the place that --log and --log-format say: a
//! file, or the machine's own log; and a log that nobody reads stops nothing.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::{Outcome, end, machine};
use crate::{skip, stage};

#[test]
fn an_error_is_one_record_in_the_json_log() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.set("/process/cwd", json!("relative"));
    let log = stage.path("log.json").to_string_lossy().into_owned();
    let words = ["--log", &log, "--log-format", "json", "create"];
    let (_, mut create) = stage.command(&words, &bundle);
    Outcome::of(&mut create).refuses(&["/process/cwd"]);
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
    let option = format!("--log={log}");
    let words = [&option, "--log-format=json", "state", "no-such-container"];
    stage.call(&words).refuses(&["container does not exist"]);
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
    let log = stage.path("log.txt").to_string_lossy().into_owned();
    stage
        .call(&["--log", &log, "state", "no-such-container"])
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
    let log = stage.path("debug.log").to_string_lossy().into_owned();
    let (_, mut run) = stage.command(&["--debug", "--log", &log, "run"], &bundle);
    let outcome = Outcome::of(&mut run).ok();
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
fn debug_logs_are_on_stderr_without_a_log_and_say_step_object_time_and_place() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sh("echo out");
    for form in ["json", "text"] {
        let words = ["--debug", "--log-format", form, "run"];
        let (_, mut run) = stage.command(&words, &bundle);
        let outcome = Outcome::of(&mut run).ok();
        assert_eq!(outcome.stdout, "out\n");
        assert!(outcome.stderr.lines().count() > 10, "{outcome}");
        for line in outcome.stderr.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(record) => {
                    assert!(
                        record["level"] == "debug" && record["msg"].is_string(),
                        "{line}"
                    );
                    assert!(record["after"].as_str().unwrap().ends_with("ms"), "{line}");
                }
                Err(_) => assert!(
                    form == "text"
                        && line.contains(" level=debug msg=")
                        && line.contains(" after="),
                    "{line}"
                ),
            }
            assert!(line.contains(".rs:"), "{line}");
        }
        let mount = match form {
            "json" => ": mount proc on /proc\",",
            _ => ": mount proc on /proc\" pointer=/mounts/0 after=",
        };
        for word in ["step 1 of ", mount, "is at its steps", "has done them"] {
            assert!(outcome.stderr.contains(word), "{word}: {outcome}");
        }
    }
}

#[test]
fn f16_a_full_stderr_that_nobody_reads_blocks_nothing() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let blocks = |flags| nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags)).unwrap();
    blocks(nix::fcntl::OFlag::O_NONBLOCK);
    let full = loop {
        if let Err(error) = (&writer).write_all(&[b'x'; 512]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    blocks(nix::fcntl::OFlag::empty());
    let (_, mut command) = stage.command(&["--debug", "run"], &bundle);
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

/// Where the machine's log listens; the tests' /run is their own.
const FOLDER: &str = "/run/systemd/journal";

#[test]
fn the_journal_and_syslog_are_told_in_the_name_that_is_given() {
    if machine::systemd() || machine::enclosure().is_none() || Path::new("/dev/log").exists() {
        skip!("somebody's log is there already");
    }
    let stage = stage!();
    let made = !Path::new("/run/systemd").exists();
    std::fs::create_dir_all(FOLDER).unwrap();
    let listen = |name: &str| {
        let socket = UnixDatagram::bind(Path::new(FOLDER).join(name)).unwrap();
        let timeout = crate::harness::outcome::LIMIT;
        socket.set_read_timeout(Some(timeout)).unwrap();
        socket
    };
    let (journal, syslog) = (listen("socket"), listen("dev-log"));
    let fails = |log: &str| {
        let mut command = stage.bare();
        command.args(["--log", log, "state", "absent"]);
        let outcome = Outcome::of(&mut command).exits(1);
        assert!(
            outcome.stderr.ends_with("container does not exist\n"),
            "{outcome}"
        );
    };
    let heard = |socket: &UnixDatagram| {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    fails("journald:web");
    let text = heard(&journal);
    for line in [
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=web",
        "CAPSID_CODE=container.not_found",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(text.starts_with("MESSAGE=state absent: "), "{text}");
    fails("syslog:");
    let text = heard(&syslog);
    assert!(text.starts_with("<11>capsid["), "{text}");
    assert!(
        text.contains("]: state absent: ") && text.ends_with("container does not exist"),
        "{text}"
    );
    drop((journal, syslog));
    std::fs::remove_dir_all(if made { "/run/systemd" } else { FOLDER }).unwrap();
    let mut command = stage.bare();
    command.args(["--log", "journald:web", "state", "absent"]);
    Outcome::of(&mut command).refuses(&["open the log journald:web", "/socket", "name a file"]);
}

#[test]
fn a_file_may_be_called_one() {
    let stage = stage!();
    let path = stage.path("log");
    let mut command = stage.bare();
    let log = format!("file:{}", path.display());
    command.args(["--log", &log, "--log-format", "json", "state", "absent"]);
    Outcome::of(&mut command).exits(1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"level\":\"error\""), "{text}");
}

#[test]
fn records_belong_to_the_trace_of_the_caller() {
    let stage = stage!();
    let (id, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let said = |traceparent: &str, format: &str| {
        let mut command = stage.bare();
        command.env("TRACEPARENT", traceparent);
        command.args(["--log-format", format, "state", "absent"]);
        Outcome::of(&mut command).exits(1).stderr
    };
    let parent = format!("00-{id}-{span}-01");
    let record: serde_json::Value = serde_json::from_str(&said(&parent, "json")).unwrap();
    assert_eq!(record["trace_id"], id);
    assert_eq!(record["span_id"], span);
    assert_eq!(record["trace_flags"], "01");
    let text = said(&parent, "text");
    let keys = format!(" trace_id={id} span_id={span} trace_flags=01\n");
    assert!(text.ends_with(&keys), "{text}");
    assert!(!said("nonsense", "json").contains("trace_id"));
}
