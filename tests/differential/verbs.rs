//! What state, list and ps print: the same keys with values of the same types; and the same exit codes for
//! what an engine may ask at any time of a container's life.

use serde_json::{Value, json};

use super::allowed::Allowed;
use super::peer::{Peer, Rootfs};
use super::seen::Seen;
use super::{VIEW, bundle, idle, peers};
use crate::harness::Bundle;

/// A time of the container's life: its name, the call that leads there, and what is tried then. ID and
/// BUNDLE stand for the container's.
struct Station {
    name: &'static str,
    reached_by: &'static [&'static str],
    tried: &'static [&'static [&'static str]],
}

const STATIONS: &[Station] = &[
    Station {
        name: "absent",
        reached_by: &["--version"],
        tried: &[
            &["start", "ID"],
            &["kill", "ID", "KILL"],
            &["delete", "ID"],
            &["pause", "ID"],
            &["resume", "ID"],
            &["exec", "ID", "/bin/probe"],
            &["delete", "--force", "ID"],
        ],
    },
    Station {
        name: "created",
        reached_by: &["create", "--bundle", "BUNDLE", "ID"],
        tried: &[
            &["create", "--bundle", "BUNDLE", "ID"],
            &["resume", "ID"],
            &["exec", "ID", "/bin/probe", "exit", "7"],
        ],
    },
    Station {
        name: "running",
        reached_by: &["start", "ID"],
        tried: &[
            &["start", "ID"],
            &["delete", "ID"],
            &["resume", "ID"],
            &["kill", "ID", "NONSENSE"],
            &["kill", "ID", "99"],
            &["kill", "ID", "CONT"],
            &["kill", "ID", "SIGCONT"],
            &["kill", "ID", "18"],
            &["exec", "ID", "/bin/missing"],
            &["exec", "ID", "missing"],
            &["exec", "ID", "/etc/passwd"],
            &["exec", "ID", "/bin/probe", "exit", "7"],
            &["exec", "ID", "/bin/probe", "signal", "9"],
            &["exec", "--cwd", "/missing", "ID", "/bin/probe"],
            &[
                "exec",
                "--user",
                "1000:1000",
                "ID",
                "/bin/probe",
                "exit",
                "3",
            ],
        ],
    },
    Station {
        name: "paused",
        reached_by: &["pause", "ID"],
        tried: &[
            &["pause", "ID"],
            &["start", "ID"],
            &["delete", "ID"],
            &["exec", "ID", "/bin/probe", "exit", "0"],
        ],
    },
    Station {
        name: "resumed",
        reached_by: &["resume", "ID"],
        tried: &[],
    },
    Station {
        name: "stopped",
        reached_by: &["kill", "ID", "TERM"],
        tried: &[
            &["start", "ID"],
            &["kill", "ID", "TERM"],
            &["pause", "ID"],
            &["exec", "ID", "/bin/probe"],
        ],
    },
    Station {
        name: "deleted",
        reached_by: &["delete", "ID"],
        tried: &[],
    },
];

#[test]
fn the_verbs_answer_alike() {
    let stage = stage_with_peers!(VIEW);
    let mut bundle = bundle(&stage);
    idle(&mut bundle).set("/annotations", json!({"org.example.key": "value"}));
    let id = stage.id();
    let ours = life(&Peer::new("capsid", &stage, VIEW), &bundle, &id);
    let mut unexplained = Vec::new();
    for peer in peers(&stage, VIEW) {
        let differences = ours.differences(&life(&peer, &bundle, &id));
        unexplained.extend(Allowed::table().judge(
            peer.name,
            "the_verbs_answer_alike",
            differences,
        ));
    }
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
}

/// A container's whole life, and what each verb said at each of its stations.
fn life(peer: &Peer, bundle: &Bundle, id: &str) -> Seen {
    let _rootfs = Rootfs::new(&bundle.folder.join("rootfs"));
    bundle.write(id);
    let folder = bundle.folder.to_string_lossy();
    let call = |words: &[&str]| {
        let words = words.iter().map(|&word| match word {
            "ID" => id,
            "BUNDLE" => &folder,
            word => word,
        });
        peer.call(&words.collect::<Vec<_>>())
    };
    let mut seen = Seen::default();
    for station in STATIONS {
        call(station.reached_by).ok();
        if station.name == "stopped" {
            peer.await_stop(id);
        }
        ask(peer, &mut seen, station.name, id);
        for words in station.tried {
            let code = call(words).code.to_string();
            seen.add_line(&format!("{}/{}", station.name, words.join(" ")), code);
        }
    }
    seen
}

/// Keys and types of what the verbs print, and those values that are the same under each runtime.
fn ask(peer: &Peer, seen: &mut Seen, station: &str, id: &str) {
    for (name, call) in [
        ("state", &["state", id][..]),
        ("list", &["list", "--format", "json"]),
        ("ps", &["ps", "--format", "json", id]),
    ] {
        let outcome = peer.call(call);
        let path = format!("{station}/{name}");
        seen.add_line(&path, outcome.code.to_string());
        let printed: Option<Value> = serde_json::from_str(&outcome.stdout).ok();
        let Some(printed) = printed else { continue };
        seen.add_shape(&path, &printed);
        if name == "state" {
            for key in ["id", "status", "bundle", "rootfs", "annotations", "owner"] {
                seen.add_line(&format!("{path} value/{key}"), printed[key].to_string());
            }
        }
    }
    let quiet = peer.call(&["list", "--quiet"]);
    seen.add_line(&format!("{station}/list --quiet"), quiet.stdout);
}
