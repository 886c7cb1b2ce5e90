//! Configurations that nobody would think of: made from a seed, so that one that failed can be made again.
//! CAPSID_SEED=N looks at that one alone; CAPSID_GENERATED=N takes as many of each kind.

mod mounts;

use serde_json::Value;

use crate::differential::peer::Way;
use crate::differential::try_compare;
use crate::harness::{Bundle, Stage, machine};

/// Numbers from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// One word of some of the groups.
    pub fn some(&mut self, groups: &[&[&str]]) -> Vec<String> {
        let chosen = groups.iter().filter_map(|group| match self.once_in(3) {
            true => Some(self.of(group).to_owned()),
            false => None,
        });
        chosen.collect()
    }
}

/// The seeds of one of two halves, which run side by side.
fn seeds(half: usize) -> Vec<usize> {
    let only = std::env::var("CAPSID_SEED").ok();
    match only.and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..machine::count("CAPSID_GENERATED", 32, 400))
            .filter(|seed| seed % 2 == half)
            .collect(),
    }
}

/// Compares one configuration for each seed, and fails with all that differ without a reason.
fn compare_all(
    stage: &Stage,
    kind: &str,
    seeds: &[usize],
    make: impl Fn(usize, &mut Bundle),
    show: impl Fn(&Value) -> Value,
) {
    let mut failed = Vec::new();
    for seed in seeds {
        let mut bundle = super::bundle(stage);
        make(*seed, &mut bundle);
        let name = format!("generated-{kind}-{seed}");
        if let Err(found) = try_compare(stage, &name, &bundle, Way::Run) {
            failed.push(format!("{found}\nconfig: {}", show(&bundle.config)));
        }
    }
    let count = failed.len();
    assert!(count == 0, "{count} differ:\n{}", failed.join("\n\n"));
}
