//! The bench that the targets stand on: how many inputs, how long one may take, where one that
//! failed is kept. It knows nothing of what is fuzzed.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capsid_runtime::{
    CgroupDriver, ContainerId, CreateOptions, Error, Explanation, Result, Runtime,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngSeed, TestCaseError, TestCaseResult, TestRunner,
};
use serde_json::Value;

/// Ten times what any input may take: a guard against hangs, not a figure.
const DEADLINE: Duration = Duration::from_millis(500);
/// What is slow because of the machine is not slow as often as this.
const TRIES: usize = 4;

/// Gives the oracle inputs until one fails, which is then shrunk and kept.
///
/// # Panics
/// With the smallest input that fails.
#[track_caller]
pub fn fuzz<S>(target: &str, inputs: S, oracle: impl Fn(S::Value) -> TestCaseResult)
where
    S: Strategy,
    S::Value: Clone,
{
    let kept = folder().join(format!("regressions/{target}.txt"));
    // proptest keeps names, not paths.
    let kept: &'static str = Box::leak(kept.to_string_lossy().into_owned().into_boxed_str());
    let config = Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        max_shrink_iters: 20_000,
        // `make test` says the same twice; `make soak` looks for more.
        rng_seed: match std::env::var_os("CAPSID_SOAK") {
            Some(_) => RngSeed::Random,
            None => RngSeed::Fixed(1),
        },
        ..Config::default()
    };
    let watched = |input: S::Value| {
        let mut took = Duration::ZERO;
        for _ in 0..TRIES {
            let begun = Instant::now();
            oracle(input.clone())?;
            took = begun.elapsed();
            if took < DEADLINE {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("it took {took:?}, every time")))
    };
    let mut runner = TestRunner::new(config);
    if let Err(failure) = runner.run(&inputs, watched) {
        panic!("{target}: {failure}");
    }
}

fn cases() -> u32 {
    let set = std::env::var("CAPSID_FUZZ").ok();
    let usual = match std::env::var_os("CAPSID_SOAK") {
        Some(_) => 30_000,
        None => 300,
    };
    set.and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder of the repository whose names end so, sorted.
pub fn samples(below: &str, end: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder().join("..").join(below);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .map(|path| (path.clone(), std::fs::read(&path).expect("a file")))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files
}

/// What is done to one place of a sample.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Flip(u8),
    Insert(Vec<u8>),
    /// A piece of the same sample, once more.
    Repeat(Index, usize),
}

/// One of the samples with a few places damaged: cut, flipped, and with words of the dictionary put
/// in.
pub fn damaged(
    samples: Vec<Vec<u8>>,
    dictionary: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(dictionary).prop_map(|word| word.as_bytes().to_vec());
    let damage = prop_oneof![
        (1usize..64).prop_map(Damage::Cut),
        any::<u8>().prop_map(Damage::Flip),
        words.prop_map(Damage::Insert),
        prop::collection::vec(any::<u8>(), 1..4).prop_map(Damage::Insert),
        (any::<Index>(), 1usize..200).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ];
    let places = prop::collection::vec((any::<Index>(), damage), 0..6);
    (prop::sample::select(samples), places).prop_map(|(mut bytes, places)| {
        for (place, damage) in places {
            apply(&mut bytes, place, damage);
        }
        bytes
    })
}

fn apply(bytes: &mut Vec<u8>, place: Index, damage: Damage) {
    let at = place.index(bytes.len() + 1);
    let until = |length: usize| (at + length).min(bytes.len());
    match damage {
        Damage::Cut(length) => drop(bytes.drain(at..until(length))),
        Damage::Flip(bits) => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Damage::Insert(more) => drop(bytes.splice(at..at, more)),
        Damage::Repeat(from, length) => {
            let from = from.index(bytes.len() + 1);
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

/// A bundle whose config.json is replaced for each input: what `explain` says of it is the plan, without
/// anything being made.
pub struct Bundle {
    folder: tempfile::TempDir,
    runtime: Runtime,
    /// The text that is there already.
    written: RefCell<Vec<u8>>,
}

impl Bundle {
    /// An empty root filesystem, and no configuration yet.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Bundle {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("rootfs")).expect("a folder");
        Bundle {
            runtime: Runtime::new(folder.path().join("state")),
            written: RefCell::default(),
            folder,
        }
    }

    /// The plan of a container with this configuration.
    ///
    /// # Errors
    /// What create would refuse.
    pub fn explain(&self, config: &Value) -> Result<Explanation> {
        let text = config.to_string().into_bytes();
        if *self.written.borrow() != text {
            let path = self.folder.path().join("config.json");
            std::fs::write(path, &text).expect("config.json");
            self.written.replace(text);
        }
        let options = CreateOptions {
            bundle: self.folder.path().to_owned(),
            cgroups: CgroupDriver::Disabled,
            ..CreateOptions::default()
        };
        self.runtime.explain(&ContainerId::new("fuzz")?, &options)
    }
}

/// An error that can be printed and logged: one line, with the code and the setting that it is about.
pub fn is_one_line(error: &Error) -> TestCaseResult {
    let line = error.to_string();
    prop_assert!(
        !line.is_empty() && !line.chars().any(char::is_control),
        "{:?}",
        line
    );
    let pointer = error.pointer();
    prop_assert!(
        pointer.is_none_or(|at| at.starts_with('/')),
        "{:?}",
        pointer
    );
    Ok(())
}
