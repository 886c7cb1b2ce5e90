//! Gives the listener of a seccomp filter to whoever config.json names: the container process
//! state of runtime-spec ("config-linux.md", "The Container Process State"), and the
//! descriptor with it.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;

use super::handover::{dial, send};
use super::told::{State, in_json};
use crate::error::Result;

const POINTER: &str = "/linux/seccomp/listenerPath";

/// A connection to the listener, made before there is anything to undo.
pub(super) struct Listener<'a> {
    socket: OwnedFd,
    metadata: Option<&'a str>,
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

    /// Sends the descriptor of a process's filter, once; `state` is that of its container.
    pub fn give(&self, filter: &OwnedFd, pid: i32, state: State) -> Result<()> {
        let text = in_json(&ProcessState {
            oci_version: crate::OCI_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: self.metadata,
            state,
        });
        send(&self.socket, &text, filter.as_fd()).map_err(|error| {
            error
                .doing("send the seccomp listener its descriptor")
                .at(POINTER)
        })
    }
}
