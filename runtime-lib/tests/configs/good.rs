//! fixtures/good: configurations as runc, Docker, containerd, its CRI and Podman write them. Each
//! is accepted, and nothing of it is lost or invented on the way into types.

use std::path::{Path, PathBuf};

use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::Spec;

use crate::lost;

/// Every field of the specification that is read, each set.
const EVERY_FIELD: &str = "spec/every-field.json";

/// What a file says on purpose that has to be tolerated.
const TOLERATED: &[(&str, &str)] = &[("everything.json", "/mounts/15/destination")];

pub fn fixtures() -> Vec<PathBuf> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let folder = fixtures.join("good");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut json: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|name| name == "json"))
        .collect();
    json.sort();
    assert!(json.len() >= 10, "{json:?}");
    json.push(fixtures.join(EVERY_FIELD));
    json
}

#[test]
fn every_config_that_engines_write_is_accepted() {
    for path in fixtures() {
        let spec = Spec::read(&path).unwrap();
        let errors = validate(&spec);
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let name = path.file_name().unwrap();
        let told = spec.notices.iter().map(|notice| notice.pointer.as_str());
        let told: Vec<_> = told
            .filter(|pointer| !TOLERATED.contains(&(name.to_str().unwrap(), pointer)))
            .collect();
        assert!(told.is_empty(), "{}: {told:?}", path.display());
    }
}

#[test]
fn nothing_is_lost_or_invented_on_the_way_into_types() {
    for path in fixtures() {
        let spec = Spec::read(&path).unwrap();
        let found = lost::between(&spec);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}
