//! Promise: `events` prints what a container uses in runc's words, again and again, tells of each process
//! that was killed for want of memory once, and ends with the container.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::harness::{Container, Stage, end, machine, outcome, until};
use crate::{skip, stage};

/// `events` at work, and its lines as they come.
struct Events {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Events {
    fn begin(mut command: Command) -> Events {
        let mut child = command
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let output: ChildStdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let _ = sender.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Events { child, lines }
    }

    fn of(container: &Container<'_>, options: &[&str]) -> Events {
        let mut command = container.stage.capsid();
        command.arg("events").args(options).arg(&container.id);
        Events::begin(command)
    }

    /// Waits until it would miss nothing.
    #[track_caller]
    fn watches(&self) {
        let folder = format!("/proc/{}/fd", self.child.id());
        until("events watches", || {
            let files = std::fs::read_dir(&folder).unwrap().flatten();
            let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            links.any(|link| link.ends_with("anon_inode:[eventpoll]"))
        });
    }

    /// The next line of this type; others before it are passed over.
    #[track_caller]
    fn next(&self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(outcome::LIMIT);
            let line = line.unwrap_or_else(|_| panic!("no {kind} came"));
            if line["type"] == kind {
                return line;
            }
        }
    }

    /// The rest of the lines, of a command that has ended with status 0.
    #[track_caller]
    fn rest(self) -> Vec<Value> {
        assert_eq!(end(self.child), Some(0));
        self.lines.iter().collect()
    }
}

/// A container whose processes may use little memory together.
fn short_of_memory<'a>(stage: &'a Stage, script: &str) -> Container<'a> {
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/linux/resources/memory",
            json!({"limit": 32 << 20, "swap": 32 << 20}),
        )
        .sh(script);
    stage.create(&bundle)
}

/// Needs more memory than there is, all at once.
const EATER: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null";

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 600 & wait $!; done";

fn killings(container: &Container<'_>) -> u64 {
    let file = match container.stage.view.is_v2() {
        true => "memory.events",
        false => "memory.oom_control",
    };
    let text = container.limit("memory", file);
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.unwrap().parse().unwrap()
}

#[test]
fn another_format_adds_what_runc_leaves_out_and_changes_nothing_else() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    let container = stage.create(&bundle);
    container.start().ok();
    let line = |format: &[&str]| -> Value {
        let options = [&["--stats"], format].concat();
        let printed = container.call("events", &options).ok().stdout;
        serde_json::from_str(printed.trim()).unwrap()
    };
    fn keys(value: &Value) -> Vec<&str> {
        value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect()
    }
    let (plain, whole) = (line(&[]), line(&["--format=json-v2"]));
    assert_eq!(
        keys(&line(&["--format", "json"])["data"]),
        keys(&plain["data"])
    );
    assert_eq!(
        (&plain["type"], &plain["id"]),
        (&whole["type"], &whole["id"])
    );
    let further = |part: &Value, whole: &Value| -> Vec<String> {
        let (part, whole) = (keys(part), keys(whole));
        assert!(
            part.iter().all(|key| whole.contains(key)),
            "{part:?} {whole:?}"
        );
        let rest = whole.iter().filter(|key| !part.contains(key));
        rest.map(ToString::to_string).collect()
    };
    let (plain, whole) = (&plain["data"], &whole["data"]);
    assert_eq!(further(plain, whole), ["misc", "rdma"]);
    assert!(whole["cpu"]["burst"]["time"].is_u64(), "{whole}");
    let blkio = further(&plain["blkio"], &whole["blkio"]);
    for key in ["ioCostIndebt", "ioCostIndelay", "ioCostUsage", "ioCostWait"] {
        assert!(blkio.iter().any(|it| it == key), "{blkio:?}");
    }
    let refused = container.call("events", &["--stats", "--format", "json-v3"]);
    assert_eq!(refused.code, 2);
    container.delete_force().ok();
}

#[test]
fn stats_are_one_line_with_runcs_keys() {
    let stage = stage!();
    let mut bundle = stage.bundle();
    bundle.sleeps();
    for (controller, limit) in [
        ("memory", json!({"limit": 64 << 20})),
        ("pids", json!({"limit": 50})),
    ] {
        if machine::has_controller(controller) {
            bundle.set(&format!("/linux/resources/{controller}"), limit);
        }
    }
    let container = stage.create(&bundle);
    container.start().ok();
    let outcome = container.call("events", &["--stats"]).ok();
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
    let start = format!(
        "{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{\"cpu\":",
        container.id
    );
    assert!(outcome.stdout.starts_with(&start), "{outcome}");
    let line = outcome.json();
    let data = &line["data"];
    let keys: Vec<_> = data.as_object().unwrap().keys().cloned().collect();
    let expected = [
        "blkio",
        "cpu",
        "cpuset",
        "hugetlb",
        "intel_rdt",
        "memory",
        "network_interfaces",
        "pids",
    ];
    assert_eq!(keys, expected);
    assert_eq!(data["network_interfaces"], Value::Null);
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{line}");
    if machine::has_controller("memory") {
        assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
        assert!(
            data["memory"]["usage"]["usage"].as_u64() > Some(4096),
            "{line}"
        );
        assert!(
            data["memory"]["raw"]
                .as_object()
                .is_some_and(|raw| raw.len() > 20),
            "{line}"
        );
    }
    if machine::has_controller("pids") {
        assert_eq!(data["pids"]["limit"], 50);
        assert!(data["pids"]["current"].as_u64() > Some(0), "{line}");
    }
}

