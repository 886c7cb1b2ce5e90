//! What is deserialised, and how it becomes `oci-spec`'s types: their own reading of a process
//! checks its CPU lists with a regular expression, which alone is a tenth of the program, and
//! that of a whole document knows five other platforms. Every other section is read by the
//! types themselves. It must not check anything.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Box as Size, ExecCPUAffinity, Hooks, Linux, LinuxCapabilities, LinuxIOPriority, Mount,
    PosixRlimit, Process, Root, Scheduler, Spec, User,
};
use serde::Deserialize;

/// config.json (config.md), for this platform.
#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default, rename = "ociVersion")]
    version: String,
    root: Option<Root>,
    mounts: Option<Vec<Mount>>,
    process: Option<ProcessObject>,
    hostname: Option<String>,
    domainname: Option<String>,
    hooks: Option<Hooks>,
    annotations: Option<HashMap<String, String>>,
    linux: Option<Linux>,
}

/// process of config.json, or process.json.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProcessObject {
    terminal: Option<bool>,
    console_size: Option<Size>,
    user: User,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    cwd: PathBuf,
    capabilities: Option<LinuxCapabilities>,
    rlimits: Option<Vec<PosixRlimit>>,
    no_new_privileges: Option<bool>,
    apparmor_profile: Option<String>,
    oom_score_adj: Option<i32>,
    selinux_label: Option<String>,
    io_priority: Option<LinuxIOPriority>,
    scheduler: Option<Scheduler>,
    #[serde(rename = "execCPUAffinity")]
    exec_cpu_affinity: Option<Affinity>,
}

#[derive(Deserialize)]
struct Affinity {
    initial: Option<String>,
    #[serde(rename = "final")]
    after: Option<String>,
}

// The types have no other way to be made without what their defaults invent: every field that
// a default fills is set.

impl From<Document> for Spec {
    fn from(document: Document) -> Spec {
        let mut spec = Spec::default();
        spec.set_version(document.version)
            .set_root(document.root)
            .set_mounts(document.mounts)
            .set_process(document.process.map(Process::from))
            .set_hostname(document.hostname)
            .set_domainname(document.domainname)
            .set_hooks(document.hooks)
            .set_annotations(document.annotations)
            .set_linux(document.linux);
        spec
    }
}

impl From<ProcessObject> for Process {
    fn from(object: ProcessObject) -> Process {
        let affinity = object.exec_cpu_affinity.map(|asked| {
            let mut affinity = ExecCPUAffinity::default();
            affinity
                .set_initial(asked.initial)
                .set_cpu_affinity_final(asked.after);
            affinity
        });
        let mut process = Process::default();
        process
            .set_terminal(object.terminal)
            .set_console_size(object.console_size)
            .set_user(object.user)
            .set_args(object.args)
            .set_env(object.env)
            .set_cwd(object.cwd)
            .set_capabilities(object.capabilities)
            .set_rlimits(object.rlimits)
            .set_no_new_privileges(object.no_new_privileges)
            .set_apparmor_profile(object.apparmor_profile)
            .set_oom_score_adj(object.oom_score_adj)
            .set_selinux_label(object.selinux_label)
            .set_io_priority(object.io_priority)
            .set_scheduler(object.scheduler)
            .set_exec_cpu_affinity(affinity);
        process
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn an_empty_document_has_nothing_that_nobody_wrote() {
        let document: Document = serde_json::from_value(json!({})).unwrap();
        let spec = serde_json::to_value(Spec::from(document)).unwrap();
        assert_eq!(spec, json!({"ociVersion": ""}));
        let object = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
        let process: ProcessObject = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(Process::from(process)).unwrap(),
            object
        );
    }

    /// The types' own reading is what an embedder would get.
    #[test]
    fn it_reads_as_the_types_do() {
        let text = include_str!("../../../fixtures/spec/every-field.json");
        let mut value: Value = serde_json::from_str(text).unwrap();
        super::super::tolerate::config(&mut value);
        let document: Document = serde_json::from_value(value.clone()).unwrap();
        let theirs: Spec = serde_json::from_value(value).unwrap();
        assert_eq!(Spec::from(document), theirs);
    }
}
