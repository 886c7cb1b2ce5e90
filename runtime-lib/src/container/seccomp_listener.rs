//! Gives the listener of a seccomp filter to whoever config.json names: the container process
//! state of runtime-spec ("config-linux.md", "The Container Process State"), and the
//! descriptor with it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;

use super::handover::{dial, send};
use super::state::Status;
use crate::error::Result;

const POINTER: &str = "/linux/seccomp/listenerPath";

/// A connection to the listener, made before there is anything to undo.
pub struct Listener<'a> {
    socket: OwnedFd,
    metadata: Option<&'a str>,
}

/// The container that the process belongs to.
pub struct About<'a> {
    pub id: &'a str,
    pub status: Status,
    /// The container's init.
    pub pid: i32,
    pub bundle: &'a Path,
    pub annotations: &'a HashMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: State<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

impl<'a> Listener<'a> {
    /// Connects to the profile's listener.
    pub fn connect(profile: &'a LinuxSeccomp) -> Result<Option<Listener<'a>>> {
        let Some(path) = profile.listener_path() else {
            return Ok(None);
        };
        let socket = dial(path, "connect to the seccomp listener").map_err(|error| {
            error
                .at(POINTER)
                .hint("whoever listens there has to run first")
        })?;
        Ok(Some(Listener {
            socket,
            metadata: profile.listener_metadata().as_deref(),
        }))
    }

    /// Sends the descriptor of a process's filter, once.
    pub fn give(&self, filter: &OwnedFd, pid: i32, about: &About) -> Result<()> {
        let state = ProcessState {
            oci_version: crate::OCI_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: self.metadata,
            state: State {
                oci_version: crate::OCI_VERSION,
                id: about.id,
                status: about.status,
                pid: about.pid,
                bundle: about.bundle,
                annotations: about.annotations,
            },
        };
        // Strings, numbers and a path that came from JSON: there is nothing that can't be
        // written.
        let text = serde_json::to_vec(&state).unwrap_or_default();
        send(&self.socket, &text, filter.as_fd()).map_err(|error| {
            error
                .doing("send the seccomp listener its descriptor")
                .at(POINTER)
        })
    }
}
