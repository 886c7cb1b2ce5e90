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
mod units;

use std::process::ExitCode;
use std::sync::Mutex;

use judge::Judge;
use place::{Place, RUNTIMES};
use session::{ENGINES, Engine, Report};

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
    let mut ready = Vec::new();
    for engine in ENGINES.iter().filter(|engine| engine.is_wanted(&words)) {
        match engine.obstacle() {
            Some(obstacle) => judge.skips(engine.name, &obstacle),
            None => ready.push(engine),
        }
    }
    let reports = sessions(&ready, &goods, &words);
    for engine in ENGINES {
        let its = |report: &&Report| report.engine == engine.name;
        let reports: Vec<&Report> = reports.iter().filter(its).collect();
        if !reports.is_empty() {
            judge.compares(engine, &words, &reports);
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

/// What each runtime showed under each of these, and runc at the latest of what fails with capsid.
fn sessions(engines: &[&'static Engine], goods: &goods::Goods, words: &[String]) -> Vec<Report> {
    let runtimes = place::runtimes(words);
    let of = |&engine: &&'static Engine| {
        let session = move |&runtime: &&'static str| Session {
            engine,
            runtime,
            words: words.to_vec(),
        };
        runtimes.iter().map(session)
    };
    let mut reports = at_once(engines.iter().flat_map(of).collect(), goods);
    if !runtimes.contains(&"runc") {
        let again = reports.iter().filter_map(|report| {
            let engine = engines.iter().find(|engine| engine.name == report.engine)?;
            let failing = engine.chosen(words).filter(|b| report.failure(b).is_some());
            let session = Session {
                engine,
                runtime: "runc",
                words: failing.map(|b| format!("{}::{b}", engine.name)).collect(),
            };
            (!session.words.is_empty()).then_some(session)
        });
        let again = again.collect();
        reports.extend(at_once(again, goods));
    }
    reports.sort_by_key(|report| RUNTIMES.iter().position(|name| *name == report.runtime));
    reports
}

/// An engine on a runtime, and what is tried there.
struct Session {
    engine: &'static Engine,
    runtime: &'static str,
    words: Vec<String>,
}

/// Several at a time, as they wait as much as they work, and first those that have most to try.
fn at_once(mut sessions: Vec<Session>, goods: &goods::Goods) -> Vec<Report> {
    sessions.sort_by_key(|session| session.engine.chosen(&session.words).count());
    let width = place::width().min(sessions.len());
    let (sessions, reports) = (Mutex::new(sessions), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(|| {
                loop {
                    let next = sessions.lock().expect("sessions").pop();
                    let Some(next) = next else {
                        return;
                    };
                    let place = Place::new(&format!("{}-{}", next.engine.name, next.runtime));
                    let report = place.session(next.engine, next.runtime, goods, &next.words);
                    report.tells_its_time();
                    reports.lock().expect("reports").push(report);
                }
            });
        }
    });
    reports.into_inner().expect("reports")
}
