//! Promise: records go where --log says: to a file, or to the machine's own log.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::harness::{Outcome, machine};
use crate::{skip, stage};

/// Where the machine's log listens; the tests' /run is their own.
const FOLDER: &str = "/run/systemd/journal";

#[test]
fn the_journal_and_syslog_are_told_in_the_name_that_is_given() {
    if machine::systemd() || machine::enclosure().is_none() || Path::new("/dev/log").exists() {
        skip!("somebody's log is there already");
    }
    let stage = stage!();
    let made = !Path::new("/run/systemd").exists();
    std::fs::create_dir_all(FOLDER).unwrap();
    let listen = |name: &str| {
        let socket = UnixDatagram::bind(Path::new(FOLDER).join(name)).unwrap();
        let timeout = crate::harness::outcome::LIMIT;
        socket.set_read_timeout(Some(timeout)).unwrap();
        socket
    };
    let (journal, syslog) = (listen("socket"), listen("dev-log"));
    let fails = |log: &str| {
        let mut command = stage.bare();
        command.args(["--log", log, "state", "absent"]);
        let outcome = Outcome::of(&mut command).exits(1);
        assert!(
            outcome.stderr.ends_with("container does not exist\n"),
            "{outcome}"
        );
    };
    let heard = |socket: &UnixDatagram| {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    fails("journald:web");
    let text = heard(&journal);
    for line in [
        "PRIORITY=3",
        "SYSLOG_IDENTIFIER=web",
        "CAPSID_CODE=container.not_found",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(text.starts_with("MESSAGE=container absent: "), "{text}");
    fails("syslog:");
    let text = heard(&syslog);
    assert!(text.starts_with("<11>capsid["), "{text}");
    assert!(
        text.contains("]: container absent: ") && text.ends_with("container does not exist"),
        "{text}"
    );
    drop((journal, syslog));
    std::fs::remove_dir_all(if made { "/run/systemd" } else { FOLDER }).unwrap();
    let mut command = stage.bare();
    command.args(["--log", "journald:web", "state", "absent"]);
    Outcome::of(&mut command).refuses(&["open the log journald:web", "/socket", "name a file"]);
}

#[test]
fn a_file_may_be_called_one() {
    let stage = stage!();
    let path = stage.path("log");
    let mut command = stage.bare();
    let log = format!("file:{}", path.display());
    command.args(["--log", &log, "--log-format", "json", "state", "absent"]);
    Outcome::of(&mut command).exits(1);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"level\":\"error\""), "{text}");
}

#[test]
fn records_belong_to_the_trace_of_the_caller() {
    let stage = stage!();
    let (id, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let said = |traceparent: &str, format: &str| {
        let mut command = stage.bare();
        command.env("TRACEPARENT", traceparent);
        command.args(["--log-format", format, "state", "absent"]);
        Outcome::of(&mut command).exits(1).stderr
    };
    let parent = format!("00-{id}-{span}-01");
    let record: serde_json::Value = serde_json::from_str(&said(&parent, "json")).unwrap();
    assert_eq!(record["trace_id"], id);
    assert_eq!(record["span_id"], span);
    assert_eq!(record["trace_flags"], "01");
    let text = said(&parent, "text");
    let keys = format!(" trace_id={id} span_id={span} trace_flags=01\n");
    assert!(text.ends_with(&keys), "{text}");
    assert!(!said("nonsense", "json").contains("trace_id"));
}
