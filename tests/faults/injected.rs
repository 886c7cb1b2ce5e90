//! Promise: whichever system call fails, of the runtime or of the process that it makes, the command says so in one
//! line and one record, and leaves nothing; and it goes on where a signal has only interrupted one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use serde_json::json;

use super::{mounts_below, processes_of, rounds, spread};
use crate::harness::injector::{self, Call};
use crate::harness::{Bundle, Outcome, Stage, until};
use crate::stage;

/// A container that is made and ended again and again, and the log of whoever does it.
struct Victim<'a> {
    stage: &'a Stage,
    id: String,
    bundle: Bundle,
    log: PathBuf,
}

impl<'a> Victim<'a> {
    fn new(stage: &'a Stage) -> Victim<'a> {
        let (id, mut bundle) = (stage.id(), stage.bundle());
        bundle.sh(&format!(": {id}; while :; do sleep 600; done"));
        bundle.write(&id);
        Victim {
            stage,
            bundle,
            log: stage.path("log"),
            id,
        }
    }

    /// VERB OPTIONS ID WORDS, with a log in JSON.
    fn verb(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = self.stage.capsid();
        command
            .arg("--log")
            .arg(&self.log)
            .args(["--log-format", "json", verb]);
        if ["create", "run"].contains(&verb) {
            command.arg("--bundle").arg(&self.bundle.folder);
        }
        command.arg(&self.id).args(words);
        command
    }

    #[track_caller]
    fn call(&self, verb: &str, words: &[&str]) -> Outcome {
        Outcome::of(&mut self.verb(verb, words))
    }

    fn inject(&self, command: &Command, failing: Call) -> Outcome {
        let _ = std::fs::remove_file(&self.log);
        let mut choose = |call: Call| match (call.process, call.at) {
            place if place == (failing.process, failing.at) => injector::imaginable(call.number),
            _ => None,
        };
        injector::inject(command, &self.stage.runtime, &mut choose)
    }

    /// Fails one of `calls`, of as many as asked for, after the other, and shows to `judge` what became of the command.
    fn each(
        &self,
        calls: &[Call],
        usual: usize,
        command: &Command,
        prepare: impl Fn(),
        judge: impl Fn(&str, &Outcome),
    ) {
        let mut failed = 0;
        for n in spread(calls.len(), usual) {
            let failing = calls[n - 1];
            let when = format!("{failing:?} of {}", calls.len());
            prepare();
            // All that fail are told, not only the first.
            let judged = catch_unwind(AssertUnwindSafe(|| {
                let outcome = self.inject(command, failing);
                self.is_clear(&when, failing, &outcome);
                judge(&when, &outcome);
            }));
            failed += usize::from(judged.is_err());
        }
        assert_eq!(failed, 0, "of {} calls", calls.len());
    }

    /// The same with a container that is prepared, and removed, each time.
    fn each_time(
        &self,
        usual: usize,
        command: &Command,
        prepare: impl Fn(),
        judge: impl Fn(&str, &Outcome),
    ) {
        prepare();
        let calls = injector::calls(command, &self.stage.runtime, 0);
        self.end("nothing");
        self.each(&calls, usual, command, prepare, |when, outcome| {
            let judged = catch_unwind(AssertUnwindSafe(|| judge(when, outcome)));
            self.end(when);
            if let Err(panic) = judged {
                resume_unwind(panic);
            }
        });
    }

    fn end(&self, when: &str) {
        self.stage.call(&["delete", "--force", &self.id]).ok();
        self.is_gone(when);
    }

    /// It has worked in spite of it (the program of run says 7), or says in one line and one record why not.
    fn is_clear(&self, when: &str, failing: Call, outcome: &Outcome) {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let records: Vec<serde_json::Value> = log
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{when}: {e}: {line}"))
            })
            .collect();
        let errors = records.iter().filter(|it| it["level"] == "error").count();
        let lines = outcome.stderr.lines().count();
        if [0, 7].contains(&outcome.code) {
            assert_eq!(errors, 0, "{when}: {log}{outcome}");
            return;
        }
        assert!([1, 255].contains(&outcome.code), "{when}: {outcome}");
        // The log itself may be what could not be opened or written, and so may standard error.
        let of_the_log = [
            libc::SYS_openat,
            libc::SYS_statx,
            libc::SYS_write,
            libc::SYS_fcntl,
            libc::SYS_poll,
        ]
        .contains(&failing.number);
        let told = (lines, errors);
        assert!(
            told == (1, 1) || (of_the_log && [(1, 0), (0, 1)].contains(&told)),
            "{when}: {lines} lines, {errors} records: {log}{outcome}"
        );
        let words = outcome.stderr.split_whitespace().count();
        assert!(words > 3 || lines == 0, "{when}: {outcome}");
    }

    fn is_gone(&self, when: &str) {
        let left = self.stage.remains(&self.id);
        assert!(left.is_empty(), "{when}: left: {left:?}");
        let mounts = mounts_below(&self.stage.folder);
        assert!(mounts.is_empty(), "{when}: {mounts:?}");
        until(
            &format!("{when}: no process, not {:?}", processes_of(&self.id)),
            || processes_of(&self.id).is_empty(),
        );
    }
}

