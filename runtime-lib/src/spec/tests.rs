//! The reader on small documents; fixtures/ has the whole ones.

use std::time::{Duration, Instant};

use super::*;
use serde_json::json;

/// The smallest config.json, with `value` put at `pointer` (its parent has to be there).
fn with(pointer: &str, value: Value) -> String {
    let mut document = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "linux": {},
    });
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = document
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap();
    parent.insert(name.to_owned(), value);
    document.to_string()
}

fn notices(text: String) -> Vec<String> {
    let notices = Spec::parse(text).unwrap().notices;
    notices.iter().map(ToString::to_string).collect()
}

fn refusal(text: String) -> String {
    Spec::parse(text).unwrap_err().to_string()
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_pointer() {
    let uid = |value: Value| refusal(with("/process/user", json!({"uid": value, "gid": 0})));
    let at = "/process/user/uid: invalid";
    assert_eq!(
        uid(json!(4294967296u64)),
        format!("{at} value: integer `4294967296`, expected a whole number from 0 to 4294967295")
    );
    assert_eq!(
        uid(json!(-1)),
        format!("{at} value: integer `-1`, expected a whole number from 0 to 4294967295")
    );
    assert_eq!(
        uid(json!("1:x")),
        format!("{at} type: string \"1:x\", expected a whole number from 0 to 4294967295")
    );
    let keys = json!({"net.a/b": 1});
    let refused = refusal(with("/linux/sysctl", keys));
    assert!(
        refused.starts_with("/linux/sysctl/net.a~1b: invalid type: integer `1`"),
        "{refused}"
    );
    let long = uid(json!("x".repeat(100_000)));
    assert!(long.len() < 300, "{} bytes", long.len());
}

#[test]
fn an_array_does_not_pass_for_an_object() {
    let refused = refusal(with("/root", json!(["rootfs", false])));
    assert_eq!(refused, "/root: invalid type: array, expected an object");
    let refused = refusal(with(
        "/hooks",
        json!({"prestart": {"path": "/x", "args": []}}),
    ));
    assert_eq!(
        refused,
        "/hooks/prestart: invalid type: object, expected an array"
    );
    let refused = refusal("[]".to_owned());
    assert_eq!(refused, "invalid type: array, expected an object");
    let namespaces = json!([{"type": {"pid": null}}]);
    let refused = refusal(with("/linux/namespaces", namespaces));
    assert_eq!(
        refused,
        "/linux/namespaces/0/type: invalid type: object, expected a string"
    );
}

#[test]
fn nothing_that_is_missing_is_taken_for_zero() {
    let refused = refusal(with(
        "/linux/uidMappings",
        json!([{"containerID": 0, "size": 1}]),
    ));
    assert_eq!(
        refused,
        "/linux/uidMappings/0/hostID: hostID must be specified"
    );
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 1}]);
    let refused = refusal(with("/process/rlimits", limits));
    assert_eq!(refused, "/process/rlimits/0/hard: hard must be specified");
    let spec = Spec::parse(with("/linux/resources", json!({"pids": {}}))).unwrap();
    let linux = spec.config.linux().as_ref().unwrap();
    assert_eq!(*linux.resources().as_ref().unwrap().pids(), None);
}

#[test]
fn unknown_words_are_refused_as_runc_refuses_them() {
    let refused = refusal(with("/linux/namespaces", json!([{"type": "foo"}])));
    assert_eq!(
        refused,
        "/linux/namespaces/0/type: it is one of mount, cgroup, uts, ipc, user, pid, network, time: \
         namespace \"foo\" does not exist"
    );
    let limits = json!([{"type": "RLIMIT_FOO", "soft": 1, "hard": 1}]);
    let refused = refusal(with("/process/rlimits", limits));
    assert!(refused.starts_with("/process/rlimits/0/type: it is one of RLIMIT_"));
    assert!(refused.ends_with(": wrong rlimit value: RLIMIT_FOO"));
    let devices = json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 1}]);
    let refused = refusal(with("/linux/devices", devices));
    assert_eq!(
        refused,
        "/linux/devices/0/type: it is one of b, c, u, p: invalid device type \"a\""
    );
    for (pointer, word, meant) in [
        (
            "/linux/personality",
            json!({"domain": "linux32"}),
            "LINUX32",
        ),
        (
            "/process/scheduler",
            json!({"policy": "FIFO"}),
            "SCHED_FIFO",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALOW"}),
            "SCMP_ACT_ALLOW",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "errno"}),
            "SCMP_ACT_ERRNO",
        ),
        ("/linux/namespaces", json!([{"type": "net"}]), "network"),
    ] {
        let refused = refusal(with(pointer, word));
        assert!(
            refused.contains(&format!("{meant} may be meant: ")),
            "{refused}"
        );
    }
}

