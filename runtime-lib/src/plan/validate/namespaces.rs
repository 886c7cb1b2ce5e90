//! The list of namespaces, and time offsets (config-linux.md, "Namespaces").

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};
use serde_json::Value;

use super::{has, linux, refuse};
use crate::error::Error;
use crate::spec::{Spec, at, join, shorten};

/// The clocks that a time namespace shifts (time_namespaces(7)).
const CLOCKS: &[&str] = &["monotonic", "boottime"];

fn listed(spec: &Spec) -> impl Iterator<Item = (usize, &LinuxNamespace)> {
    let listed = linux(spec).and_then(|linux| linux.namespaces().as_deref());
    listed.unwrap_or_default().iter().enumerate()
}

/// config-linux.md: duplicated namespaces with the same type MUST be an error.
pub(super) fn each_kind_once(spec: &Spec) -> Vec<Error> {
    let repeated = |(n, namespace): &(usize, &LinuxNamespace)| {
        listed(spec)
            .take(*n)
            .any(|(_, earlier)| earlier.typ() == namespace.typ())
    };
    let refused = |(n, namespace): (usize, &LinuxNamespace)| {
        let kind = serde_json::to_value(namespace.typ()).unwrap_or_default();
        let path = namespace.path().as_deref().unwrap_or("".as_ref());
        let path = shorten(&path.to_string_lossy());
        let tail = format!("malformed spec file: duplicated ns {{{kind} {path:?}}}");
        refuse(format!("/linux/namespaces/{n}"), tail)
    };
    listed(spec).filter(repeated).map(refused).collect()
}

/// config-linux.md: path MUST be an absolute path in the runtime mount namespace.
pub(super) fn paths_are_absolute(spec: &Spec) -> Vec<Error> {
    let relative = |(n, namespace): (usize, &LinuxNamespace)| {
        let path = namespace
            .path()
            .as_deref()
            .filter(|path| !path.is_absolute())?;
        let path = shorten(&path.to_string_lossy());
        let tail = format!("namespace path {path:?} is not absolute");
        Some(refuse(format!("/linux/namespaces/{n}/path"), tail))
    };
    listed(spec).filter_map(relative).collect()
}

/// config-linux.md, "Offset for Time Namespace": the offsets are those of a new namespace.
pub(super) fn time_offsets_have_a_namespace(spec: &Spec) -> Vec<Error> {
    let offsets = at(&spec.raw, "/linux/timeOffsets").and_then(Value::as_object);
    if offsets.is_none_or(|offsets| offsets.is_empty()) {
        return vec![];
    }
    let time = LinuxNamespaceType::Time;
    let joined = |(_, namespace): (usize, &LinuxNamespace)| {
        namespace.typ() == time && namespace.path().is_some()
    };
    let tail = if !has(spec, time) {
        "time namespace offsets specified, but time namespace isn't enabled in the config"
    } else if listed(spec).any(joined) {
        "both namespace path and time offsets specified -- you may only provide one"
    } else {
        return vec![];
    };
    vec![refuse("/linux/timeOffsets", tail)]
}

/// config-linux.md, "Offset for Time Namespace": two clocks, and nanoseconds below a second.
pub(super) fn time_offsets_are_in_range(spec: &Spec) -> Vec<Error> {
    let offsets = linux(spec).and_then(|linux| linux.time_offsets().as_ref());
    let mut errors = Vec::new();
    for (clock, offset) in offsets.into_iter().flatten() {
        let pointer = join("/linux/timeOffsets", clock);
        if !CLOCKS.contains(&clock.as_str()) {
            let tail = format!(
                "clock {:?} has no offset in a time namespace",
                shorten(clock)
            );
            errors.push(refuse(pointer, tail));
        } else if offset
            .nanosecs()
            .is_some_and(|nanosecs| nanosecs > 999_999_999)
        {
            let tail = "nanosecs is above 999999999";
            errors.push(refuse(format!("{pointer}/nanosecs"), tail));
        }
    }
    errors.sort_by(|a, b| a.pointer().cmp(&b.pointer()));
    errors
}
