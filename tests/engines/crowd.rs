//! Many containers at once: how long each takes to start, and what is left when they are gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::Outcome;
use crate::session;

/// Says how many: a few, or the hundreds of a soak (place.rs).
pub const VARIABLE: &str = "CAPSID_CROWD";
pub const USUAL: usize = 24;
pub const SOAK: usize = 200;

/// Clients at work at any time.
const CLIENTS: usize = 8;

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
    let (size, next) = (size(), AtomicUsize::new(0));
    let (took, failures) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= size {
                        return;
                    }
                    let outcome = Outcome::of(&mut command(number));
                    if outcome.code != status(number) {
                        let mut list = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        list.push(format!("number {number}: {outcome}"));
                    }
                    let mut list = took.lock().unwrap_or_else(PoisonError::into_inner);
                    list.push(outcome.took);
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    assert!(
        failures.is_empty(),
        "{what}: {} of {size} failed: {}",
        failures.len(),
        failures[0]
    );
    let took = took.into_inner().unwrap_or_else(PoisonError::into_inner);
    let quarter = took.len() / 4;
    session::notes(&format!(
        "{what} of {size}: {:.1} s, the median {} ms in the first quarter and {} ms in the last",
        begun.elapsed().as_secs_f64(),
        median(&took[..quarter]),
        median(&took[took.len() - quarter..]),
    ));
}

fn median(took: &[Duration]) -> u128 {
    let mut took: Vec<u128> = took.iter().map(Duration::as_millis).collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or_default()
}

/// What there is at one time: processes, mounts, cgroups, files in memory, and the daemon's descriptors.
pub struct Traces {
    daemon: u32,
    seen: [BTreeSet<String>; 4],
    descriptors: usize,
}

impl Traces {
    pub fn now(daemon: u32) -> Traces {
        let found = |folders: &[&str], tests: &[&str]| -> BTreeSet<String> {
            let found = Outcome::of(Command::new("find").args(folders).args(tests));
            found.stdout.lines().map(str::to_owned).collect()
        };
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let seen = [
            processes(),
            points.map(str::to_owned).collect(),
            found(&["/sys/fs/cgroup"], &["-mindepth", "2", "-type", "d"]),
            found(&["/run", "/tmp", "/dev/shm"], &[]),
        ];
        let descriptors = std::fs::read_dir(format!("/proc/{daemon}/fd")).expect("descriptors");
        Traces {
            daemon,
            seen,
            descriptors: descriptors.count(),
        }
    }

    /// All that has come since is gone again, soon.
    pub fn are_all(&self) {
        let mut left = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < crate::harness::outcome::LIMIT / 2 {
            let now = Traces::now(self.daemon);
            let new = now.seen.iter().zip(&self.seen);
            left = new
                .flat_map(|(now, then)| now.difference(then).cloned())
                .collect();
            // A few of the daemon's own come and go.
            if now.descriptors > self.descriptors + size() / 4 {
                left.push(format!(
                    "{} descriptors of the daemon, {} before",
                    now.descriptors, self.descriptors
                ));
            }
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} left: {:?}", left.len(), &left[..left.len().min(9)]);
    }
}

/// Those that have not ended, by what they execute.
fn processes() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let of = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_string_lossy().parse().ok()?;
        let program =
            std::fs::read_link(Path::new("/proc").join(pid.to_string()).join("exe")).ok()?;
        Some(format!("process {pid} {}", program.display()))
    };
    entries.filter_map(of).collect()
}
