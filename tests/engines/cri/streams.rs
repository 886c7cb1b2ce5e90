//! What goes in and out of a container: probes, exec and attach over the streaming server, logs.

use super::{Cri, interactive};
use crate::grpc::Message;

pub(super) fn a_probe_has_its_status_and_output(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    assert_eq!(
        inside.probe(&["sh", "-c", "echo out; exit 3"]),
        (3, "out\n".to_owned())
    );
    for _ in 0..5 {
        assert_eq!(inside.probe(&["true"]).0, 0);
    }
}

pub(super) fn a_probe_that_takes_too_long_is_ended(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let request = Message::default()
        .text(1, &inside.id)
        .texts(2, &["sleep", "613"])
        .number(3, 1);
    let text = cri.calls("ExecSync", &request).err().expect("an error");
    assert!(
        text.contains("timeout") || text.contains("exceeded"),
        "{text}"
    );
    let (_, list) = inside.probe(&["ps"]);
    assert!(!list.contains("sleep 613"), "{list}");
}

pub(super) fn exec_streams_its_output_and_its_status(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let script = "read line; echo \"<$line>\"; echo err >&2; exit 3";
    let mut channels = inside.exec(&["sh", "-c", script], false);
    channels.types("typed\n");
    let shown = channels.ends();
    assert_eq!(
        (shown.stdout.as_str(), shown.stderr.as_str()),
        ("<typed>\n", "err\n")
    );
    assert_eq!(shown.status(), 3);
    assert_eq!(inside.exec(&["true"], false).ends().status(), 0);
    let shown = inside.exec(&["nosuch"], false).ends();
    assert!(
        shown.verdict.contains("executable file not found in $PATH"),
        "{shown:?}"
    );
}

/// Waits for a terminal of 31 lines with 97 columns, and says its size and name.
const LOOKS: &str = "n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; stty size; tty";

pub(super) fn exec_streams_a_terminal_with_its_keys_and_its_size(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.sleeps();
    let script = format!("read line; echo \"<$line>\"; {LOOKS}; exit 4");
    let mut channels = inside.exec(&["sh", "-c", &script], true);
    channels.types("typed\n");
    channels.shows("<typed>");
    channels.resizes(97, 31);
    channels.shows("31 97\r\n");
    channels.shows("/dev/pts/");
    assert_eq!(channels.ends().status(), 4);
    // The interrupt key is the terminal's.
    let mut channels = inside.exec(&["sh", "-c", "echo ready; exec sleep 600"], true);
    channels.shows("ready");
    channels.types("\x03");
    assert_eq!(channels.ends().status(), 130);
}

pub(super) fn attach_streams_to_and_from_what_runs(cri: &Cri) {
    let pod = cri.pod();
    let script = "echo ready; while read line; do echo \"<$line>\"; done; exit 6";
    let made = pod.try_starts(
        &["sh", "-c", script],
        &Message::default(),
        Message::default(),
        &|config| config.number(12, 1),
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    inside.says("ready");
    // Who goes away takes nothing along, and the next one finds it as it was.
    for word in ["one", "two"] {
        let mut channels = inside.attach(false);
        channels.types(&format!("{word}\n"));
        channels.shows(&format!("<{word}>\n"));
    }
    inside.says("F <two>");
    let channels = inside.attach(false);
    inside.stops(0);
    channels.ends();
    assert_eq!(inside.ends().0, 137);
}

pub(super) fn attach_streams_a_terminal(cri: &Cri) {
    let pod = cri.pod();
    let script = format!("read line; echo \"<$line>\"; {LOOKS}; exit 6");
    let made = pod.try_starts(
        &["sh", "-c", &script],
        &Message::default(),
        Message::default(),
        &interactive,
    );
    let inside = made.unwrap_or_else(|text| panic!("{text}"));
    let mut channels = inside.attach(true);
    channels.types("typed\n");
    channels.shows("<typed>");
    channels.resizes(97, 31);
    channels.shows("31 97\r\n");
    channels.shows("/dev/pts/0");
    channels.ends();
    assert_eq!(inside.ends().0, 6);
}

pub(super) fn a_log_is_rotated_while_it_is_written(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts("while :; do echo tick; sleep 0.1; done");
    inside.says("F tick");
    let old = format!("{}.1", inside.log);
    std::fs::rename(&inside.log, &old).expect("a rotated log");
    cri.asks(
        "ReopenContainerLog",
        &Message::default().text(1, &inside.id),
    );
    inside.says("F tick");
}

pub(super) fn logs_are_written_to_the_pods_folder(cri: &Cri) {
    let pod = cri.pod();
    let inside = pod.starts("echo to out; echo to err >&2; exit 0");
    inside.ends();
    inside.says("stdout F to out");
    inside.says("stderr F to err");
}
