//! The members at the top of config.json: version, root, names, annotations.

use oci_spec::runtime::LinuxNamespaceType;
use serde_json::Value;

use super::{has, refuse};
use crate::error::Error;
use crate::spec::version::{self, Version};
use crate::spec::{Spec, shorten};

/// __NEW_UTS_LEN of linux/utsname.h: the longest hostname and domainname, in bytes.
const UTS_NAME_MAX: usize = 64;

/// config.md, "Specification version".
pub(super) fn version_is_1_x(spec: &Spec) -> Vec<Error> {
    let pointer = "/ociVersion";
    let text = spec.config.version();
    match version::read(text) {
        Version::Known | Version::Newer => vec![],
        Version::Malformed if text.is_empty() => {
            vec![refuse(pointer, "ociVersion must be specified")]
        }
        Version::Malformed => {
            let tail = format!("ociVersion {:?} is not a semantic version", shorten(text));
            vec![refuse(pointer, tail)]
        }
        Version::Foreign => {
            let tail = format!(
                "ociVersion {:?} is not supported, only 1.x is",
                shorten(text)
            );
            vec![refuse(pointer, tail)]
        }
    }
}

/// config.md, "Root": on POSIX the path is required.
pub(super) fn root_has_a_path(spec: &Spec) -> Vec<Error> {
    match spec.config.root() {
        None => vec![refuse("/root", "root must be specified")],
        Some(root) if root.path().as_os_str().is_empty() => {
            vec![
                refuse("/root/path", "root must be specified")
                    .hint("it is the directory of the root filesystem"),
            ]
        }
        Some(_) => vec![],
    }
}

/// config.md, "Hostname": the name of the container's UTS namespace.
pub(super) fn hostname_has_a_namespace(spec: &Spec) -> Vec<Error> {
    name_has_a_namespace(spec, "hostname", spec.config.hostname().as_deref())
}

/// config.md, "Domainname": the name of the container's UTS namespace.
pub(super) fn domainname_has_a_namespace(spec: &Spec) -> Vec<Error> {
    name_has_a_namespace(spec, "domainname", spec.config.domainname().as_deref())
}

fn name_has_a_namespace(spec: &Spec, what: &str, name: Option<&str>) -> Vec<Error> {
    let Some(name) = name else {
        return vec![];
    };
    let pointer = format!("/{what}");
    if !has(spec, LinuxNamespaceType::Uts) {
        let tail = format!("unable to set {what} without a private UTS namespace");
        return vec![refuse(pointer, tail)];
    }
    if name.len() > UTS_NAME_MAX {
        let tail = format!("{what} is longer than {UTS_NAME_MAX} bytes");
        return vec![refuse(pointer, tail)];
    }
    vec![]
}

/// config.md, "Annotations": a key MUST NOT be an empty string.
pub(super) fn annotations_have_names(spec: &Spec) -> Vec<Error> {
    let annotations = spec.raw.get("annotations").and_then(Value::as_object);
    match annotations.is_some_and(|annotations| annotations.contains_key("")) {
        true => vec![refuse("/annotations/", "annotation key must not be empty")],
        false => vec![],
    }
}
