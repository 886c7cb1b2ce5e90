//! Black-box tests of the benchmark: that it measures, and that it leaves nothing
//! behind. They must not look at how long anything took.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

/// Starts the benchmark with the floor alone, which every machine has.
fn start(name: &str, more: &[&str]) -> Option<(Child, PathBuf)> {
    if !geteuid().is_root() {
        record_skip(name, "the benchmark needs root");
        return None;
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let child = Command::new(env!("CARGO_BIN_EXE_capsid-bench"))
        .args(["--runtimes", "floor", "--json"])
        .arg(out.join("bench.json"))
        .arg("--svg")
        .arg(out.join("bench.svg"))
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the benchmark starts");
    Some((child, out))
}

/// Tells the reader, and the file that `make test` counts.
fn record_skip(name: &str, reason: &str) {
    println!("SKIP {name}: {reason}");
    let Some(path) = std::env::var_os("CAPSID_SKIPS") else {
        return;
    };
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
        let _ = writeln!(file, "bench::{name}\t{reason}");
    }
}

/// The cgroups that the benchmark with this pid made and still has.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let directories = |path: &Path| {
        fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
    };
    let hierarchies = directories(Path::new("/sys/fs/cgroup")).chain(["/sys/fs/cgroup".into()]);
    let name = format!("capsid-bench-{pid}-");
    let ours = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(&name))
    };
    hierarchies
        .flat_map(|hierarchy| directories(&hierarchy).collect::<Vec<_>>())
        .filter(ours)
        .collect()
}

#[test]
fn the_floor_is_measured_and_its_samples_are_written() {
    let Some((child, out)) = start(
        "measure",
        &["--only", "run", "--runs", "2", "--paces", "hot"],
    ) else {
        return;
    };
    let pid = child.id();
    let output = child.wait_with_output().expect("the benchmark ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );

    let json = fs::read_to_string(out.join("bench.json")).expect("the samples are written");
    let report: Value = serde_json::from_str(&json).expect("the samples are JSON");
    let rows = report["rows"].as_array().expect("there are rows");
    let runs: Vec<_> = rows.iter().filter(|row| row["figure"] == "run").collect();
    assert!(
        !runs.is_empty(),
        "one for each cgroup version that is mounted here"
    );
    for run in runs {
        let floor = &run["contenders"]["floor"];
        assert_eq!(
            floor["samples"].as_array().map(Vec::len),
            Some(2),
            "{floor}"
        );
    }
    let svg = fs::read_to_string(out.join("bench.svg")).expect("the chart is drawn");
    assert!(svg.starts_with("<svg") && svg.contains("floor"));
    assert_eq!(cgroups(pid), [] as [PathBuf; 0]);
}

#[test]
fn a_crowd_under_containerd_is_measured_and_leaves_nothing() {
    let installed = |name: &&str| {
        ["/usr/bin", "/usr/sbin"]
            .iter()
            .any(|folder| Path::new(folder).join(name).exists())
    };
    if let Some(name) = ["containerd", "ctr", "runc"]
        .iter()
        .find(|name| !installed(name))
    {
        return record_skip("density", &format!("{name} is not installed"));
    }
    let Some((child, out)) = start("density", &["--density", "4", "--runtimes", "runc"]) else {
        return;
    };
    let pid = child.id();
    let output = child.wait_with_output().expect("the benchmark ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let json = fs::read_to_string(out.join("density.json")).expect("the samples are written");
    let report: Value = serde_json::from_str(&json).expect("the samples are JSON");
    assert_eq!(report["containers"], 4);
    let runc = &report["contenders"][0];
    assert!(runc["failure"].is_null(), "{runc}");
    for step in ["start", "exec", "removal"] {
        let samples = runc["milliseconds"][step].as_array();
        assert_eq!(samples.map(Vec::len), Some(4), "{step}: {runc}");
    }
    assert_eq!(cgroups(pid), [] as [PathBuf; 0]);
}

#[test]
fn an_interrupted_benchmark_leaves_no_cgroup_behind() {
    let Some((mut child, _)) = start("interrupt", &["--only", "run", "--runs", "100000"]) else {
        return;
    };
    // It has announced its first measurement: cgroups, mounts and containers exist.
    let lines = BufReader::new(child.stderr.take().expect("stderr is a pipe")).lines();
    let announced = lines
        .map_while(Result::ok)
        .any(|line| line.contains(" run, "));
    assert!(announced && !cgroups(child.id()).is_empty());

    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)
        .expect("the benchmark can be interrupted");
    let status = child.wait().expect("the benchmark ends");
    assert_eq!(status.code(), Some(130));
    assert_eq!(cgroups(child.id()), [] as [PathBuf; 0]);
}
