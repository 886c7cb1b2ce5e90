//! Promises for when things break: the runtime is killed, its files are damaged, the disk is full, others
//! do the same at the same time. After any of it nothing is left, and no stranger was harmed.

mod damaged_state;
mod frozen;
#[cfg(target_arch = "x86_64")]
mod injected;
mod killed;
mod locked;
mod no_space;
mod races;
mod strangers;
mod stuck;

use std::path::Path;
use std::time::SystemTime;

use crate::harness::machine;

/// Every process whose command line names `id`: the runtime's children until they execute have its own, and
/// the programs of these tests name their container.
fn processes_of(id: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let named = entries.flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(id)
            .then(|| format!("{} {line}", entry.file_name().display()))
    });
    named.collect()
}

/// The mounts of this test's mount namespace that name `path`.
fn mounts_below(path: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let path = path.to_string_lossy();
    let below = table.lines().filter(|line| line.contains(&*path));
    below.map(str::to_owned).collect()
}

/// How often: in `make test`, in `make soak`; the guest is ten times slower.
fn rounds(usual: usize, soak: usize) -> usize {
    match std::env::var_os("CAPSID_GUEST") {
        Some(_) => machine::count("CAPSID_ROUNDS", usual.div_ceil(5), soak.div_ceil(5)),
        None => machine::count("CAPSID_ROUNDS", usual, soak),
    }
}

/// `usual` numbers from 1 to `last`, or all of them in `make soak`.
fn spread(last: usize, usual: usize) -> impl Iterator<Item = usize> {
    let count = rounds(usual, last).clamp(1, last);
    // The remainder differs from run to run, so that in time every call has its turn.
    let shift = random() as usize % last;
    (0..count).map(move |n| (n * last / count + shift) % last + 1)
}

/// Nothing that has to be unpredictable, only different.
fn random() -> u32 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.subsec_nanos() / 7)
}
