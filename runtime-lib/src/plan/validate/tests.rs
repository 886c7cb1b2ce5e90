//! The promises about the whole list of errors; fixtures/bad has a case for each rule.

use super::*;
use serde_json::json;

fn spec(text: serde_json::Value) -> Spec {
    Spec::parse(text.to_string()).unwrap()
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let errors = validate(&spec(json!({
    "hostname": "web",
    "process": {
        "cwd": "tmp", "user": {"uid": 4294967295u32, "gid": 0}, "commandLine": "cmd.exe",
    },
        })));
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "/ociVersion: ociVersion must be specified",
            "/root: root must be specified",
            "/hostname: unable to set hostname without a private UTS namespace",
            "/process/cwd: Cwd must be an absolute path",
            "/process/args: args must not be empty",
            "/process/user/uid: 4294967295 is not an id, the last one is 4294967294",
            "/process/commandLine: Windows command lines are not supported by this version",
        ]
    );
}

#[test]
fn the_first_error_says_that_there_are_more() {
    assert_eq!(first(vec![]), None);
    let one = || refuse("/root", "root must be specified");
    let line = first(vec![one()]).unwrap().to_string();
    assert_eq!(line, "/root: root must be specified");
    let line = first(vec![one(), one(), one()]).unwrap().to_string();
    assert_eq!(
        line,
        "/root: one of 3 problems, capsid explain lists them: root must be specified"
    );
}

#[test]
fn a_configuration_without_a_process_is_fine() {
    let errors = validate(&spec(json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs"},
    })));
    assert_eq!(errors, []);
}

#[test]
fn a_process_of_its_own_has_pointers_of_its_own() {
    let (asked, _) = crate::spec::process::parse("{}").unwrap();
    let pointers: Vec<_> = process(&asked, "").into_iter().collect();
    let pointers: Vec<_> = pointers.iter().map(|error| error.pointer()).collect();
    assert_eq!(pointers, [Some("/cwd"), Some("/args")]);
}
