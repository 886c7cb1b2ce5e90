//! From start to end, in Docker's words, which are Podman's too: statuses, terminals, exec, signals, restarts.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use crate::boxes::{Boxes, IMAGE, Running};
use crate::harness::terminal::Screen;
use crate::harness::{end, until};

pub fn a_container_prints_and_ends_with_its_status(boxes: &Boxes) {
    let outcome = boxes.runs(&[], "echo out; echo err >&2; exit 7").exits(7);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    boxes.runs(&[], "sh -c 'kill -SEGV $$'; exit $?").exits(139);
}

pub fn a_missing_program_ends_with_127(boxes: &Boxes) {
    for (words, text) in [
        (
            &["nosuch"][..],
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (&["/no/such"], "no such file or directory"),
    ] {
        let outcome = boxes.call(&[&["run", "--rm", IMAGE], words].concat());
        assert!(
            outcome.code == 127 && outcome.stderr.contains(text),
            "{outcome}"
        );
    }
}

pub fn a_program_that_may_not_be_executed_ends_with_126(boxes: &Boxes) {
    for program in ["/etc/passwd", "/etc"] {
        let outcome = boxes.call(&["run", "--rm", IMAGE, program]);
        assert!(outcome.code == 126, "{outcome}");
    }
}

pub fn a_terminal_has_its_size_its_keys_and_its_status(boxes: &Boxes) {
    let script = "trap 'echo interrupted; exit 9' INT; n=0; until [ \"$(stty size)\" = '31 97' ] || [ $n = 99 ]; do n=$((n+1)); sleep 0.05; done; \
        stty size; tty; read line; echo \"<$line>\"; while :; do sleep 600 & wait $!; done";
    let command = boxes.command(&[
        "run",
        "--rm",
        "--interactive",
        "--tty",
        IMAGE,
        "sh",
        "-c",
        script,
    ]);
    let (mut screen, child, _) = Screen::start(&command, 31, 97);
    screen.shows("31 97");
    screen.shows("/dev/pts/0");
    screen.types("word\n");
    screen.shows("<word>");
    screen.types("\x03");
    screen.shows("interrupted");
    screen.rest();
    assert_eq!(end(child), Some(9));
}

pub fn a_terminal_is_left_and_taken_up_again(boxes: &Boxes) {
    let script =
        "echo ready; while read line; do echo \"<$line>\"; [ $line != end ] || exit 7; done";
    let name = boxes.name();
    let words = ["--interactive", "--tty", "--detach-keys=ctrl-q"];
    let run = ["--name", &name, IMAGE, "sh", "-c", script];
    let command = boxes.command(&[&["run"], &words[..], &run].concat());
    let made = Running { boxes, name };
    let (mut screen, child, _) = Screen::start(&command, 31, 97);
    screen.shows("ready");
    screen.types("one\n");
    screen.shows("<one>");
    // Alone, as Podman looks at one key a read.
    screen.types("\x11");
    screen.rest();
    assert_eq!(end(child), Some(0));
    assert_eq!(made.inspect("{{.State.Status}}"), "running");
    let command = boxes.command(&["attach", &made.name]);
    let (mut screen, child, _) = Screen::start(&command, 22, 77);
    screen.types("two\n");
    screen.shows("<two>");
    screen.types("end\n");
    screen.rest();
    let status = end(child);
    // Podman's attach has no status when the end overtakes it.
    assert!(boxes.is_podman() || status == Some(7), "{status:?}");
    assert_eq!(made.waits(), "7");
}

pub fn stdin_reaches_the_program(boxes: &Boxes) {
    let script = "read x; echo \"<$x>\"; cat; echo end";
    let mut command = boxes.command(&["run", "--rm", "--interactive", IMAGE, "sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(b"sent\nmore\n").expect("sending");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "<sent>\nmore\nend\n"
    );
}

pub fn logs_and_attach_show_what_was_printed(boxes: &Boxes) {
    let running = boxes.running(
        &[],
        "echo one; echo two >&2
        while [ ! -e /go ]; do [ ! -e /tick ] || echo tick; sleep 0.05; done; echo three; exit 6",
    );
    running.says("one");
    let mut attached = boxes
        .command(&["attach", &running.name])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a client");
    let touch = |file| {
        let made = || running.exec(&[], &["touch", file]).code == 0;
        until("told", made);
    };
    touch("/tick");
    // Who comes after the end finds nothing to attach to.
    let mut heard = String::new();
    let mut printed = BufReader::new(attached.stdout.take().expect("stdout"));
    printed.read_line(&mut heard).expect("a line");
    touch("/go");
    printed.read_to_string(&mut heard).expect("the rest");
    let status = attached.wait().expect("attach");
    assert!(heard.starts_with("tick\n"), "{heard}");
    // Podman's attach has no status when the end overtakes it.
    assert!(boxes.is_podman() || status.code() == Some(6), "{status}");
    let logs = running.call("logs", &[]).ok();
    assert_eq!(
        (
            logs.stdout.replace("tick\n", "").as_str(),
            logs.stderr.as_str()
        ),
        ("one\nthree\n", "two\n")
    );
}

pub fn exec_has_its_own_status_user_folder_and_environment(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    let options = ["--user", "user", "--workdir", "/home", "--env", "A=b c"];
    running
        .exec(
            &options,
            &["sh", "-c", "id -un; pwd; echo \"$A $HOME\"; exit 3"],
        )
        .exits(3)
        .prints("user\n/home\nb c /home/user\n");
    running
        .exec(&["--detach"], &["sh", "-c", "echo x >/tmp/detached"])
        .ok();
    until("the detached one ran", || {
        running.exec(&[], &["cat", "/tmp/detached"]).code == 0
    });
}

pub fn exec_of_what_can_not_be_executed_says_so(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    // The client's code is its own version's affair; the words are the runtime's.
    for (options, words, text) in [
        (&[][..], "nosuch", "executable file not found in $PATH"),
        (&[], "/etc/passwd", "permission denied"),
        (
            &["--workdir", "/no/such"],
            "true",
            "no such file or directory",
        ),
    ] {
        let outcome = running.exec(options, &[words]);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            matches!(outcome.code, 126 | 127) && said.contains(text),
            "{text}: {outcome}"
        );
    }
    let user = running.exec(&["--user", "nobody-here"], &["true"]);
    assert!(user.code != 0, "{user}");
}

pub fn exec_may_have_every_privilege(boxes: &Boxes) {
    let running = boxes.sleeps(&["--user", "user"]);
    let words = ["grep", "-E", "^(Uid|CapEff)", "/proc/self/status"];
    let of = |options: &[&str]| running.exec(options, &words).ok().stdout;
    let every = of(&["--privileged", "--user", "0"]);
    let usual = of(&["--user", "0"]);
    let mask = |text: &str| u64::from_str_radix(text.trim().rsplit('\t').next()?, 16).ok();
    let (every, usual) = (mask(&every).expect("a mask"), mask(&usual).expect("a mask"));
    assert!(
        every & usual == usual && every.count_ones() > 2 * usual.count_ones(),
        "{every:x} {usual:x}"
    );
}

pub fn a_program_of_no_known_format_is_told(boxes: &Boxes) {
    let script = "printf 'nothing' >/program; chmod 755 /program";
    let running = boxes.running(&[], &format!("{script}; echo ready; exec sleep 600"));
    running.says("ready");
    let outcome = running.exec(&[], &["/program"]);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(
        outcome.code != 0 && said.contains("exec format error"),
        "{outcome}"
    );
}

pub fn exec_with_a_terminal(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    let command = boxes.command(&[
        "exec",
        "--interactive",
        "--tty",
        &running.name,
        "sh",
        "-c",
        "tty; read a; echo \"<$a>\"; exit 4",
    ]);
    let (mut screen, child, _) = Screen::start(&command, 22, 77);
    screen.shows("/dev/pts/");
    screen.types("word\n");
    screen.shows("<word>");
    screen.rest();
    assert_eq!(end(child), Some(4));
}

pub fn kill_and_stop_send_their_signals(boxes: &Boxes) {
    let running = boxes.sleeps(&[]);
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
    let refused = running.call("kill", &[]);
    assert!(
        refused.code != 0
            && ["is not running", "state improper"]
                .iter()
                .any(|text| refused.stderr.contains(text)),
        "{refused}"
    );
    let running = boxes.sleeps(&[]);
    running.call("kill", &["--signal", "TERM"]).ok();
    assert_eq!(running.waits(), "5");
    let deaf = boxes.running(&[], "trap '' TERM; echo ready; while :; do sleep 600; done");
    deaf.says("ready");
    deaf.call("stop", &["--time", "1"]).ok();
    assert_eq!(deaf.inspect("{{.State.ExitCode}}"), "137");
    let user = boxes.running(
        &["--stop-signal", "USR1"],
        "trap 'exit 8' USR1; echo ready; while :; do sleep 600 & wait $!; done",
    );
    user.says("ready");
    user.call("stop", &["--time", "20"]).ok();
    assert_eq!(user.inspect("{{.State.ExitCode}}"), "8");
}

pub fn restart_begins_anew(boxes: &Boxes) {
    let running = boxes.running(
        &[],
        "echo >>/count; trap 'exit 5' TERM; echo ready; while :; do sleep 600 & wait $!; done",
    );
    running.says("ready");
    running.call("restart", &[]).ok();
    until("it counts two", || {
        running.exec(&[], &["wc", "-l", "/count"]).line() == "2 /count"
    });
    running.call("stop", &["--time", "20"]).ok();
    running.call("start", &[]).ok();
    until("it counts three", || {
        running.exec(&[], &["wc", "-l", "/count"]).line() == "3 /count"
    });
}

pub fn a_failing_container_is_restarted_as_often_as_allowed(boxes: &Boxes) {
    let running = boxes.running(&["--restart", "on-failure:2"], "echo run; exit 1");
    running.becomes("{{.RestartCount}} {{.State.Status}}", "2 exited");
    assert_eq!(running.call("logs", &[]).ok().stdout, "run\nrun\nrun\n");
}

pub fn init_reaps_and_forwards(boxes: &Boxes) {
    boxes
        .runs(&["--init"], "cat /proc/1/comm; (sleep 0 &); exit 3")
        .exits(3)
        .prints("init");
    let running = boxes.sleeps(&["--init"]);
    running.call("stop", &["--time", "20"]).ok();
    assert_eq!(running.inspect("{{.State.ExitCode}}"), "5");
}

pub fn a_container_is_created_renamed_and_started_later(boxes: &Boxes) {
    let name = boxes.name();
    boxes
        .call(&[
            "create",
            "--name",
            "early",
            IMAGE,
            "sh",
            "-c",
            "echo late; exit 2",
        ])
        .ok();
    boxes.call(&["rename", "early", &name]).ok();
    let made = Running { boxes, name };
    made.call("start", &["--attach"]).exits(2).prints("late");
    made.call("rm", &[]).ok();
}

pub fn ten_containers_at_once(boxes: &Boxes) {
    let children: Vec<Child> = (0..10)
        .map(|n| {
            let script = format!("echo {n}; exit {n}");
            boxes
                .command(&["run", "--rm", IMAGE, "sh", "-c", &script])
                .stdout(Stdio::null())
                .spawn()
                .expect("a client")
        })
        .collect();
    let statuses: Vec<Option<i32>> = children.into_iter().map(end).collect();
    assert_eq!(statuses, (0..10).map(Some).collect::<Vec<_>>());
    assert_eq!(boxes.call(&["ps", "--all", "--quiet"]).ok().line(), "");
}