/// After a create or a run that failed nothing is there, without anybody's doing; the id can be used again.
fn leaves_nothing(victim: &Victim<'_>, when: &str, outcome: &Outcome) {
    if outcome.code != 0 {
        victim.is_gone(&format!("{when}: {}", outcome.stderr.trim()));
        victim.call("create", &[]).ok();
    }
}

#[test]
fn f15_a_create_of_which_a_system_call_fails_leaves_nothing() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    let create = victim.verb("create", &[]);
    victim.each_time(
        24,
        &create,
        || (),
        |when, outcome| {
            leaves_nothing(&victim, when, outcome);
            let state = victim.call("state", &[]);
            assert!(state.code == 0, "{when}: {outcome} {state}");
        },
    );
}

#[test]
fn f15_a_start_of_which_a_system_call_fails_can_be_repeated_or_the_container_deleted() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    let create = || drop(victim.call("create", &[]).ok());
    victim.each_time(12, &victim.verb("start", &[]), create, |when, outcome| {
        let state = victim.call("state", &[]);
        let status = state.json()["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        match (outcome.code, status.as_str()) {
            (0, "running") | (_, "running") | (1, "stopped") => {}
            (1, "created") => drop(victim.call("start", &[]).ok()),
            _ => panic!("{when}: {status}: {outcome}"),
        }
    });
}

#[test]
fn f15_an_exec_of_which_a_system_call_fails_leaves_the_container_as_it_was() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    victim.call("create", &[]).ok();
    victim.call("start", &[]).ok();
    let exec = victim.verb("exec", &["/bin/true"]);
    let calls = injector::calls(&exec, &stage.runtime, 0);
    let processes = || {
        let ps = victim.call("ps", &["--format", "json"]).ok().json();
        ps.as_array().map_or(0, Vec::len)
    };
    victim.each(
        &calls,
        24,
        &exec,
        || (),
        |when, outcome| {
            let state = victim.call("state", &[]).ok();
            assert_eq!(state.json()["status"], "running", "{when}: {outcome}");
            until(&format!("{when}: the shell and sleep"), || processes() <= 2);
        },
    );
    victim.call("exec", &["/bin/true"]).ok();
    victim.end("at last");
}

#[test]
fn f15_a_delete_of_which_a_system_call_fails_can_be_repeated() {
    let stage = stage!();
    let victim = Victim::new(&stage);
    let create = || drop(victim.call("create", &[]).ok());
    victim.each_time(12, &victim.verb("delete", &[]), create, |when, outcome| {
        if outcome.code != 0 {
            let again = victim.call("delete", &["--force"]);
            assert_eq!(again.code, 0, "{when}: {outcome}{again}");
        }
        victim.is_gone(when);
        victim.call("create", &[]).ok();
    });
}

#[test]
fn f15_a_run_with_hooks_of_which_a_system_call_fails_leaves_nothing_to_stay() {
    let stage = stage!();
    let mut victim = Victim::new(&stage);
    victim.bundle.sh(&format!(": {}; exit 7", victim.id));
    for kind in ["createRuntime", "poststart", "poststop"] {
        victim
            .bundle
            .set(&format!("/hooks/{kind}"), json!([{"path": "/bin/true"}]));
    }
    victim.bundle.write(&victim.id);
    let run = victim.verb("run", &[]);
    let calls = injector::calls(&run, &stage.runtime, 7);
    victim.each(
        &calls,
        24,
        &run,
        || (),
        |when, _| {
            // What a failure in the removal itself has left, it has told.
            victim.end(when);
        },
    );
}

/// Of each call that a signal may interrupt, every second one of a process is: what is made again succeeds.
fn storm() -> impl FnMut(Call) -> Option<Errno> + Send {
    let mut made = BTreeMap::new();
    move |call| {
        let times: &mut usize = made.entry((call.process, call.number)).or_default();
        *times += 1;
        let now = injector::interruptible(call.number) && *times % 2 == 1;
        now.then_some(Errno::EINTR)
    }
}

#[test]
fn f15_calls_that_are_interrupted_are_made_again() {
    let stage = stage!();
    let mut victim = Victim::new(&stage);
    for _ in 0..rounds(1, 20) {
        for (verb, words) in [
            ("create", &[][..]),
            ("start", &[]),
            ("exec", &["/bin/true"]),
            ("state", &[]),
            ("pause", &[]),
            ("resume", &[]),
            ("ps", &[]),
            ("kill", &["KILL"]),
            ("delete", &["--force"]),
        ] {
            let command = victim.verb(verb, words);
            let outcome = injector::inject(&command, &stage.runtime, &mut storm());
            assert_eq!(outcome.code, 0, "{verb}: {outcome}");
        }
        victim.is_gone("after the storm");
        victim.bundle.sh(&format!(": {}; exit 7", victim.id));
        victim.bundle.write(&victim.id);
        let run = injector::inject(&victim.verb("run", &[]), &stage.runtime, &mut storm());
        assert_eq!(run.code, 7, "{run}");
        victim.is_gone("after the storm");
        victim = Victim::new(&stage);
    }
}
