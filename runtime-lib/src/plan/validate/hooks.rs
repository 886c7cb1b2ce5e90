//! Hooks (config.md, "POSIX-platform Hooks").

use serde_json::Value;

use super::refuse;
use crate::error::Error;
use crate::spec::{Spec, matches, shorten};

/// config.md: on POSIX, path MUST be absolute.
pub(super) fn paths_are_absolute(spec: &Spec) -> Vec<Error> {
    let relative = |path: &Value| path.as_str().is_some_and(|path| !path.starts_with('/'));
    let wrong = matches(&spec.raw, "/hooks/*/*/path", relative).into_iter();
    wrong
        .map(|(pointer, path)| {
            let path = shorten(path.as_str().unwrap_or_default());
            refuse(pointer, format!("hook path {path:?} is not absolute"))
        })
        .collect()
}

/// config.md: if set, timeout MUST be greater than zero.
pub(super) fn timeouts_are_positive(spec: &Spec) -> Vec<Error> {
    let wrong = |timeout: &Value| timeout.as_i64().is_some_and(|seconds| seconds <= 0);
    let wrong = matches(&spec.raw, "/hooks/*/*/timeout", wrong).into_iter();
    wrong
        .map(|(pointer, seconds)| {
            let tail = format!("hook timeout {seconds} is not greater than zero");
            refuse(pointer, tail)
        })
        .collect()
}

/// config.md: env has the same semantics as IEEE Std 1003.1-2008's environ.
pub(super) fn environment_is_names_with_values(spec: &Spec) -> Vec<Error> {
    let wrong = |entry: &Value| {
        let entry = entry.as_str();
        entry.is_some_and(|entry| entry.find('=').is_none_or(|at| at == 0))
    };
    let wrong = matches(&spec.raw, "/hooks/*/*/env/*", wrong).into_iter();
    wrong
        .map(|(pointer, entry)| {
            let entry = shorten(entry.as_str().unwrap_or_default());
            refuse(pointer, format!("invalid environment variable: {entry:?}"))
        })
        .collect()
}
