//! Whole config.json files, damaged in their bytes: what is no JSON, keys that are cut, values that are
//! elsewhere.

use capsid_fuzz::{Bundle, damaged, fuzz, is_one_line, samples};
use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::Spec;
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "null",
    "-1",
    "4294967295",
    "4294967296",
    "1e400",
    "\"\"",
    "[]",
    "{}",
    "{\"a\":",
    "\\u0000",
    "\\ud800",
    "../..",
    "/proc/self/fd/3",
    "rslave",
    ",",
    "\"mounts\":[],",
];

#[test]
fn a_damaged_document_is_understood_or_refused_by_its_place() {
    let good: Vec<Vec<u8>> = samples("fixtures/good", ".json")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let bundle = Bundle::new();
    fuzz("documents", damaged(good, WORDS), |bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let spec = match Spec::parse(text) {
            Ok(spec) => spec,
            Err(error) => return is_one_line(&error),
        };
        validate(&spec).iter().try_for_each(is_one_line)?;
        let again = serde_json::to_string(&spec.config).expect("JSON");
        let again = Spec::parse(again).expect("what was read, written");
        prop_assert_eq!(&again.config, &spec.config);
        match bundle.explain(&spec.raw) {
            Ok(_) => Ok(()),
            Err(error) => is_one_line(&error),
        }
    });
}
