//! A create or run that is told to end while it waits for a hook, or for the container's process, takes everything
//! back; and a hook of creation does not outlive the runtime that waits for it.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use super::{hook, read};
use crate::harness::{Bundle, Stage, end, until};
use crate::stage;

const VERBS: [&[&str]; 3] = [&["run"], &["run", "--detach"], &["create"]];

/// A hook that says its pid, and then would take ten minutes, with a child of its own.
fn slow(stage: &Stage) -> (Value, std::path::PathBuf) {
    let pid = stage.path("pid");
    let _ = std::fs::remove_file(&pid);
    let (new, at) = (stage.path("pid.new"), pid.display());
    let new = new.display();
    let script = format!("sleep 619 & echo $$ $! > {new}; mv {new} {at}; exec sleep 619");
    (hook(&script), pid)
}

fn begin(stage: &Stage, words: &[&str], bundle: &Bundle) -> (String, Child) {
    let (id, mut command) = stage.command(words, bundle);
    let log = std::fs::File::create(stage.path("said")).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    (id, command.spawn().unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_signal_ends_the_hook_of_creation_that_is_waited_for_and_takes_the_container_back() {
    let stage = stage!();
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    for (kind, asks) in ["prestart", "createRuntime", "createContainer"]
        .iter()
        .zip(signals)
    {
        for words in VERBS {
            let stopped = stage.path("stopped");
            let _ = std::fs::remove_file(&stopped);
            let (slow, pid) = slow(&stage);
            let mut bundle = stage.bundle();
            let last = hook(&format!("cat > {}", stopped.display()));
            bundle
                .sleeps()
                .set(&format!("/hooks/{kind}"), json!([slow]))
                .set("/hooks/poststop", json!([last]));
            let (id, begun) = begin(&stage, words, &bundle);
            until("the hook runs", || pid.exists());
            signal(&begun, asks);
            assert_eq!(end(begun), Some(1), "{kind} {words:?}");
            let said = read(&stage.path("said"));
            let needles = [format!("/hooks/{kind}/0"), "interrupted".to_owned()];
            for needle in needles {
                assert!(said.contains(&needle), "{kind} {words:?}: {said}");
            }
            for pid in read(&pid).split_whitespace() {
                until("the hook's processes are gone", || !lives(pid));
            }
            assert_eq!(stage.remains(&id), [] as [std::path::PathBuf; 0], "{kind}");
            assert!(read(&stopped).contains("\"status\":\"stopped\""), "{kind}");
        }
    }
}

#[test]
fn a_signal_ends_a_create_whose_process_does_not_go_on() {
    let stage = stage!();
    for words in VERBS {
        let stopped = stage.path("stopped");
        let _ = std::fs::remove_file(&stopped);
        let mut bundle = stage.bundle();
        let stop = format!(
            "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); kill -STOP $pid; echo $pid > {}",
            stopped.display()
        );
        bundle
            .sleeps()
            .set("/hooks/createRuntime", json!([hook(&stop)]));
        let (id, begun) = begin(&stage, words, &bundle);
        until("its process is stopped", || {
            std::fs::read_to_string(&stopped).is_ok_and(|pid| pid.ends_with('\n'))
        });
        signal(&begun, Signal::SIGTERM);
        assert_eq!(end(begun), Some(1), "{words:?}");
        let said = read(&stage.path("said"));
        assert!(said.contains("interrupted"), "{words:?}: {said}");
        let pid = read(&stopped).trim().to_owned();
        until("its process is gone", || !lives(&pid));
        assert_eq!(stage.remains(&id), [] as [std::path::PathBuf; 0]);
    }
}

#[test]
fn a_hook_of_creation_ends_with_the_runtime_that_is_killed() {
    let stage = stage!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for words in VERBS {
            let (slow, pid) = slow(&stage);
            let mut bundle = stage.bundle();
            bundle
                .sleeps()
                .set(&format!("/hooks/{kind}"), json!([slow]));
            let (id, begun) = begin(&stage, words, &bundle);
            until("the hook runs", || pid.exists());
            signal(&begun, Signal::SIGKILL);
            assert_eq!(end(begun), Some(128 + 9));
            let pids = read(&pid);
            let mut pids = pids.split_whitespace();
            let (own, child) = (pids.next().unwrap(), pids.next().unwrap());
            until("the hook is gone", || !lives(own));
            // What it has left behind is its own business, and would be on its end by itself, too.
            if let Ok(child) = child.parse() {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            stage.call(&["delete", "--force", &id]).ok();
        }
    }
}

#[test]
fn a_signal_that_the_caller_has_it_ignore_ends_no_create() {
    let stage = stage!();
    for words in [&["run", "--detach"][..], &["create"]] {
        let (pid, go_on) = (stage.path("pid"), stage.path("go-on"));
        let _ = std::fs::remove_file(&pid);
        let script = format!("echo $$ > {}; cat {}", pid.display(), go_on.display());
        mkfifo(&go_on, Mode::S_IRWXU).unwrap();
        let mut bundle = stage.bundle();
        bundle
            .sleeps()
            .set("/hooks/createRuntime", json!([hook(&script)]));
        let (_, command) = stage.command(words, &bundle);
        let mut ignoring = Command::new("sh");
        ignoring.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
        ignoring
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::null());
        let begun = ignoring.spawn().unwrap();
        until("the hook runs", || pid.exists());
        signal(&begun, Signal::SIGHUP);
        std::fs::write(&go_on, "").unwrap();
        assert_eq!(end(begun), Some(0), "{words:?}");
        std::fs::remove_file(&go_on).unwrap();
    }
}
