//! The library inside another program: one with threads that do other things, of which nothing
//! may be changed. Root inside tests/enclosure.sh only.
//!
//! One test in a binary of its own: it looks at the whole process.

mod skips;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use capsid_rootfs_builder::{Recipe, Source};
use capsid_runtime::{ContainerId, CreateOptions, ExecOptions, Overlay, Runtime, Seal, Status};
use serde_json::{Value, json};
use skips::skip;

const BASE: &str = include_str!("../../tests/harness/config.json");

/// Busy threads besides those that make containers.
const BUSY: usize = 8;
const MAKERS: usize = 3;
const ROUNDS: usize = 4;

#[test]
fn a_program_with_busy_threads_makes_containers_and_is_left_as_it_was() {
    let enclosure = std::env::var("CAPSID_ENCLOSURE").ok();
    let Some(enclosure) = enclosure.filter(|_| nix::unistd::geteuid().is_root()) else {
        let test = "a_program_with_busy_threads_makes_containers_and_is_left_as_it_was";
        let reason = "not root inside tests/enclosure.sh: use `make test`";
        return skip(test, reason).unwrap_or(());
    };
    let folder = tempfile::tempdir().unwrap();
    Recipe::new(Source::Busybox)
        .rootfs(&folder.path().join("rootfs"))
        .unwrap();
    let before = Caller::now();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..BUSY {
            scope.spawn(|| allocate(&stop));
        }
        let makers: Vec<_> = (0..MAKERS)
            .map(|number| {
                let (folder, enclosure) = (folder.path(), enclosure.as_str());
                scope.spawn(move || make(folder, enclosure, number))
            })
            .collect();
        let ended: Vec<_> = makers.into_iter().map(|maker| maker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        for maker in ended {
            maker.unwrap();
        }
    });
    // A thread that was joined is counted until the kernel has taken it down.
    let begun = Instant::now();
    while Caller::now() != before && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (now, before) = (format!("{:#?}", Caller::now()), format!("{before:#?}"));
    let changed = now.lines().zip(before.lines()).filter(|(a, b)| a != b);
    assert!(now == before, "changed: {:#?}", changed.collect::<Vec<_>>());
    let left = std::fs::read_dir(folder.path().join("state")).unwrap();
    assert_eq!(left.count(), 0, "left in the state root");
}

/// Holds the allocator's locks about as often as not.
fn allocate(stop: &AtomicBool) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut size = 1;
    while !stop.load(Ordering::Relaxed) {
        size = size * 31 % 65_537;
        kept.push(vec![0; size]);
        if kept.len() > 64 {
            kept.clear();
        }
        // Two processors are shared with the containers.
        if size % 16 == 0 {
            std::thread::yield_now();
        }
    }
}

/// Containers one after the other, each with its own exec, overlay and end.
fn make(folder: &Path, enclosure: &str, number: usize) {
    let runtime = Runtime::new(folder.join("state"));
    for round in 0..ROUNDS {
        let name = format!("embedding-{}-{number}-{round}", std::process::id());
        let id = ContainerId::new(&name).unwrap();
        let options = CreateOptions {
            bundle: bundle(folder, enclosure, &name),
            overlay: Some(Overlay::default()),
            ..CreateOptions::default()
        };
        let created = runtime.create(&id, &options, &Seal::AlreadySealed).unwrap();
        let container = &created.container;
        assert_eq!(container.state().unwrap().status, Status::Created);
        container.start(&Seal::AlreadySealed).unwrap();
        assert_eq!(container.state().unwrap().status, Status::Running);
        let mut process = container.process().unwrap();
        let script = format!("exit {}", 40 + round);
        process.set_args(Some(vec!["sh".to_owned(), "-c".to_owned(), script]));
        let exec = ExecOptions {
            process,
            pointer: "/process",
            ..ExecOptions::default()
        };
        let process = container.exec(&exec, &Seal::AlreadySealed).unwrap();
        assert_eq!(process.wait().unwrap().code(), 40 + round as i32);
        assert!(runtime.list().unwrap().iter().any(|one| one.id == name));
        container.kill(9, false).unwrap();
        assert_eq!(created.process.wait().unwrap().code(), 128 + 9);
        created.container.delete(false).unwrap();
    }
}

fn bundle(folder: &Path, enclosure: &str, name: &str) -> PathBuf {
    let mut config: Value = serde_json::from_str(BASE).unwrap();
    config["root"]["path"] = json!(folder.join("rootfs"));
    config["linux"]["cgroupsPath"] = json!(format!("{enclosure}/{name}"));
    config["process"]["args"] = json!(["sleep", "600"]);
    let bundle = folder.join(name);
    std::fs::create_dir(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bundle
}

/// What the kernel says of this process.
#[derive(Debug, PartialEq)]
struct Caller {
    directory: PathBuf,
    environment: BTreeMap<String, String>,
    /// The lines of /proc/self/status that a library could change.
    status: BTreeMap<String, String>,
    descriptors: BTreeMap<String, PathBuf>,
    namespaces: BTreeMap<String, PathBuf>,
    cgroups: String,
    limits: String,
    oom_score_adj: String,
    children: String,
}

impl Caller {
    fn now() -> Caller {
        const LINES: [&str; 15] = [
            "Umask",
            "Uid",
            "Gid",
            "Groups",
            "Threads",
            "SigBlk",
            "SigIgn",
            "SigCgt",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
        ];
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
        let status = read("status");
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        let main = std::process::id();
        Caller {
            directory: std::env::current_dir().unwrap(),
            environment: std::env::vars().collect(),
            status: fields
                .filter(|(name, _)| LINES.contains(name))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            descriptors: links("/proc/self/fd"),
            namespaces: links("/proc/self/ns"),
            cgroups: read("cgroup"),
            limits: read("limits"),
            oom_score_adj: read("oom_score_adj"),
            children: read(&format!("task/{main}/children")),
        }
    }
}

fn links(folder: &str) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), target))
        })
        // The listing's own descriptor.
        .filter(|(_, target)| !target.starts_with("/proc"))
        .collect()
}
