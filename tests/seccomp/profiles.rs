//! The engines' default profiles, beside runc and crun.

use serde_json::json;

use super::*;
use crate::differential::peer::Peer;
use crate::harness::View;
use crate::{seccomp_program, stage};

/// Calls that do nothing here, whatever is allowed: by number, then by the ways of 32-bit and x32.
fn harmless() -> Vec<String> {
    let mut calls: Vec<String> = Vec::new();
    // unshare, mount, keyctl, add_key, bpf, clone3, setns, ptrace of nobody, personality, socket of
    // no family, perf_event_open, kexec_load without segments, init_module, open_by_handle_at.
    for call in [
        "272,0x10000000",
        "165",
        "250,0x7fffffff",
        "248",
        "321,0x7fffffff",
        "435",
        "308,-1",
        "101,0x10,0x7fffffff",
        "135,0xffffffff",
        "135,1",
        "41,0x7fff,0,0",
        "41,16,3,9",
        "298",
        "175",
        "304,-1",
        "39",
    ] {
        calls.push(call.to_owned());
    }
    // What came with Linux 5.17 to 6.17, and what is to come.
    calls.extend((449..475).map(|number| format!("{number},-1,-1,-1,-1,-1,-1")));
    calls.extend([500, 1000, 0x3fff_ffff].map(|number: u32| number.to_string()));
    calls.extend(
        [
            "32:20",
            "32:310,0x10000000",
            "32:21",
            "32:450,-1,-1",
            "32:470",
            "32:1000",
        ]
        .map(str::to_owned),
    );
    calls.extend(
        [
            "x32:39",
            "x32:272,0x10000000",
            "x32:470",
            "x32:600",
            "x32:0x3fffffff",
        ]
        .map(str::to_owned),
    );
    calls
}

#[test]
fn what_the_engines_profiles_refuse_is_refused_as_by_the_peers() {
    let view = View::V1;
    let stage = stage!(view);
    let call = seccomp_program!("call");
    let calls = harmless();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let mut compared = 0;
    for name in ["docker", "containerd", "podman"] {
        for way in WAYS {
            let mut bundle = bundle(&stage, &call, fixture(name), way);
            bundle
                .set("/ociVersion", json!("1.0.2"))
                .args(&[&["/call"][..], &calls].concat());
            let say = |runtime: &'static str| {
                let id = stage.id();
                bundle.write(&id);
                let folder = bundle.folder.to_string_lossy();
                let outcome =
                    Peer::new(runtime, &stage, view).call(&["run", "--bundle", &folder, &id]);
                assert_eq!(outcome.code, 0, "{runtime}: {outcome}");
                lines(&outcome)
            };
            let ours = say("capsid");
            assert_eq!(ours.len(), calls.len());
            for peer in ["runc", "crun"] {
                if !machine::has_program(peer) {
                    continue;
                }
                compared += 1;
                let theirs = say(peer);
                for ((call, ours), theirs) in calls.iter().zip(&ours).zip(&theirs) {
                    println!("{name} {way} {call}: {ours}, {peer} {theirs}");
                    if ours != theirs {
                        assert!(
                            explained(peer, call, ours, theirs),
                            "{name} {call}: {ours}, {peer} {theirs}"
                        );
                    }
                }
            }
        }
    }
    if compared == 0 {
        crate::skip!("neither runc nor crun is installed");
    }
}

/// crun gives what is newer than the profile the profile's own errno; Debian's libseccomp does not
/// know the newest names.
fn explained(peer: &str, call: &str, ours: &str, theirs: &str) -> bool {
    peer == "crun" && ours == "ENOSYS" && theirs == "EPERM" && !call.is_empty()
}