#[test]
fn pressure_is_among_the_stats_where_the_kernel_counts_it() {
    let stage = stage!();
    if !std::path::Path::new("/proc/pressure/cpu").exists() {
        skip!("this kernel counts no pressure");
    }
    let container = stage.running();
    let line = container.call("events", &["--stats"]).ok().json();
    for resource in ["cpu", "memory", "blkio"] {
        for who in ["some", "full"] {
            let stall = &line["data"][resource]["psi"][who];
            for average in ["avg10", "avg60", "avg300", "total"] {
                assert!(stall[average].is_number(), "{resource}: {line}");
            }
        }
    }
}

#[test]
fn stats_come_after_every_interval_until_the_container_stops() {
    let stage = stage!();
    let container = stage.running();
    let events = Events::of(&container, &["--interval", "0.05s"]);
    for _ in 0..3 {
        assert_eq!(events.next("stats")["id"], json!(container.id));
    }
    container.kill("KILL").ok();
    assert!(events.rest().iter().all(|line| line["type"] == "stats"));
}

#[test]
fn a_longer_interval_prints_nothing_in_a_short_life() {
    let stage = stage!();
    let container = stage.running();
    let events = Events::of(&container, &["--interval=1h1m1.5s"]);
    events.watches();
    container.kill("KILL").ok();
    assert_eq!(events.rest(), Vec::<Value>::new());
}

#[test]
fn each_process_that_is_killed_for_want_of_memory_is_told_once() {
    let stage = stage!();
    if !machine::has_controller("memory") {
        skip!("no memory controller here");
    }
    let container = short_of_memory(&stage, IDLE);
    container.start().ok();
    let events = Events::of(&container, &["--interval", "20ms"]);
    // It watches by then: it says nothing of the past.
    events.next("stats");
    for _ in 0..3 {
        let outcome = container.exec(&["/bin/sh", "-c", EATER]);
        assert_ne!(outcome.code, 0, "{outcome}");
        let expected = json!({"type": "oom", "id": container.id});
        assert_eq!(events.next("oom"), expected);
    }
    // Other changes of the counters are none.
    if stage.view.is_v2() {
        let high = container.cgroup("memory").join("memory.high");
        std::fs::write(&high, "1M").unwrap();
        container.exec(&["/bin/sh", "-c", "cat /bin/busybox > /dev/null"]);
        std::fs::write(&high, "max").unwrap();
    }
    assert_eq!(killings(&container), 3);
    container.kill("KILL").ok();
    assert!(events.rest().iter().all(|line| line["type"] == "stats"));
}

#[test]
fn an_init_that_is_killed_for_want_of_memory_is_the_last_event() {
    let stage = stage!();
    if !machine::has_controller("memory") {
        skip!("no memory controller here");
    }
    let mut bundle = stage.bundle();
    bundle
        .set(
            "/linux/resources/memory",
            json!({"limit": 32 << 20, "swap": 32 << 20}),
        )
        .sh(&format!("read wait < /out/go; exec {EATER}"));
    let fifo = stage.path("out");
    std::fs::create_dir(&fifo).unwrap();
    nix::unistd::mkfifo(&fifo.join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    bundle.bind(&fifo, "/out", &[]);
    let container = stage.create(&bundle);
    container.start().ok();
    // No stats come in between: the order is that of the two words that the kernel gives.
    let events = Events::of(&container, &["--interval", "1h"]);
    events.watches();
    std::fs::write(fifo.join("go"), "\n").unwrap();
    assert_eq!(
        events.rest(),
        [json!({"type": "oom", "id": container.id})],
        "the killing is told before the end, and nothing after it"
    );
}

#[test]
fn a_container_that_has_stopped_has_no_events() {
    let stage = stage!();
    let container = stage.running();
    container.kill("KILL").ok();
    container.becomes("stopped");
    let text = format!("container with id {} is not running", container.id);
    container.call("events", &[]).refuses(&[&text]);
    container.call("events", &["--stats"]).refuses(&[&text]);
    stage
        .call(&["events", "nobody"])
        .refuses(&["container does not exist"]);
}

#[test]
fn an_interval_is_longer_than_nothing() {
    let stage = stage!();
    for interval in ["0", "0s", "-5s"] {
        stage
            .call(&["events", "--interval", interval, "web"])
            .fails_with(2, &["duration interval must be greater than 0"]);
    }
    stage
        .call(&["events", "--interval", "5", "web"])
        .fails_with(2, &["time: invalid duration"]);
}

#[test]
fn a_container_without_a_cgroup_counts_nothing() {
    let stage = stage!();
    stage
        .without_cgroup()
        .call("events", &["--stats"])
        .refuses(&["only a cgroup counts", "cgroup not exist"]);
}
