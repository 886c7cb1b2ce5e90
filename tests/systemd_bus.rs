//! Promise: a systemd that refuses, talks nonsense or says nothing at all is an error with a deadline, which
//! leaves nothing behind; and what can't be taken back without it is taken back by a later delete.
//! A bus of the test's own plays it, so that this needs no systemd.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Bundle, Outcome, Stage, machine};
use crate::{skip, stage};

/// What the bus does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Everything, as far as a caller can tell: no process is moved.
    Answers,
    /// Nobody accepts the connection.
    IsDeaf,
    /// No call is answered.
    IsMute,
    /// Jobs never end.
    Dawdles,
    /// It stops in the middle of the answer about the unit.
    Stutters,
    /// It ends there.
    HangsUp,
    /// Another one's unit has the name, in another slice.
    HasTheUnit,
    Babbles,
}

/// A bus that one stage's runtime is sent to.
struct Bus {
    path: PathBuf,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<Vec<String>>>,
}

impl Bus {
    fn new(path: &Path, manner: Manner) -> Bus {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).expect("a socket");
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let server = std::thread::spawn(move || {
            let mut calls = Vec::new();
            let mut kept = Vec::new();
            let streams = listener.incoming().map_while(Result::ok);
            let all = if manner == Manner::IsDeaf {
                0
            } else {
                usize::MAX
            };
            for stream in streams.take(all) {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                kept.extend(serve(stream, manner, &mut calls));
            }
            while !ended.load(Ordering::SeqCst) {
                std::thread::park();
            }
            drop(kept);
            calls
        });
        Bus {
            path: path.to_owned(),
            over,
            server: Some(server),
        }
    }

    /// The methods that were called.
    fn calls(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        let Some(server) = self.server.take() else {
            return Vec::new();
        };
        server.thread().unpark();
        let _ = UnixStream::connect(&self.path);
        server.join().expect("the bus")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.end();
    }
}

/// Serves one connection to its end, or keeps it open where nothing is answered.
fn serve(mut stream: UnixStream, manner: Manner, calls: &mut Vec<String>) -> Option<UnixStream> {
    let mut greeting = [0; GREETING.len()];
    stream.read_exact(&mut greeting).ok()?;
    assert_eq!(&greeting, GREETING);
    if manner == Manner::Babbles {
        stream
            .write_all(b"OK\r\nnonsense, not D-Bus at all, and more of it\r\n")
            .ok()?;
        return None;
    }
    stream
        .write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n")
        .ok()?;
    while let Some(call) = read(&mut stream) {
        calls.push(call.member.clone());
        let begins = ["StartTransientUnit", "StopUnit"].contains(&call.member.as_str());
        let fails = match manner {
            Manner::IsMute => return Some(stream),
            Manner::HasTheUnit if call.member == "StartTransientUnit" => true,
            _ => false,
        };
        let reply = match call.member.as_str() {
            _ if fails => error(
                call.serial,
                "org.freedesktop.systemd1.UnitExists",
                "it was already loaded",
            ),
            "Get" if call.text.contains("Version") => {
                reply(call.serial, Some(("v", variant("252.1"))))
            }
            "Get" if call.text.contains("Slice") => {
                let slice = match manner {
                    Manner::HasTheUnit => "other.slice",
                    _ => "-.slice",
                };
                reply(call.serial, Some(("v", variant(slice))))
            }
            "Get" => reply(
                call.serial,
                Some(("v", variant(machine::enclosure().unwrap_or_default()))),
            ),
            "GetUnit" => reply(call.serial, Some(("o", text("/unit/1")))),
            _ if begins => reply(call.serial, Some(("o", text("/job/1")))),
            _ => reply(call.serial, None),
        };
        let half = reply.len() / 2;
        match manner {
            Manner::Stutters if begins => {
                stream.write_all(&reply[..half]).ok()?;
                return Some(stream);
            }
            Manner::HangsUp if begins => {
                stream.write_all(&reply[..half]).ok()?;
                return None;
            }
            _ => stream.write_all(&reply).ok()?,
        }
        if begins && !fails && manner != Manner::Dawdles {
            stream.write_all(&job_removed()).ok()?;
        }
    }
    None
}

const GREETING: &[u8; 29] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

struct Call {
    serial: u32,
    member: String,
    /// Its arguments as they came.
    text: String,
}