#[test]
fn unknown_capabilities_are_dropped_with_a_notice() {
    let sets = json!({"bounding": ["CAP_KILL", "CAP_NEWER_THAN_KERNEL", "cap_chown", "CAP_CHOWN"]});
    let spec = Spec::parse(with("/process/capabilities", sets)).unwrap();
    let process = spec.config.process().as_ref().unwrap();
    let kept = process
        .capabilities()
        .as_ref()
        .unwrap()
        .bounding()
        .clone()
        .unwrap();
    assert_eq!(kept.len(), 2);
    let pointers: Vec<&str> = spec.notices.iter().map(|n| n.pointer.as_str()).collect();
    let at = "/process/capabilities/bounding";
    assert_eq!(pointers, [format!("{at}/1"), format!("{at}/2")]);
}

#[test]
fn a_newer_minor_version_is_a_notice() {
    let text = with("/ociVersion", json!("1.9.0"));
    assert_eq!(
        notices(text),
        ["/ociVersion: version 1.9.0 is newer than 1.3.0: settings that it added are ignored"]
    );
}

#[test]
fn nulls_and_empty_strings_are_as_good_as_absent() {
    let text = json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs", "readonly": null},
        "hostname": "",
        "process": {"cwd": "/", "args": ["sh"], "env": null, "user": {"uid": 0, "gid": 0, "umask": null}},
        "mounts": null,
        "linux": {"namespaces": [{"type": "pid", "path": ""}], "cgroupsPath": "", "seccomp": null},
        "hooks": null,
    });
    let spec = Spec::parse(text.to_string()).unwrap();
    assert_eq!(spec.notices, []);
    assert_eq!(*spec.config.hostname(), None);
    let linux = spec.config.linux().as_ref().unwrap();
    assert_eq!(*linux.namespaces().as_ref().unwrap()[0].path(), None);
    assert_eq!(*linux.cgroups_path(), None);
    let refused = refusal(with("/annotations", json!({"a": null})));
    assert_eq!(
        refused,
        "/annotations/a: invalid type: null, expected a string"
    );
}

#[test]
fn a_seccomp_object_of_nothing_asks_for_no_filter() {
    for nothing in [json!({}), json!({"defaultAction": "", "syscalls": null})] {
        let spec = Spec::parse(with("/linux/seccomp", nothing)).unwrap();
        assert_eq!(*spec.config.linux().as_ref().unwrap().seccomp(), None);
    }
}

#[test]
fn what_is_unsupported_is_refused_whatever_is_in_it() {
    let text = with("/process/commandLine", json!({"of": "tomorrow"}));
    let spec = Spec::parse(text).unwrap();
    let errors = unsupported::config(&spec.raw);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].code(), Code::Unsupported);
    let line = "/process/commandLine: Windows command lines are not supported by this version";
    assert_eq!(errors[0].to_string(), line);
}

#[test]
fn a_zero_value_of_something_unsupported_asks_for_nothing() {
    for (value, refused) in [(json!(""), 0), (json!(null), 0), (json!("x"), 1)] {
        let spec = Spec::parse(with("/process/commandLine", value)).unwrap();
        assert_eq!(unsupported::config(&spec.raw).len(), refused);
    }
}

