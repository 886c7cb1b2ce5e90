//! Promise: what the caller, or the machine, has too little of is told on one line, with how there is more of
//! it; nobody is killed by a signal instead, and nothing is left behind.

use crate::harness::{Outcome, Stage};
use crate::stage;

/// The line of a failure says what has run out, how there is more, and ends in the kernel's words.
#[track_caller]
fn tells(outcome: &Outcome, advice: &str, tail: &str) {
    let line = outcome.stderr.trim_end();
    assert!(line.lines().count() == 1, "{outcome}");
    assert!(line.contains(advice), "{outcome}");
    assert!(line.trim_end_matches('"').ends_with(tail), "{outcome}");
}

/// Runs the script with a limit of the size of files, in blocks of 512 bytes. What it says and how it ends
/// comes through a pipe: the files that collect it would be too large themselves.
#[track_caller]
fn limited(stage: &Stage, blocks: &str, script: &str, args: &[&str]) -> Outcome {
    let script = format!("(ulimit -f {blocks}; {script} 2>&1; echo exit $?) | cat");
    let mut outcome = stage.shell(&script, args).ok();
    let said = outcome.stdout.trim_end().rsplit_once("exit ");
    let (said, code) = said.expect("how it ended");
    (outcome.code, outcome.stderr) = (code.parse().expect("a code"), said.to_owned());
    outcome
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_create_and_run() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    bundle.write("sized");
    let folder = bundle.folder.to_string_lossy().into_owned();
    for verb in ["create", "run"] {
        for blocks in ["0", "1"] {
            let id = stage.id();
            let script = "$capsid $1 --bundle $2 $3";
            let outcome = limited(&stage, blocks, script, &[verb, &folder, &id]);
            assert_eq!(outcome.code, 1, "{outcome}");
            tells(&outcome, "ulimit -f", "file too large");
            stage.call(&["state", &id]).refuses(&["does not exist"]);
        }
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_update_and_keeps_the_container() {
    let stage = stage!();
    let container = stage.running();
    let script = "$capsid update --pids-limit 77 $1";
    let outcome = limited(&stage, "0", script, &[&container.id]);
    assert_eq!(outcome.code, 1, "{outcome}");
    tells(&outcome, "ulimit -f", "file too large");
    assert_eq!(container.status(), "running");
    container.exec(&["true"]).ok();
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_no_part_of_it() {
    let stage = stage!();
    let container = stage.running();
    let file = stage.path("pid");
    let script = "$capsid exec --pid-file $2 $1 true";
    let outcome = limited(
        &stage,
        "0",
        script,
        &[&container.id, &file.to_string_lossy()],
    );
    assert_eq!(outcome.code, 255, "{outcome}");
    tells(&outcome, "ulimit -f", "file too large");
    assert!(!file.exists() && !file.with_file_name(".pid").exists());
}

#[test]
fn the_container_begins_with_no_signal_of_ours_held_back_or_ignored() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    let report = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    bundle.args(&report);
    let ours = 1 << (libc::SIGPIPE - 1) | 1 << (libc::SIGXFSZ - 1);
    for outcome in [stage.run(&bundle).ok(), stage.running().exec(&report).ok()] {
        let masks = outcome.stdout.lines().map(|line| {
            let (_, mask) = line.split_once('\t').expect("a mask");
            u64::from_str_radix(mask, 16).expect("a mask")
        });
        let masks: Vec<u64> = masks.collect();
        assert_eq!((masks.len(), masks[0]), (2, 0), "{outcome}");
        assert_eq!(masks[1] & ours, 0, "{outcome}");
    }
}

#[test]
fn a_limit_of_open_files_is_told_with_how_to_raise_it() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.args(&["/bin/true"]);
    bundle.write("open");
    let folder = bundle.folder.to_string_lossy().into_owned();
    let container = stage.running();
    for limit in 4..10 {
        let limit = limit.to_string();
        let id = stage.id();
        let script = "ulimit -n $1 && exec $capsid run --bundle $2 $3";
        let outcome = stage.shell(script, &[&limit, &folder, &id]);
        assert_eq!(outcome.code, 1, "{outcome}");
        tells(&outcome, "ulimit -n", "too many open files");
        stage.call(&["state", &id]).refuses(&["does not exist"]);
        let script = "ulimit -n $1 && exec $capsid exec $2 true";
        let outcome = stage.shell(script, &[&limit, &container.id]);
        assert_eq!(outcome.code, 255, "{outcome}");
        tells(&outcome, "ulimit -n", "too many open files");
    }
}

/// A dynamic binary has its libraries to open before it is asked anything.
macro_rules! unless_dynamic {
    ($outcome:expr) => {
        if $outcome
            .stderr
            .contains("error while loading shared libraries")
        {
            crate::skip!("the binary is not static: use `make test`");
        }
    };
}

#[test]
fn a_limit_of_no_open_file_at_all_is_told_as_well() {
    let stage = stage!();
    let outcome = stage.shell("ulimit -n 0; exec $capsid list", &[]);
    unless_dynamic!(outcome);
    assert_eq!(outcome.code, 1, "{outcome}");
    tells(&outcome, "ulimit -n", "too many open files");
}

#[test]
fn a_stack_that_no_command_fits_into_is_told_before_anything_is_done() {
    let stage = stage!();
    let container = stage.running();
    for verb in [
        "exec $1 true",
        "list",
        "kill $1 KILL",
        "create --bundle / no",
    ] {
        for kib in ["16", "64"] {
            // The environment lies on the stack as well: with a long one it is full before the program begins.
            let script = format!(
                "exec env -i capsid=\"$capsid\" /bin/sh -c 'ulimit -S -s $2; exec $capsid {verb}' sh $1 $2"
            );
            let outcome = stage.shell(&script, &[&container.id, kib]);
            assert_eq!(outcome.code, 1, "{outcome}");
            tells(&outcome, "the limit of the stack is too low", "(ulimit -s)");
        }
    }
    assert_eq!(container.status(), "running");
    // The least that is taken is enough.
    stage
        .shell(
            "ulimit -S -s 256; exec $capsid exec $1 true",
            &[&container.id],
        )
        .ok();
}
