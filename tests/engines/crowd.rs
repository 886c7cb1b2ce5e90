//! Many containers at once under an engine's test: how long each takes is told, and what is left fails it.
//! The crowd itself is the benchmark's (`make bench ARGS=--density`).

use std::path::PathBuf;
use std::process::Command;

use crate::harness::Outcome;
use crate::session;

#[path = "../../benches/src/crowd.rs"]
mod bench;

/// Says how many: a few, or the hundreds of a soak (place.rs).
pub const VARIABLE: &str = "CAPSID_CROWD";
pub const USUAL: usize = 24;
pub const SOAK: usize = 200;

pub fn size() -> usize {
    std::env::var(VARIABLE)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(USUAL)
}

/// The commands of every one of the crowd, several at a time, end with the status of its number.
pub fn all(
    what: &str,
    command: impl Fn(usize) -> Command + Sync,
    status: impl Fn(usize) -> i32 + Sync,
) {
    let size = size();
    let course = bench::all(size, |number| {
        let outcome = Outcome::of(&mut command(number));
        (outcome.code == status(number))
            .then_some(())
            .ok_or(outcome)
    });
    let course = course.unwrap_or_else(|text| panic!("{what}: {text}"));
    let (first, last) = course.quarters();
    session::notes(&format!(
        "{what} of {size}: {:.1} s, the median {first:.0} ms in the first quarter and {last:.0} ms in the last",
        course.whole.as_secs_f64()
    ));
}

/// Does it, and leaves nothing of it.
pub fn leaves_nothing(daemon: u32, comes_and_goes: impl FnOnce()) {
    let folders = ["/run", "/tmp", "/dev/shm"].map(PathBuf::from);
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups");
    let cgroups: Vec<PathBuf> = hierarchies.flatten().map(|entry| entry.path()).collect();
    let before = bench::Traces::now(daemon, &cgroups, &folders);
    comes_and_goes();
    let left = before.left(size() / 4);
    assert!(
        left.is_empty(),
        "{} left: {:?}",
        left.len(),
        &left[..left.len().min(9)]
    );
}
