//! Many containers at once: clients that work side by side, how long each command took, and what is left when all
//! containers are gone. The engines' tests have their crowd by it too. It must not know an engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Clients at work at any time.
pub const CLIENTS: usize = 8;

/// How long the last of a crowd has for its way out.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the commands of a crowd took, in the order in which they ended.
pub struct Course {
    pub milliseconds: Vec<f64>,
    pub whole: Duration,
}

impl Course {
    /// The medians of the first quarter, and of the last.
    pub fn quarters(&self) -> (f64, f64) {
        let (all, quarter) = (&self.milliseconds, self.milliseconds.len().div_ceil(4));
        (median(&all[..quarter]), median(&all[all.len() - quarter..]))
    }
}

fn median(took: &[f64]) -> f64 {
    let mut took = took.to_vec();
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).copied().unwrap_or_default()
}

/// Does the same for every one of the crowd, several at a time.
///
/// # Errors
/// How many failed, and the first of them.
pub fn all<E: std::fmt::Display>(
    size: usize,
    run: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<Course, String> {
    let next = AtomicUsize::new(0);
    let ended = Mutex::new((Vec::with_capacity(size), Vec::new()));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLIENTS.min(size) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= size {
                        return;
                    }
                    let begun = Instant::now();
                    let outcome = run(number);
                    let took = begun.elapsed().as_secs_f64() * 1e3;
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.0.push(took);
                    if let Err(error) = outcome {
                        ended.1.push(format!("number {number}: {error}"));
                    }
                }
            });
        }
    });
    let (milliseconds, failures) = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failures.first() {
        Some(first) => Err(format!("{} of {size} failed: {first}", failures.len())),
        None => Ok(Course {
            milliseconds,
            whole: begun.elapsed(),
        }),
    }
}

/// What there is at one time of an engine's: its processes, mounts, cgroups and files, and the daemon's descriptors.
pub struct Traces<'a> {
    daemon: u32,
    /// All cgroups and processes of the engine are below these.
    cgroups: &'a [PathBuf],
    folders: &'a [PathBuf],
    seen: BTreeSet<String>,
    descriptors: usize,
}

impl<'a> Traces<'a> {
    pub fn now(daemon: u32, cgroups: &'a [PathBuf], folders: &'a [PathBuf]) -> Traces<'a> {
        let mut seen = BTreeSet::new();
        for cgroup in cgroups {
            below(cgroup, false, &mut |path| {
                seen.insert(path.display().to_string());
                for pid in lines(&path.join("cgroup.procs")) {
                    let program = fs::read_link(format!("/proc/{pid}/exe"));
                    // One that has ended, or is about to, has none.
                    if let Ok(program) = program {
                        seen.insert(format!("process {pid} {}", program.display()));
                    }
                }
            });
        }
        for folder in folders {
            below(folder, true, &mut |path| {
                seen.insert(path.display().to_string());
            });
        }
        for line in lines(Path::new("/proc/self/mountinfo")) {
            seen.extend(line.split(' ').nth(4).map(|point| format!("mount {point}")));
        }
        Traces {
            daemon,
            cgroups,
            folders,
            seen,
            descriptors: fs::read_dir(format!("/proc/{daemon}/fd")).map_or(0, Iterator::count),
        }
    }

    /// What has come since and does not go, after some patience. `spare`: descriptors of the daemon's own, which
    /// come and go.
    pub fn left(&self, spare: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let now = Traces::now(self.daemon, self.cgroups, self.folders);
            let mut left: Vec<String> = now.seen.difference(&self.seen).cloned().collect();
            if now.descriptors > self.descriptors + spare {
                left.push(format!(
                    "{} descriptors of the daemon, {} before",
                    now.descriptors, self.descriptors
                ));
            }
            if left.is_empty() || begun.elapsed() > PATIENCE {
                return left;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A folder and all folders below it, with their files if so. What goes away meanwhile is not there.
fn below(path: &Path, files: bool, see: &mut dyn FnMut(&Path)) {
    see(path);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            below(&entry.path(), files, see);
        } else if files {
            see(&entry.path());
        }
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
