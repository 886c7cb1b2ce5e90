//! What the kernel can't take as a string at all: NUL bytes, and paths that are too long. The
//! strings of the process are judged with it.

use serde_json::Value;

use super::refuse;
use crate::error::Error;
use crate::spec::{Spec, join, matches};

/// Members of config.json whose strings reach the kernel.
const REACHES_THE_KERNEL: &[&str] = &["root", "hostname", "domainname", "mounts", "linux", "hooks"];

/// Every path.
const PATHS: &[&str] = &[
    "/root/path",
    "/mounts/*/destination",
    "/mounts/*/source",
    "/linux/namespaces/*/path",
    "/linux/devices/*/path",
    "/linux/maskedPaths/*",
    "/linux/readonlyPaths/*",
    "/linux/cgroupsPath",
    "/hooks/*/*/path",
];

/// A string of C ends at the first NUL byte: what comes after it would silently be lost.
pub(super) fn no_nul_bytes(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    // JSON has no other way to write one.
    if !spec.text.contains("\\u0000") {
        return errors;
    }
    for name in REACHES_THE_KERNEL {
        if let Some(value) = spec.raw.get(*name) {
            nul_bytes(value, &join("", name), &mut errors);
        }
    }
    errors
}

fn nul_bytes(value: &Value, pointer: &str, errors: &mut Vec<Error>) {
    match value {
        Value::String(text) if text.contains('\0') => {
            errors.push(refuse(pointer, "it contains a NUL byte"));
        }
        Value::Array(elements) => {
            for (n, element) in elements.iter().enumerate() {
                nul_bytes(element, &format!("{pointer}/{n}"), errors);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let pointer = join(pointer, name);
                if name.contains('\0') {
                    errors.push(refuse(pointer.as_str(), "its name contains a NUL byte"));
                }
                nul_bytes(member, &pointer, errors);
            }
        }
        _ => {}
    }
}

/// path_resolution(7): a path has at most PATH_MAX bytes with the NUL byte at its end.
pub(super) fn paths_fit_the_kernel(spec: &Spec) -> Vec<Error> {
    let long = |value: &Value| value.as_str().is_some_and(|path| is_long(path.as_bytes()));
    let found = PATHS
        .iter()
        .flat_map(|pattern| matches(&spec.raw, pattern, long));
    found
        .map(|(pointer, _)| refuse(pointer, TOO_LONG))
        .collect()
}

/// ENAMETOOLONG, as Go words it.
const TOO_LONG: &str = "file name too long";

fn is_long(path: &[u8]) -> bool {
    path.len() >= libc::PATH_MAX as usize
}

/// What is wrong with a path before the kernel has seen it.
pub(super) fn wrong_path(path: &[u8]) -> Option<&'static str> {
    match () {
        () if path.contains(&0) => Some("it contains a NUL byte"),
        () if is_long(path) => Some(TOO_LONG),
        () => None,
    }
}
