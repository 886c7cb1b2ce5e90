//! Gives the listener of a seccomp filter to whoever config.json names: the container process
//! state of runtime-spec ("config-linux.md", "The Container Process State"), and the
//! descriptor with it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;

use super::handover::{dial, send};
use super::told::{State, in_json};
use crate::Notice;
use crate::error::{Error, Result};
use crate::seccomp;
use crate::spec::{self, Spec};

const POINTER: &str = "/linux/seccomp/listenerPath";

/// The annotation that stands in for `listenerPath`, by the name that crun gave it.
pub(crate) const RECEIVER: &str = "run.oci.seccomp.receiver";

/// The JSON pointer of [`RECEIVER`].
fn annotation() -> String {
    spec::join("/annotations", RECEIVER)
}

/// Who said who listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Profile,
    Annotation,
    /// Whoever calls.
    Caller,
}

impl Asker {
    fn pointer(self) -> Option<String> {
        match self {
            Asker::Profile => Some(POINTER.to_owned()),
            Asker::Annotation => Some(annotation()),
            Asker::Caller => None,
        }
    }

    fn at(self, error: Error) -> Error {
        match self.pointer() {
            Some(pointer) => error.at(pointer),
            None => error,
        }
    }
}

/// Has the profile name who listens: whom it names itself, else whom [`RECEIVER`] does, else
/// the caller's `receiver`, which is there for every container, and so meant where one asks.
pub(super) fn name(spec: &mut Spec, receiver: Option<&Path>) -> Option<Asker> {
    let annotations = spec.config.annotations().as_ref();
    let annotated = annotations
        .and_then(|all| all.get(RECEIVER))
        .map(PathBuf::from);
    let linux = spec.config.linux_mut().as_mut();
    let profile = linux.and_then(|linux| linux.seccomp_mut().as_mut());
    let Some(profile) = profile else {
        if annotated.is_some() {
            let text = "there is no seccomp profile: nobody will call the receiver";
            spec.notices.push(Notice::new(annotation(), text));
        }
        return None;
    };
    if profile.listener_path().is_some() {
        return Some(Asker::Profile);
    }
    let (path, asker) = match (annotated, receiver) {
        (Some(path), _) => (path, Asker::Annotation),
        (None, Some(path)) if seccomp::notifies(profile) => (path.to_owned(), Asker::Caller),
        (None, _) => return None,
    };
    profile.set_listener_path(Some(path));
    Some(asker)
}

/// A connection to the listener, made before there is anything to undo.
pub(super) struct Listener<'a> {
    socket: OwnedFd,
    asker: Asker,
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
    /// Connects to the listener of a profile that [`name`] has seen.
    pub fn connect(
        profile: &'a LinuxSeccomp,
        asker: Option<Asker>,
    ) -> Result<Option<Listener<'a>>> {
        let (Some(path), Some(asker)) = (profile.listener_path(), asker) else {
            return Ok(None);
        };
        let socket = dial(path, "connect to the seccomp listener").map_err(|error| {
            asker
                .at(error)
                .hint("whoever listens there has to run first")
        })?;
        Ok(Some(Listener {
            socket,
            asker,
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
            let doing = "send the seccomp listener its descriptor";
            self.asker.at(error.doing(doing))
        })
    }
}
