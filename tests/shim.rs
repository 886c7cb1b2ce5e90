//! Promise: what containerd's shim reads of a call is there: the log's last error, and a pid file that says that
//! the container is made.

use serde_json::{Value, json};

use crate::harness::{Outcome, Stage};
use crate::stage;

/// A shim's call, in its words, and the records that it finds in its log.
fn call(stage: &Stage, words: &[&str]) -> (Outcome, Vec<Value>) {
    let log = stage.path("log.json").to_string_lossy().into_owned();
    let _ = std::fs::remove_file(&log);
    let format = ["--log", &log, "--log-format", "json"];
    let outcome = stage.call(&[&format[..], words].concat());
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (outcome, records.collect())
}

#[test]
fn the_last_record_of_a_failure_is_its_only_error_whatever_went_wrong() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["nosuch"]);
    let id = stage.id();
    bundle.write(&id);
    let folder = bundle.folder.to_string_lossy().into_owned();
    let calls: [(&[&str], &str); 7] = [
        (&["create", "--bundle", &folder, &id], "not found in $PATH"),
        (
            &["create", "--bundle", "/nonexistent", &id],
            "no such file or directory",
        ),
        (&["create", "--nonsense", &id], "--nonsense"),
        (&["create"], "id"),
        (&["nonsense"], "nonsense"),
        (&["start", "absent"], "container does not exist"),
        (&["kill", "absent", "15"], "container does not exist"),
    ];
    for (words, text) in calls {
        let (outcome, records) = call(&stage, words);
        assert_ne!(outcome.code, 0, "{outcome}");
        let errors = records.iter().filter(|record| record["level"] == "error");
        assert_eq!(errors.count(), 1, "{words:?}: {records:?}");
        let last = records.last().unwrap();
        let message = last["msg"].as_str().unwrap_or_default();
        assert!(
            last["level"] == "error" && message.contains(text) && last["time"].is_string(),
            "{words:?}: {last}"
        );
    }
}

#[test]
fn a_forced_delete_of_nothing_says_nothing() {
    let stage = stage!();
    let (outcome, records) = call(&stage, &["delete", "--force", "absent"]);
    let outcome = outcome.ok();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    assert_eq!(records, [] as [Value; 0]);
}

#[test]
fn the_pid_file_is_the_last_that_create_writes() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let file = stage.path("pid").to_string_lossy().into_owned();
    // Who fails has said that the file was there already.
    let hook = json!([{
        "path": "/bin/sh",
        "args": ["sh", "-c", format!("! test -e {file}")],
    }]);
    bundle.sleeps();
    for kind in ["prestart", "createRuntime"] {
        bundle.set(&format!("/hooks/{kind}"), hook.clone());
    }
    let container = stage.create_with(&bundle, &["--pid-file", &file]);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        container.pid().to_string()
    );
    let refuses = json!([{"path": "/bin/false"}]);
    bundle.set("/hooks/createRuntime", refuses);
    std::fs::remove_file(&file).unwrap();
    let (_, outcome) = stage.try_create_with(&bundle, &["--pid-file", &file]);
    assert_ne!(outcome.code, 0, "{outcome}");
    assert!(!std::path::Path::new(&file).exists(), "{outcome}");
}
