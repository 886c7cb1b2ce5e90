//! What a configuration must not ask for, whatever machine it is for: one named function per
//! rule, and all that is wrong at once.
//!
//! Rules look at the configuration only. What depends on the machine (does that path exist,
//! is that namespace the host's own) is decided where it is planned. Nothing is changed here,
//! and a rule never repeats what the reader ([`crate::spec`]) has refused already.

mod conditions;
mod devices;
mod document;
mod hooks;
mod idmaps;
mod mounts;
mod namespaces;
mod net_devices;
mod paths;
mod process;
mod rdt;
mod scheduling;
mod seccomp;
mod strings;
pub mod sysctl;

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::{Code, Error};
use crate::spec::{Spec, unsupported};

pub use process::process;

/// A rule: every place where it is broken.
type Rule = fn(&Spec) -> Vec<Error>;

const RULES: &[Rule] = &[
    document::version_is_1_x,
    document::root_has_a_path,
    document::hostname_has_a_namespace,
    document::domainname_has_a_namespace,
    document::annotations_have_names,
    namespaces::each_kind_once,
    namespaces::paths_are_absolute,
    namespaces::time_offsets_have_a_namespace,
    namespaces::time_offsets_are_in_range,
    idmaps::maps_have_a_user_namespace,
    idmaps::both_kinds_are_mapped,
    idmaps::ranges_are_disjoint,
    mounts::destinations_are_given,
    mounts::idmapped_mounts_map_both_kinds,
    mounts::maps_of_mounts_are_disjoint,
    devices::numbers_are_given_and_in_range,
    devices::paths_are_plain,
    devices::owners_and_modes_are_in_range,
    paths::covers_have_a_mount_namespace,
    paths::covered_paths_are_absolute,
    paths::root_propagation_is_known,
    conditions::personality_has_no_flags,
    conditions::memory_policy_fits_together,
    rdt::class_is_a_name,
    rdt::schemata_are_lines,
    net_devices::devices_have_a_namespace,
    net_devices::device_names_are_names,
    net_devices::device_names_are_given_once,
    seccomp::errnos_belong_to_actions,
    seccomp::arguments_exist,
    seccomp::listeners_can_listen,
    sysctl::names_are_namespaced,
    sysctl::values_are_one_line,
    sysctl::names_are_written_once,
    hooks::paths_are_absolute,
    hooks::timeouts_are_positive,
    hooks::environment_is_names_with_values,
    strings::no_nul_bytes,
    strings::paths_fit_the_kernel,
];

/// Everything that is wrong with a configuration, in the order of the document's stages, and
/// after it what this version does not support. Each error carries its JSON pointer and is
/// [`Code::InvalidConfig`] or [`Code::Unsupported`].
pub fn validate(spec: &Spec) -> Vec<Error> {
    let mut errors: Vec<Error> = RULES.iter().flat_map(|rule| rule(spec)).collect();
    if let Some(asked) = spec.config.process() {
        errors.extend(process(asked, "/process"));
    }
    errors.extend(unsupported::config(&spec.raw));
    errors
}

/// The error that create reports; it says so when it isn't alone.
pub fn first(errors: Vec<Error>) -> Option<Error> {
    first_of(errors, |errors| {
        let count = errors.len();
        format!("one of {count} problems, capsid explain lists them")
    })
}

/// The error that exec reports, of whose process nothing else lists what is wrong: it names the
/// other places.
pub fn first_named(errors: Vec<Error>) -> Option<Error> {
    first_of(errors, |errors| {
        let places: Vec<&str> = errors.iter().filter_map(Error::pointer).collect();
        format!("one of {} problems: {}", places.len(), places.join(", "))
    })
}

fn first_of(errors: Vec<Error>, all: impl Fn(&[Error]) -> String) -> Option<Error> {
    let all = (errors.len() > 1).then(|| all(&errors));
    let first = errors.into_iter().next()?;
    Some(match all {
        Some(all) => first.also(all),
        None => first,
    })
}

fn refuse(pointer: impl Into<String>, tail: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, tail).at(pointer)
}

fn linux(spec: &Spec) -> Option<&Linux> {
    spec.config.linux().as_ref()
}

/// Whether the configuration lists a namespace of this kind, new or joined.
fn has(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let listed = linux(spec).and_then(|linux| linux.namespaces().as_deref());
    listed
        .unwrap_or_default()
        .iter()
        .any(|namespace| namespace.typ() == kind)
}

#[cfg(test)]
mod tests;
