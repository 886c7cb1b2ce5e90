//! capsid under the engines: every behaviour that an engine's user knows, with runc, with crun and with capsid
//! in its place, on daemons that are started by hand in namespaces of their own (place.rs). What works with
//! runc has to work with capsid; what doesn't even with runc is not to be had on this machine, and a loud skip.
//!
//! One session is one engine on one runtime: a process of its own, whose daemon serves all of the engine's
//! behaviours one after the other. `make test-engines` runs it; words behind `--` choose by name.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the promises use all of it")]
#[path = "../harness/mod.rs"]
mod harness;

#[macro_use]
mod session;
mod alike;
mod boxes;
mod channels;
mod containerd;
mod cri;
mod crowd;
mod docker;
mod docs;
mod goods;
mod grpc;
mod judge;
mod left;
mod managed;
mod place;
mod podman;
mod power;
mod remapped;

use std::process::ExitCode;
use std::sync::Mutex;

use judge::Judge;
use place::{Place, RUNTIMES};
use session::{ENGINES, Engine};

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(session::VARIABLE) {
        session::run(&name);
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let mut judge = Judge::default();
    if let Some(reason) = obstacle() {
        judge.skips("engines", reason);
        return judge.ends();
    }
    let goods = goods::prepare();
    for engine in ENGINES {
        let mut reports = Vec::new();
        if engine.is_wanted(&words) {
            if let Some(obstacle) = engine.obstacle() {
                judge.skips(engine.name, &obstacle);
            } else {
                reports = sessions(engine, &goods, &words);
                judge.compares(engine, &words, &reports);
            }
        }
        judge.knows(engine, &reports);
    }
    judge.compares_the_page();
    judge.ends()
}

/// Why no engine can run here, if so.
fn obstacle() -> Option<&'static str> {
    harness::machine::obstacle().or_else(|| {
        let other =
            harness::machine::cgroups() == harness::machine::Cgroups::V2 && !place::is_systemds();
        other.then_some("the engines are given a view of cgroup v1")
    })
}

/// What each runtime showed under this engine, and runc at the latest when capsid fails.
fn sessions(engine: &Engine, goods: &goods::Goods, words: &[String]) -> Vec<session::Report> {
    let runtimes = place::runtimes(words);
    let mut reports = at_once(engine, goods, words, &runtimes);
    let fails =
        |report: &session::Report| engine.chosen(words).any(|b| report.failure(b).is_some());
    if !runtimes.contains(&"runc") && reports.iter().any(fails) {
        reports.extend(at_once(engine, goods, words, &["runc"]));
    }
    reports.sort_by_key(|report| RUNTIMES.iter().position(|name| *name == report.runtime));
    reports
}

/// All of them at once, as they wait more than they work.
fn at_once(
    engine: &Engine,
    goods: &goods::Goods,
    words: &[String],
    runtimes: &[&'static str],
) -> Vec<session::Report> {
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for &runtime in runtimes {
            let reports = &reports;
            scope.spawn(move || {
                let place = Place::new(&format!("{}-{runtime}", engine.name));
                let report = place.session(engine, runtime, goods, words);
                reports.lock().expect("reports").push(report);
            });
        }
    });
    reports.into_inner().expect("reports")
}
