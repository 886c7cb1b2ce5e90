//! Intel RDT (config-linux.md, "Intel RDT"): names of groups, lines of schemata.

use super::{linux, refuse};
use crate::error::Error;
use crate::spec::{Spec, shorten};

/// What resctrl has in its own root.
const TAKEN: [&str; 5] = [".", "..", "info", "mon_groups", "mon_data"];

/// A class of service is one directory of resctrl.
pub(super) fn class_is_a_name(spec: &Spec) -> Vec<Error> {
    let rdt = linux(spec).and_then(|linux| linux.intel_rdt().as_ref());
    let name = rdt.and_then(|rdt| rdt.clos_id().as_deref());
    match name {
        Some(name)
            if TAKEN.contains(&name) || name.contains(['/', '\n', '\0']) || name.len() > 255 =>
        {
            let tail = format!("invalid intelRdt.ClosID {:?}", shorten(name));
            vec![refuse("/linux/intelRdt/closID", tail)]
        }
        _ => vec![],
    }
}

/// Each element of schemata is a line of the file.
pub(super) fn schemata_are_lines(spec: &Spec) -> Vec<Error> {
    let rdt = linux(spec).and_then(|linux| linux.intel_rdt().as_ref());
    let lines = rdt.and_then(|rdt| rdt.schemata().as_deref());
    let wrong = |line: &String| line.contains(['\n', '\0']) || !line.contains(':');
    let lines = lines.unwrap_or_default().iter().enumerate();
    lines
        .filter(|(_, line)| wrong(line))
        .map(|(n, line)| {
            let tail = format!("{:?} is not one line as \"L3:0=ff\"", shorten(line));
            refuse(format!("/linux/intelRdt/schemata/{n}"), tail)
        })
        .collect()
}
