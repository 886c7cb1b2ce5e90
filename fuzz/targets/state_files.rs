//! The files of a state directory, damaged in their bytes: by a full disk, a hand, or another version.

use capsid_fuzz::{damaged, fuzz, is_one_line, samples};
use capsid_runtime::{ContainerId, Runtime};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "null",
    "{}",
    "[]",
    "0",
    "-1",
    "\"schema\":2,",
    "\"schema\":0,",
    "\"pid\":1,",
    "\"\"",
    "/",
    "..",
];

#[test]
fn a_damaged_state_file_is_understood_or_named() {
    let root = tempfile::tempdir().expect("a folder");
    let id = ContainerId::new("fuzz").expect("an id");
    let folder = root.path().join(id.as_str());
    std::fs::create_dir(&folder).expect("a folder");
    let good = samples("fixtures/state/schema-1", ".json");
    let restore = || {
        for (path, text) in &good {
            let name = path.file_name().expect("a name");
            std::fs::write(folder.join(name), text).expect("a file");
        }
    };
    let runtime = Runtime::new(root.path());
    let files = good
        .iter()
        .enumerate()
        .map(|(n, (_, text))| damaged(vec![text.clone()], WORDS).prop_map(move |it| (n, it)));
    fuzz(
        "state_files",
        prop::strategy::Union::new(files),
        |(n, bytes)| {
            restore();
            let name = good[n].0.file_name().expect("a name");
            std::fs::write(folder.join(name), &bytes).expect("a file");
            let opened = runtime.open(&id).and_then(|container| {
                container.process()?;
                container.state()
            });
            match opened {
                Ok(state) => prop_assert_eq!(state.id, "fuzz"),
                Err(error) => is_one_line(&error)?,
            }
            // Whatever one container's files hold: the list has the others.
            prop_assert!(runtime.list().is_ok());
            Ok(())
        },
    );
}
