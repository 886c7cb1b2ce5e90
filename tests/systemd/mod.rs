//! Promise: with --systemd-cgroup a container is a unit of systemd's, and nothing else about it changes. It
//! is tested where systemd is process 1: in guests of their own, in which every other promise that cgroups
//! have a part in is tested with that option, too.

mod devices;
mod properties;
mod scopes;
mod users;

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::{Bundle, Outcome, Stage};

/// Why there is nothing to test here.
pub const ELSEWHERE: &str = "systemd is not process 1 here: guests of their own test it";

/// A stage where systemd is.
#[macro_export]
macro_rules! systemd_stage {
    () => {{
        if !$crate::harness::machine::systemd() {
            $crate::skip!("{}", $crate::systemd::ELSEWHERE);
        }
        $crate::stage!()
    }};
}

/// A bundle that sleeps, with this cgroupsPath; None: without one.
pub fn sleeping(stage: &Stage, path: Option<&str>) -> Bundle {
    let mut bundle = stage.bundle();
    bundle.sleeps();
    match path {
        Some(path) => bundle.set("/linux/cgroupsPath", path.into()),
        None => bundle.remove("/linux/cgroupsPath"),
    };
    bundle
}

/// The properties of a unit, as `systemctl show` prints them.
pub fn properties(unit: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::<String, String>::new();
    for line in systemctl(&["show", unit]).ok().stdout.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        // A list has a line for each item.
        match properties.get_mut(name) {
            Some(earlier) => *earlier = format!("{earlier}, {value}"),
            None => drop(properties.insert(name.to_owned(), value.to_owned())),
        }
    }
    properties
}

pub fn systemctl(arguments: &[&str]) -> Outcome {
    Outcome::of(Command::new("systemctl").args(arguments))
}

/// The cgroup of a process in systemd's own hierarchy.
pub fn cgroup_of(pid: i32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process");
    let line = text
        .lines()
        .find(|line| line.starts_with("0::") || line.contains("name=systemd"));
    let path = line.and_then(|line| line.rsplit(':').next());
    path.expect("a cgroup").to_owned()
}