#[test]
fn an_error_about_the_whole_document_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, "null").unwrap();
    let error = Spec::read(&path).unwrap_err().during("create web");
    let tail = "invalid type: null, expected an object";
    assert_eq!(
        error.to_string(),
        format!("create web: {}: {tail}", path.display())
    );
}

#[test]
fn deep_nesting_is_an_error_at_once() {
    let started = Instant::now();
    let refused = refusal("[".repeat(100_000));
    assert!(
        refused.starts_with("invalid JSON: recursion limit exceeded"),
        "{refused}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_process_has_pointers_of_its_own() {
    let refused = |text: Value| process::parse(&text.to_string()).unwrap_err().to_string();
    let limits = json!({"cwd": "/", "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]});
    let refusal = refused(limits);
    assert!(refusal.starts_with("/rlimits/0/type: "), "{refusal}");
    assert!(
        refusal.ends_with(": wrong rlimit value: RLIMIT_X"),
        "{refusal}"
    );
    let uid = json!({"cwd": "/", "user": {"uid": -1}});
    assert_eq!(
        refused(uid),
        "/user/uid: invalid value: integer `-1`, expected a whole number from 0 to 4294967295"
    );
    let line = json!({"cwd": "/", "commandLine": "x"});
    let tail = "Windows command lines are not supported by this version";
    assert_eq!(refused(line), format!("/commandLine: {tail}"));
    assert_eq!(
        refused(json!([])),
        "invalid type: array, expected an object"
    );
    assert_eq!(
        refused(json!(null)),
        "invalid type: null, expected an object"
    );

    let process =
        json!({"args": ["sh"], "user": {"uid": 1, "gid": 1}, "capabilities": {"bounding": ["X"]}});
    let (process, notices) = process::parse(&process.to_string()).unwrap();
    assert_eq!(process.user().uid(), 1);
    assert_eq!(process.cwd().as_os_str(), "");
    assert_eq!(notices[0].pointer, "/capabilities/bounding/0");
}

#[test]
fn a_string_in_the_place_of_a_number_is_told_the_number() {
    let resources = |value: Value| refusal(with("/linux/resources", value));
    assert_eq!(
        resources(json!({"memory": {"limit": "64M"}})),
        "/linux/resources/memory/limit: it is a number of bytes, without quotes: 64M is 67108864: \
         invalid type: string \"64M\", expected a whole number"
    );
    assert_eq!(
        resources(json!({"pids": {"limit": "32"}})),
        "/linux/resources/pids/limit: without quotes: 32: \
         invalid type: string \"32\", expected a whole number"
    );
    assert_eq!(
        resources(json!({"pids": {"limit": "1k"}})),
        "/linux/resources/pids/limit: invalid type: string \"1k\", expected a whole number"
    );
    let error = Resources::new(json!({"memory": {"swap": "1.5g"}})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/memory/swap: it is a number of bytes, without quotes: 1.5g is 1610612736: \
         invalid type: string \"1.5g\", expected a whole number"
    );
}

#[test]
fn words_that_the_types_spell_in_another_way_are_read() {
    let flags = json!([
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_RECLAIM"
    ]);
    let asked = json!({"policy": "SCHED_OTHER", "flags": flags});
    let spec = Spec::parse(with("/process/scheduler", asked)).unwrap();
    let process = spec.config.process().as_ref().unwrap();
    let flags = process.scheduler().as_ref().unwrap().flags().as_ref();
    use oci_spec::runtime::LinuxSchedulerFlag as Flag;
    let expected = [
        Flag::SchedResetOnFork,
        Flag::SchedFlagDLOverrun,
        Flag::SchedFlagReclaim,
    ];
    assert_eq!(flags.unwrap(), &expected);
}

#[test]
fn an_affinity_that_is_empty_is_none() {
    let asked = json!({"initial": "", "final": ""});
    let spec = Spec::parse(with("/process/execCPUAffinity", asked)).unwrap();
    let process = spec.config.process().as_ref().unwrap();
    assert_eq!(
        *process.exec_cpu_affinity().as_ref().unwrap().initial(),
        None
    );
}
