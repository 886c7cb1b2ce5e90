//! fixtures/bad: configurations that are each wrong in one place, with the place and the words
//! that expected.tsv gives for them. The names are those of the rules they break.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use capsid_runtime::plan::validate::validate;
use capsid_runtime::spec::Spec;
use capsid_runtime::{Code, Error};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bad")
}

/// name → (pointer, tail)
fn expected() -> BTreeMap<String, (String, String)> {
    let table = std::fs::read_to_string(folder().join("expected.tsv")).unwrap();
    let row = |line: &str| {
        let [name, pointer, tail] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}");
        };
        (name.to_owned(), (pointer.to_owned(), tail.to_owned()))
    };
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(row).collect()
}

fn errors(path: &Path) -> Vec<Error> {
    match Spec::read(path) {
        Ok(spec) => validate(&spec),
        Err(error) => vec![error],
    }
}

#[test]
fn each_bad_config_is_refused_at_its_place_with_its_words() {
    let mut wrong = Vec::new();
    for (name, (pointer, tail)) in expected() {
        let errors = errors(&folder().join(format!("{name}.json")));
        let found = errors
            .first()
            .map(|e| (e.pointer().unwrap_or(""), e.tail()));
        // A setting may be wrong and unsupported as well.
        let alone = errors.iter().skip(1).all(|e| e.code() == Code::Unsupported);
        if found != Some((&pointer, &tail)) || !alone {
            wrong.push(format!("{name}: {errors:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_bad_config_has_a_row_in_the_table() {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|name| name == "json"));
    let names: Vec<String> = json
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let expected = expected();
    let without: Vec<_> = names
        .iter()
        .filter(|name| !expected.contains_key(*name))
        .collect();
    assert!(without.is_empty(), "{without:?}");
    assert_eq!(names.len(), expected.len());
}

#[test]
fn an_error_is_one_line() {
    for name in expected().keys() {
        for error in errors(&folder().join(format!("{name}.json"))) {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "{name}: {line:?}");
            assert!(line.len() < 1000, "{name}: {} bytes", line.len());
        }
    }
}
