//! Promise: a setting that does nothing is told: misspelt, in the wrong place, or known to nobody; and
//! `explain` lists every problem at once.

use serde_json::json;

use crate::harness::Outcome;
use crate::stage;

#[test]
fn a_misspelt_setting_is_told_and_what_was_meant() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set("/process/noNewPriviliges", json!(true))
        .set("/x-mine", json!(1));
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
    bundle.args(&["/bin/true"]).set("/linux/x-mine", json!(1));
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
    let warning = "/x-mine: unknown setting \\\"x-mine\\\" is ignored";
    assert!(outcome.stderr.contains(warning), "{outcome}");
}

#[test]
fn a_setting_in_the_wrong_place_is_told_its_own_also_when_something_else_fails() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle
        .args(&["/bin/true"])
        .set("/seccomp", json!({"defaultAction": "SCMP_ACT_ERRNO"}))
        .set("/process/noNewPriviliges", json!(true));
    let told = [
        "/seccomp: setting \"seccomp\" is ignored here: it belongs at /linux/seccomp",
        "noNewPrivileges may be meant",
    ];
    let all = |outcome: &Outcome| {
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
        ("/process/args", json!("sh")),
        ("/process/cwd", json!("relative")),
        ("/root/path", json!("nosuch")),
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
        .set("/process/args", json!(["sh", 1, "x", false]))
        .set("/process/user/uid", json!("root"))
        .set("/process/cwd", json!("relative"))
        .set(
            "/process/rlimits",
            json!([{"type": "NOFILE", "soft": 1, "hard": 1}]),
        )
        .set("/process/oomScoreAdj", json!(1001))
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "allow", "syscalls": [{"name": "x"}]}),
        )
        .set("/hooks/prestart", json!([{"args": []}]))
        .set("/hooks/poststop", json!([{"path": "relative"}]))
        .set("/hostname", json!(5));
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
