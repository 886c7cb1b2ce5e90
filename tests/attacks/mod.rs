//! Promise: neither an image, nor a volume, nor a container that shares one, leads the runtime to a file of the
//! host or to what the kernel shows in /proc. One test an attack, by its number (docs/promises.md).

mod images;
mod volumes;

use std::path::Path;

use crate::harness::{Bundle, Outcome};

/// Takes the config's mounts at and below a place out.
fn without_mounts_at(bundle: &mut Bundle, place: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| {
        let destination = mount["destination"].as_str().expect("a destination");
        destination != place && !destination.starts_with(&format!("{place}/"))
    });
}

/// mknod(1) and the like.
#[track_caller]
fn make(program: &str, place: &Path, args: &[&str]) {
    let mut command = std::process::Command::new(program);
    Outcome::of(command.arg(place).args(args)).ok();
}

/// A file of the host that an attack wants shown or written.
struct Decoy {
    path: std::path::PathBuf,
}

const SECRET: &str = "the host's own\n";

impl Decoy {
    fn at(path: std::path::PathBuf) -> Decoy {
        std::fs::write(&path, SECRET).expect("a decoy");
        Decoy { path }
    }

    /// It was not written, and the container has not shown it.
    #[track_caller]
    fn untouched(&self, outcome: &Outcome) {
        let text = std::fs::read_to_string(&self.path).expect("the decoy");
        assert_eq!(text, SECRET, "the decoy was written: {outcome}");
        assert!(
            !outcome.stdout.contains(SECRET.trim()),
            "the decoy was shown: {outcome}"
        );
    }
}
