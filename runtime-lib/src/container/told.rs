//! What others are told about a container: its hooks, and whoever serves its seccomp filter.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::LazyLock;

use serde::Serialize;

/// A container, as far as all that it is in its life has it in common.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    pub id: &'a str,
    /// Absolute.
    pub bundle: &'a Path,
    pub annotations: &'a HashMap<String, String>,
    /// Readable when nobody waits for it, or for its hooks, any longer (`CreateOptions::cancel`).
    pub cancel: Option<BorrowedFd<'a>>,
}

/// runtime.md, "State".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

impl<'a> Told<'a> {
    pub fn new(
        id: &'a str,
        bundle: &'a Path,
        annotations: Option<&'a HashMap<String, String>>,
    ) -> Told<'a> {
        static NONE: LazyLock<HashMap<String, String>> = LazyLock::new(HashMap::new);
        Told {
            id,
            bundle,
            annotations: annotations.unwrap_or(&NONE),
            cancel: None,
        }
    }

    pub fn state(&self, status: &'static str, pid: Option<i32>) -> State<'a> {
        State {
            oci_version: crate::OCI_VERSION,
            id: self.id,
            status,
            pid,
            bundle: self.bundle,
            annotations: self.annotations,
        }
    }
}

/// Strings, numbers and a path that came from JSON: there is nothing that can't be written.
pub(super) fn in_json(state: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(state).unwrap_or_default()
}
