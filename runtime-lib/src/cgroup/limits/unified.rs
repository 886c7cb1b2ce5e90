//! linux.resources.unified: files of cgroup v2 by their own names, written last.

use std::collections::HashMap;

use super::Version;
use super::table::Write;
use crate::error::{Code, Error, Result};
use crate::spec::{join, shorten};

/// The setting.
pub(super) const POINTER: &str = "/linux/resources/unified";

/// Files that do something to processes instead of limiting them: what they would do to a
/// container that is being made (move a stranger into it, kill it, stop it for ever) cannot
/// be meant.
const DEEDS: [&str; 4] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.kill",
    "cgroup.freeze",
];

/// # Errors
/// [`Code::InvalidConfig`]: on cgroup v1, and for keys that are no files of a controller.
pub(super) fn check(version: Version, unified: &HashMap<String, String>) -> Result<()> {
    if unified.is_empty() {
        return Ok(());
    }
    if version == Version::V1 {
        let tail = "invalid configuration: cannot use unified on cgroup v1";
        return Err(Error::new(Code::InvalidConfig, tail).at(POINTER));
    }
    let mut keys: Vec<_> = unified.keys().collect();
    keys.sort();
    for key in keys {
        let shown = shorten(key);
        let tail = if key.contains('/') {
            format!("unified resource {shown:?} must be a file name (no slashes)")
        } else if DEEDS.contains(&key.as_str()) {
            format!("unified resource {shown:?} can't be set: it is not a setting")
        } else if is_named(key) {
            continue;
        } else {
            format!("unified resource {shown:?} must be in the form CONTROLLER.PARAMETER")
        };
        return Err(Error::new(Code::InvalidConfig, tail).at(join(POINTER, key)));
    }
    Ok(())
}

fn is_named(key: &str) -> bool {
    let parts = key.split_once('.');
    let whole = parts.is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty());
    whole && key.len() < 256 && !key.contains('\0')
}

/// In the order of their names, so that cpu.max comes before cpu.max.burst.
pub(super) fn writes(unified: Option<&HashMap<String, String>>) -> Vec<Write> {
    let mut pairs: Vec<_> = unified.into_iter().flatten().collect();
    pairs.sort();
    let write = |(key, value): (&String, &String)| Write {
        part: key.clone(),
        file: key.clone(),
        value: value.clone(),
        otherwise: None,
    };
    pairs.into_iter().map(write).collect()
}
