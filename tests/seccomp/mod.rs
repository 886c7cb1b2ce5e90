//! Promise: a process makes the system calls that its seccomp profile lets it make, and no others: init and
//! what is exec'd, with noNewPrivileges and without; and whoever is to be asked is asked.

mod actions;
mod listener;
mod placement;
mod profiles;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::harness::{Bundle, Outcome, Stage, machine};

const MKDIR: i64 = nix::libc::SYS_mkdir;

/// Both ways of a process: without and with no_new_privs.
const WAYS: [bool; 2] = [false, true];

/// One of our C programs, built; None without a compiler, or elsewhere than on x86-64.
fn program(name: &'static str) -> Option<PathBuf> {
    static BUILT: OnceLock<bool> = OnceLock::new();
    let folder = machine::shared().join("seccomp");
    let build = |name: &str| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/seccomp/{name}.c"));
        let mut cc = Command::new("cc");
        cc.args(["-static", "-O1", "-D_GNU_SOURCE", "-o"])
            .arg(folder.join(name))
            .arg(source);
        cc.status().is_ok_and(|status| status.success())
    };
    let built = BUILT.get_or_init(|| {
        std::fs::create_dir_all(&folder).expect("a folder");
        cfg!(target_arch = "x86_64") && build("call") && build("agent")
    });
    built.then(|| folder.join(name))
}

/// A bundle in which `call` can be executed, with this profile.
fn bundle(stage: &Stage, call: &Path, profile: Value, no_new_privileges: bool) -> Bundle {
    let mut bundle = stage.bundle();
    bundle
        .bind(call, "/call", &["ro"])
        .mount("/tmp", "tmpfs", "tmpfs", &[])
        .set("/linux/seccomp", profile)
        .set("/process/noNewPrivileges", json!(no_new_privileges));
    bundle
}

/// Everything is allowed but mkdir(2).
fn but_mkdir(action: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": action}],
    })
}

/// What `call` says that it got, in the container's init.
#[track_caller]
fn called(stage: &Stage, bundle: &mut Bundle, calls: &[&str]) -> Vec<String> {
    bundle.args(&[&["/call"], calls].concat());
    lines(&stage.run(bundle).ok())
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.stdout.lines().map(str::to_owned).collect()
}

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/seccomp/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("a profile")).expect("JSON")
}

/// The program, or a skip.
#[macro_export]
macro_rules! seccomp_program {
    ($name:expr) => {
        match $crate::seccomp::program($name) {
            Some(path) => path,
            None => $crate::skip!("no C compiler, or not on x86-64"),
        }
    };
}