fn read(stream: &mut UnixStream) -> Option<Call> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).ok()?;
    let number =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let (body, serial, fields) = (number(4) as usize, number(8), number(12) as usize);
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest).ok()?;
    let (fields, body) = rest.split_at(fields.next_multiple_of(8));
    // Field 3, a string: the member.
    let at = fields
        .windows(4)
        .position(|w| w == [3, 1, b's', 0])
        .expect("a member")
        + 4;
    let length = fields[at] as usize;
    Some(Call {
        serial,
        member: String::from_utf8_lossy(&fields[at + 4..at + 4 + length]).into_owned(),
        text: String::from_utf8_lossy(body).into_owned(),
    })
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn variant(value: &str) -> Vec<u8> {
    [b"\x01s\0\0".to_vec(), text(value)].concat()
}

fn message(kind: u8, fields: &[(u8, &str, Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for (code, signature, value) in fields {
        list.resize(list.len().next_multiple_of(8), 0);
        list.extend([*code, 1, signature.as_bytes()[0], 0]);
        list.extend(value);
    }
    let mut bytes = vec![b'l', kind, 0, 1];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(7_u32.to_le_bytes());
    bytes.extend((list.len() as u32).to_le_bytes());
    bytes.extend(list);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(body);
    bytes
}

fn signature(of: &str) -> (u8, &'static str, Vec<u8>) {
    let mut bytes = vec![of.len() as u8];
    bytes.extend(of.as_bytes());
    bytes.push(0);
    (8, "g", bytes)
}

fn sender() -> (u8, &'static str, Vec<u8>) {
    (7, "s", text(":1.0"))
}

fn reply(to: u32, value: Option<(&str, Vec<u8>)>) -> Vec<u8> {
    let mut fields = vec![(5, "u", to.to_le_bytes().to_vec()), sender()];
    let body = value.map(|(of, body)| {
        fields.push(signature(of));
        body
    });
    message(2, &fields, &body.unwrap_or_default())
}

fn error(to: u32, name: &str, why: &str) -> Vec<u8> {
    let fields = [
        (5, "u", to.to_le_bytes().to_vec()),
        (4, "s", text(name)),
        signature("s"),
    ];
    message(3, &fields, &text(why))
}

/// The signal, first with another job and then, as somebody else sends it, with this one.
fn job_removed() -> Vec<u8> {
    let signal = |from: &str, job: &str, result: &str| {
        let mut body = 1_u32.to_le_bytes().to_vec();
        for (n, word) in [job, "the.scope", result].into_iter().enumerate() {
            body.resize(body.len().next_multiple_of(4), 0);
            assert!(n < 3);
            body.extend(text(word));
        }
        let fields = [
            (1, "o", text("/org/freedesktop/systemd1")),
            (2, "s", text("org.freedesktop.systemd1.Manager")),
            (3, "s", text("JobRemoved")),
            (7, "s", text(from)),
            signature("uoss"),
        ];
        message(4, &fields, &body)
    };
    let mut both = signal(":1.0", "/job/2", "failed");
    both.extend(signal(":1.66", "/job/1", "failed"));
    both.extend(signal(":1.0", "/job/1", "done"));
    both
}

/// Why there is nothing to test here.
macro_rules! bus_stage {
    () => {{
        if machine::systemd() {
            skip!("systemd itself is here: the machine without one tests this");
        }
        stage!()
    }};
}

/// The runtime, sent to the bus at this path.
fn call(stage: &Stage, bus: &Path, words: &[&str]) -> Outcome {
    let mut command = stage.capsid();
    let address = format!("unix:path={}", bus.display());
    command
        .arg("--systemd-cgroup")
        .env("DBUS_SYSTEM_BUS_ADDRESS", address);
    Outcome::of(command.args(words))
}

fn bundle(stage: &Stage) -> Bundle {
    let mut bundle = stage.bundle();
    bundle
        .sleeps()
        .set("/linux/cgroupsPath", "-.slice:x:ID".into());
    bundle
}

/// What there is of the unit's cgroups.
fn cgroups(id: &str) -> Vec<String> {
    let script = format!("find /sys/fs/cgroup -type d -name 'x-{id}.scope'");
    let found = Outcome::of(std::process::Command::new("/bin/sh").args(["-c", &script]));
    found.stdout.lines().map(str::to_owned).collect()
}

fn create(stage: &Stage, bus: &Path, bundle: &mut Bundle, id: &str) -> Outcome {
    bundle.set("/linux/cgroupsPath", format!("-.slice:x:{id}").into());
    bundle.write(id);
    call(
        stage,
        bus,
        &["create", "--bundle", &bundle.folder.to_string_lossy(), id],
    )
}

#[test]
fn a_unit_is_begun_with_the_process_and_stopped_with_the_container() {
    let stage = bus_stage!();
    if machine::cgroups() == machine::Cgroups::V2 {
        skip!("on cgroup v2 nobody but systemd puts the process into its scope");
    }
    let path = stage.path("bus");
    let bus = Bus::new(&path, Manner::Answers);
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    create(&stage, &path, &mut bundle, &id).ok();
    assert!(!cgroups(&id).is_empty());
    call(&stage, &path, &["delete", &id]).ok();
    assert_eq!(cgroups(&id), [""; 0]);
    let greeting = ["Hello", "AddMatch"];
    let expected = [
        &greeting[..],
        &["Get", "Get"],
        &greeting,
        &["StartTransientUnit"],
        &greeting,
        &["GetUnit", "Get", "StopUnit", "ResetFailedUnit"],
    ];
    assert_eq!(bus.calls(), expected.concat());
}

#[test]
fn a_unit_of_somebody_elses_is_not_stopped() {
    let stage = bus_stage!();
    let path = stage.path("bus");
    let bus = Bus::new(&path, Manner::HasTheUnit);
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    let refused = create(&stage, &path, &mut bundle, &id);
    refused.refuses(&["start unit x-", "it was already loaded"]);
    let calls = bus.calls();
    let tries = calls
        .iter()
        .filter(|call| *call == "StartTransientUnit")
        .count();
    assert_eq!(tries, 2, "{calls:?}");
    assert!(calls.contains(&"ResetFailedUnit".to_owned()), "{calls:?}");
    assert!(!calls.contains(&"StopUnit".to_owned()), "{calls:?}");
}

#[test]
fn a_unit_that_was_never_asked_for_is_not_stopped() {
    let stage = bus_stage!();
    let path = stage.path("bus");
    let bus = Bus::new(&path, Manner::HasTheUnit);
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    // Refused by the kernel, before the process waits for its unit.
    bundle.namespace("time", None).set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": i64::MAX}}),
    );
    create(&stage, &path, &mut bundle, &id).refuses(&["/linux/timeOffsets"]);
    assert_eq!(cgroups(&id), [""; 0]);
    let calls = bus.calls();
    for never in ["StartTransientUnit", "StopUnit"] {
        assert!(!calls.contains(&never.to_owned()), "{calls:?}");
    }
}

#[test]
fn a_delete_stops_no_unit_of_the_same_name_in_another_slice() {
    let stage = bus_stage!();
    if machine::cgroups() == machine::Cgroups::V2 {
        skip!("on cgroup v2 nobody but systemd puts the process into its scope");
    }
    let path = stage.path("bus");
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    let bus = Bus::new(&path, Manner::Answers);
    create(&stage, &path, &mut bundle, &id).ok();
    drop(bus);
    // As after a create that was killed before it asked: the journal names a unit that is another's.
    let bus = Bus::new(&path, Manner::HasTheUnit);
    call(&stage, &path, &["delete", "--force", &id]).ok();
    let calls = bus.calls();
    assert!(!calls.contains(&"StopUnit".to_owned()), "{calls:?}");
    assert_eq!(cgroups(&id), [""; 0]);
}

#[test]
fn nonsense_and_nobody_are_errors_at_once() {
    let stage = bus_stage!();
    let path = stage.path("bus");
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    let _bus = Bus::new(&path, Manner::Babbles);
    create(&stage, &path, &mut bundle, &id).refuses(&["introduce capsid to the bus", "OK"]);
    let nowhere = create(&stage, Path::new("/nowhere/bus"), &mut bundle, &id);
    nowhere.refuses(&["unix:path=/nowhere/bus", "no such file or directory"]);
    assert_eq!(cgroups(&id), [""; 0]);
}

#[test]
fn f20_a_bus_that_never_answers_is_an_error_after_half_a_minute() {
    let stage = bus_stage!();
    let refusal = |manner: Manner, name: &str| {
        let path = stage.path(name);
        let _bus = Bus::new(&path, manner);
        let (id, mut bundle) = (stage.id(), bundle(&stage));
        let outcome = create(&stage, &path, &mut bundle, &id);
        assert!(outcome.took > Duration::from_secs(29), "{outcome}");
        assert!(outcome.took < Duration::from_secs(50), "{outcome}");
        assert_eq!(cgroups(&id), [""; 0], "{manner:?}");
        assert!(!stage.state_root().join(&id).exists(), "{manner:?}");
        let words: &[&str] = match manner {
            Manner::Stutters => &[
                "start unit x-",
                "StartTransientUnit was not answered",
                "no answer from systemd at unix:path=",
            ],
            Manner::Dawdles => &[
                "start unit x-",
                "its job does not end",
                "no answer from systemd at unix:path=",
            ],
            _ => &["no answer from systemd at unix:path=", "within 30 s"],
        };
        outcome.refuses(words);
    };
    // Each of them waits and does nothing else.
    std::thread::scope(|scope| {
        let all = [
            (Manner::IsDeaf, "deaf"),
            (Manner::IsMute, "mute"),
            (Manner::Dawdles, "slow"),
            (Manner::Stutters, "half"),
        ];
        let all = all.map(|(manner, name)| scope.spawn(move || refusal(manner, name)));
        all.into_iter().for_each(|one| one.join().expect(""));
    });
}

#[test]
fn f20_a_bus_that_ends_in_the_middle_of_an_answer_is_an_error_at_once() {
    let stage = bus_stage!();
    let path = stage.path("bus");
    let bus = Bus::new(&path, Manner::HangsUp);
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    create(&stage, &path, &mut bundle, &id).refuses(&[
        "start unit x-",
        "talking to systemd at unix:path=",
        "connection reset by peer",
    ]);
    assert_eq!(cgroups(&id), [""; 0]);
    assert!(!stage.state_root().join(&id).exists());
    // It may have begun the unit, and is asked to take it back.
    assert!(bus.calls().contains(&"StopUnit".to_owned()));
}

#[test]
fn from_another_pid_namespace_systemd_is_told_of_no_process() {
    let stage = bus_stage!();
    let path = stage.path("bus");
    let bus = Bus::new(&path, Manner::Answers);
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    bundle
        .set("/linux/cgroupsPath", format!("-.slice:x:{id}").into())
        .write(&id);
    let runtime = stage.capsid();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .args(["--systemd-cgroup", "create", "--bundle"])
        .arg(&bundle.folder)
        .arg(&id)
        .env(
            "DBUS_SYSTEM_BUS_ADDRESS",
            format!("unix:path={}", path.display()),
        );
    Outcome::of(&mut command).refuses(&[
        "systemd is in another pid namespace",
        "--cgroup-manager cgroupfs",
    ]);
    let calls = bus.calls();
    assert!(
        !calls.contains(&"StartTransientUnit".to_owned()),
        "{calls:?}"
    );
    assert_eq!(cgroups(&id), [""; 0]);
}

#[test]
fn f20_a_delete_that_gets_no_answer_is_finished_by_a_later_one() {
    let stage = bus_stage!();
    if machine::cgroups() == machine::Cgroups::V2 {
        skip!("on cgroup v2 nobody but systemd puts the process into its scope");
    }
    let path = stage.path("bus");
    let (id, mut bundle) = (stage.id(), bundle(&stage));
    let bus = Bus::new(&path, Manner::Answers);
    create(&stage, &path, &mut bundle, &id).ok();
    drop(bus);
    let bus = Bus::new(&path, Manner::Dawdles);
    let unfinished = call(&stage, &path, &["delete", "--force", &id]);
    unfinished.refuses(&["stop unit x-", "no answer from systemd at unix:path="]);
    drop(bus);
    // Its processes are gone all the same.
    assert_eq!(cgroups(&id), [""; 0]);
    let bus = Bus::new(&path, Manner::Answers);
    call(&stage, &path, &["delete", "--force", &id]).ok();
    assert!(bus.calls().contains(&"StopUnit".to_owned()));
    assert!(!stage.state_root().join(&id).exists());
}
