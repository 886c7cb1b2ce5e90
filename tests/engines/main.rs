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
mod place;
mod podman;
mod power;

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
    let mut whole = words.is_empty();
    for engine in ENGINES {
        if !engine.is_wanted(&words) {
            continue;
        }
        if let Some(program) = engine.lacks() {
            judge.skips(engine.name, &format!("{program} is not installed"));
            whole = false;
            continue;
        }
        let reports = sessions(engine, &goods, &words);
        judge.compares(engine, &words, &reports);
    }
    if whole {
        judge.compares_the_page();
    }
    judge.ends()
}

/// Why no engine can run here, if so.
fn obstacle() -> Option<&'static str> {
    harness::machine::obstacle().or_else(|| {
        (harness::machine::cgroups() == harness::machine::Cgroups::V2)
            .then_some("the engines are given a view of cgroup v1")
    })
}

/// What each runtime showed under this engine: all of them at once, as they wait more than they work.
fn sessions(engine: &Engine, goods: &goods::Goods, words: &[String]) -> Vec<session::Report> {
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for runtime in place::runtimes(words) {
            let reports = &reports;
            scope.spawn(move || {
                let place = Place::new(&format!("{}-{runtime}", engine.name));
                let report = place.session(engine, runtime, goods, words);
                reports.lock().expect("reports").push(report);
            });
        }
    });
    let mut reports = reports.into_inner().expect("reports");
    reports.sort_by_key(|report| RUNTIMES.iter().position(|name| *name == report.runtime));
    reports
}
