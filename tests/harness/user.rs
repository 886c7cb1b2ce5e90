//! The ordinary user that the enclosure made, with subordinate ids of their own, and how to act as them.

use std::path::Path;
use std::process::Command;

use super::Outcome;

/// Their ids, and where their subordinate ids begin (tests/enclosure.sh).
pub const UID: u32 = 54321;
pub const SUBUID: u32 = 500_000;
pub const SUBGID: u32 = 600_000;

/// Why there is no such user here, if so.
pub fn obstacle() -> Option<&'static str> {
    if std::env::var_os("CAPSID_USER").is_none() {
        return Some("no ordinary user: /etc can't be overlaid here");
    }
    let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    (limit.trim() == "0").then_some("user namespaces are switched off here")
}

/// The arguments of setpriv(1) that make the rest of a command line theirs, with no privilege left.
pub fn arguments() -> [String; 5] {
    [
        format!("--reuid={UID}"),
        format!("--regid={UID}"),
        "--clear-groups".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--".to_owned(),
    ]
}

/// Gives them a folder and all that is in it.
pub fn owns(path: &Path) {
    Outcome::of(
        Command::new("chown")
            .arg("-R")
            .arg(format!("{UID}:{UID}"))
            .arg(path),
    )
    .ok();
}
