//! Hooks that fail: which of them end the container, what is said of them, and that they keep nobody waiting.

use std::time::Duration;

use serde_json::{Value, json};

use super::{bundle_with_out, hook, read, witness};
use crate::harness::{Container, Outcome, Stage};
use crate::stage;

/// The kinds whose failure ends the container, and the verb that reports it.
const FATAL: [(&str, &str); 5] = [
    ("prestart", "create"),
    ("createRuntime", "create"),
    ("createContainer", "create"),
    ("startContainer", "start"),
    ("poststart", "start"),
];

/// What `create` and then, if need be, `start` says when a hook of this kind is the second of its list.
#[track_caller]
fn fails(stage: &Stage, kind: &str, verb: &str, failing: &Value) -> Outcome {
    let mut bundle = stage.bundle();
    let stopped = stage.path("stopped");
    let _ = std::fs::remove_file(&stopped);
    bundle
        .sleeps()
        .set(&format!("/hooks/{kind}"), json!([hook("exit 0"), failing]))
        .set(
            "/hooks/poststop",
            json!([hook(&format!("cat > {}", stopped.display()))]),
        );
    let (id, created) = stage.try_create_with(&bundle, &[]);
    let outcome = match verb {
        "create" => created,
        _ => {
            created.ok();
            Container {
                id: id.clone(),
                stage,
            }
            .start()
        }
    };
    assert_eq!(stage.remains(&id), [] as [std::path::PathBuf; 0], "{kind}");
    assert!(
        read(&stopped).contains("\"status\":\"stopped\""),
        "{kind}: poststop hooks follow"
    );
    outcome
}

#[test]
fn f07_a_failing_hook_is_named_and_ends_the_container() {
    let stage = stage!();
    for (kind, verb) in FATAL {
        fails(
            &stage,
            kind,
            verb,
            &hook("echo said; echo complained >&2; exit 7"),
        )
        .refuses(&[
            &format!("run the {kind} hook /bin/sh (/hooks/{kind}/1)"),
            &format!(
                "error running {kind} hook #1: exit status 7, stdout: said, stderr: complained"
            ),
        ]);
        fails(&stage, kind, verb, &hook("kill -9 $$")).refuses(&[&format!(
            "error running {kind} hook #1: signal: killed, stdout: , stderr: "
        )]);
        let whose = match kind {
            "startContainer" => "one of the container's root filesystem",
            _ => "one of the host",
        };
        fails(&stage, kind, verb, &json!({"path": "/no/such/hook"})).refuses(&[
            whose,
            &format!(
                "error running {kind} hook #1: fork/exec /no/such/hook: no such file or directory"
            ),
        ]);
        fails(&stage, kind, verb, &json!({"path": "/etc/passwd"})).refuses(&[
            "its mode doesn't let this user execute it",
            &format!("error running {kind} hook #1: fork/exec /etc/passwd: permission denied"),
        ]);
        fails(&stage, kind, verb, &json!({"path": "/etc"})).refuses(&[&format!(
            "error running {kind} hook #1: fork/exec /etc: is a directory"
        )]);
    }
}

#[test]
fn f07_a_hook_past_its_timeout_is_killed_with_its_process_group() {
    let stage = stage!();
    for (kind, verb) in FATAL {
        // The grandchild holds the output, and would live on.
        let mut late = hook("echo said; echo complained >&2; sleep 613 & sleep 613");
        late["timeout"] = json!(1);
        let outcome = fails(&stage, kind, verb, &late).refuses(&[&format!(
            "error running {kind} hook #1: hook ran past specified timeout of 1.0s, \
             stdout: said, stderr: complained"
        )]);
        assert!(outcome.took < Duration::from_secs(20), "{outcome}");
        assert_eq!(sleepers("613"), 0, "{kind}");
    }
}

/// How many processes sleep for this long.
fn sleepers(seconds: &str) -> usize {
    let line = format!("sleep\0{seconds}\0");
    let commands = std::fs::read_dir("/proc").unwrap().flatten();
    commands
        .filter(|entry| {
            std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|c| c == line)
        })
        .count()
}

#[test]
fn f07_a_grandchild_that_holds_the_output_keeps_nobody_waiting() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let pid = stage.path("pid");
    let script = format!("sleep 614 & echo $! > {}", pid.display());
    bundle
        .args(&["/bin/true"])
        .set("/hooks/createRuntime", json!([hook(&script)]));
    let outcome = stage.run(&bundle).ok();
    assert!(outcome.took < Duration::from_secs(20), "{outcome}");
    let kill = format!("kill {}", read(&pid).trim());
    stage.shell(&kill, &[]).ok();
}

#[test]
fn f07_of_what_a_hook_says_the_last_4_kib_are_repeated() {
    let stage = stage!();
    let script = "i=0; while [ $i -lt 60000 ]; do echo aaaaaaaaa; i=$((i+1)); done >&2; echo the end >&2; exit 1";
    let outcome = fails(&stage, "createRuntime", "create", &hook(script)).refuses(&[
        "the end",
        "error running createRuntime hook #1: exit status 1",
    ]);
    assert!(
        (4096..8192).contains(&outcome.stderr.len()),
        "{} bytes",
        outcome.stderr.len()
    );
}

#[test]
fn poststop_failures_only_warn_and_the_others_still_run() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    let mut late = hook("sleep 615");
    late["timeout"] = json!(1);
    bundle.args(&["/bin/true"]).set(
        "/hooks/poststop",
        json!([hook("exit 3"), late, {"path": "/no/such"}, witness("poststop", 3, &out)]),
    );
    let outcome = stage.run(&bundle).ok();
    for needle in [
        "poststop hook #0: exit status 3",
        "hook #1: hook ran past",
        "hook #2: fork/exec /no/such",
    ] {
        assert!(outcome.stderr.contains(needle), "{needle}: {outcome}");
    }
    assert!(!outcome.stderr.contains("level=error"), "{outcome}");
    assert!(out.join("poststop3.json").exists());
}

#[test]
fn poststart_hooks_do_not_run_for_a_program_that_could_not() {
    let stage = stage!();
    let (mut bundle, out) = bundle_with_out(&stage);
    let script = "#!/no/such/interpreter\n";
    std::fs::write(out.join("script"), script).unwrap();
    stage
        .shell("chmod 755 \"$1\"", &[&out.join("script").to_string_lossy()])
        .ok();
    bundle
        .args(&["/out/script"])
        .set("/hooks/poststart", json!([witness("poststart", 0, &out)]));
    assert_eq!(stage.run(&bundle).code, 1);
    assert!(!out.join("poststart0.json").exists());
}
