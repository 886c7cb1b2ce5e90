//! Paths that are covered, and the propagation of the root (config-linux.md, "Masked Paths",
//! "Readonly Paths", "Rootfs Mount Propagation").

use oci_spec::runtime::LinuxNamespaceType;

use super::{has, linux, refuse};
use crate::error::Error;
use crate::plan::mount_options::propagation;
use crate::spec::{Spec, shorten};

/// Where covered paths are listed.
const COVERS: [&str; 2] = ["/linux/maskedPaths", "/linux/readonlyPaths"];

fn covered(spec: &Spec) -> [&[String]; 2] {
    let masked = linux(spec).and_then(|linux| linux.masked_paths().as_deref());
    let readonly = linux(spec).and_then(|linux| linux.readonly_paths().as_deref());
    [masked.unwrap_or_default(), readonly.unwrap_or_default()]
}

/// A cover is a mount: in the host's mount namespace it would hide the path from the host.
pub(super) fn covers_have_a_mount_namespace(spec: &Spec) -> Vec<Error> {
    if has(spec, LinuxNamespaceType::Mount) {
        return vec![];
    }
    let given = COVERS
        .iter()
        .zip(covered(spec))
        .filter(|(_, paths)| !paths.is_empty());
    let tail = "unable to restrict sys entries without a private MNT namespace";
    given.map(|(pointer, _)| refuse(*pointer, tail)).collect()
}

/// config-linux.md: the values MUST be absolute paths in the container namespace.
pub(super) fn covered_paths_are_absolute(spec: &Spec) -> Vec<Error> {
    let mut errors = Vec::new();
    for (pointer, paths) in COVERS.iter().zip(covered(spec)) {
        for (n, path) in paths
            .iter()
            .enumerate()
            .filter(|(_, path)| !path.starts_with('/'))
        {
            let tail = format!("path {:?} is not absolute", shorten(path));
            errors.push(refuse(format!("{pointer}/{n}"), tail));
        }
    }
    errors
}

/// config-linux.md, "Rootfs Mount Propagation".
pub(super) fn root_propagation_is_known(spec: &Spec) -> Vec<Error> {
    match linux(spec).and_then(|linux| linux.rootfs_propagation().as_deref()) {
        Some(word) if !word.is_empty() && propagation(word).is_none() => {
            let tail = format!("rootfsPropagation={} is not supported", shorten(word));
            vec![
                refuse("/linux/rootfsPropagation", tail)
                    .hint("it is one of [r]private, [r]shared, [r]slave, [r]unbindable"),
            ]
        }
        _ => vec![],
    }
}
