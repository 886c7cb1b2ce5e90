//! One engine on one runtime, inside a place of its own: the engine begins, its behaviours are tried one after
//! the other, and each verdict is one line of JSON on stdout, for the judge outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{containerd, cri, docker, managed, place, podman, remapped, units};

/// Says "you are a session": the engine's and the runtime's name.
pub const VARIABLE: &str = "CAPSID_ENGINE_SESSION";

/// Everything that is known of an engine outside of its sessions.
pub struct Engine {
    pub name: &'static str,
    /// Debian's packages install these.
    programs: &'static [&'static str],
    behaviours: &'static [&'static str],
    session: fn(&str, &[String]),
    /// It runs where systemd is process 1, on cgroup v2: in a guest (tests/vm).
    pub in_systemd: bool,
}

pub const ENGINES: &[Engine] = &[
    containerd::ENGINE,
    cri::ENGINE,
    docker::ENGINE,
    remapped::ENGINE,
    podman::ROOTS,
    podman::USERS,
    units::ENGINE.in_systemd(),
    managed::ROOTS.in_systemd(),
    managed::USERS.in_systemd(),
];

/// A behaviour's name, and what shows it.
pub type Behaviour<E> = (&'static str, fn(&E));

/// An engine that runs, on the runtime of this name.
pub trait Begin {
    fn begin(runtime: &str) -> Self;

    /// What the engine said of late, for whoever has to understand a failure.
    fn said(&self) -> String;
}

/// The engine's entry in the list, and its behaviours in the order in which they are tried.
#[macro_export]
macro_rules! engine {
    ($constant:ident, $name:literal, $kind:ty, [$($program:literal),*], $($behaviour:ident)*) => {
        pub const $constant: $crate::session::Engine = $crate::session::Engine::new(
            $name,
            &[$($program),*],
            &[$(stringify!($behaviour)),*],
            |runtime, words| {
                $crate::session::tries::<$kind>(
                    $name, runtime, words, &[$((stringify!($behaviour), |engine: &$kind| $behaviour(engine))),*],
                );
            },
        );
    };
}

impl Engine {
    pub const fn new(
        name: &'static str,
        programs: &'static [&'static str],
        behaviours: &'static [&'static str],
        session: fn(&str, &[String]),
    ) -> Engine {
        Engine {
            name,
            programs,
            behaviours,
            session,
            in_systemd: false,
        }
    }

    pub const fn in_systemd(self) -> Engine {
        Engine {
            in_systemd: true,
            ..self
        }
    }

    /// Why it can't run here, if so.
    pub fn obstacle(&self) -> Option<String> {
        if self.in_systemd != place::is_systemds() {
            let not = if self.in_systemd { "not " } else { "" };
            return Some(format!("systemd is {not}process 1 here"));
        }
        let missing = self.lacks()?;
        Some(format!("{missing} is not installed"))
    }

    /// The first of its programs that is not there.
    fn lacks(&self) -> Option<&'static str> {
        let there = |name: &&&str| {
            ["/usr/bin", "/usr/sbin"]
                .iter()
                .any(|folder| std::path::Path::new(folder).join(name).exists())
        };
        self.programs.iter().find(|name| !there(name)).copied()
    }

    pub fn is_wanted(&self, words: &[String]) -> bool {
        self.behaviours
            .iter()
            .any(|behaviour| is_wanted(self.name, behaviour, words))
    }
}

fn is_wanted(engine: &str, behaviour: &str, words: &[String]) -> bool {
    let name = format!("{engine}::{behaviour}");
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

/// Inside: the runtime of this session.
pub fn runtime() -> String {
    let name = std::env::var(VARIABLE).expect("a session");
    name.rsplit(' ').next().expect("a runtime").to_owned()
}

/// Inside: the session that the variable names.
pub fn run(name: &str) {
    let (engine, runtime) = name.rsplit_once(' ').expect("an engine and a runtime");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let engine = ENGINES
        .iter()
        .find(|known| known.name == engine)
        .expect("a known engine");
    (engine.session)(runtime, &words);
}

/// Begins the engine and tries its behaviours.
pub fn tries<E: Begin>(name: &str, runtime: &str, words: &[String], behaviours: &[Behaviour<E>]) {
    let engine = E::begin(runtime);
    for (behaviour, run) in behaviours {
        if !is_wanted(name, behaviour, words) {
            continue;
        }
        let begun = Instant::now();
        let mut result = catch_unwind(AssertUnwindSafe(|| run(&engine)));
        if result.is_err() && runtime != "capsid" {
            // A slip of the machine's or the engine's is not told as a peer's.
            result = catch_unwind(AssertUnwindSafe(|| run(&engine)));
        }
        let failure = result.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!(
                "{}\n--- the engine of late\n{}",
                text.unwrap_or_default(),
                engine.said()
            )
        });
        let notes = std::mem::take(&mut *NOTES.lock().expect("notes"));
        println!(
            "{}",
            json!({"notes": notes, "behaviour": behaviour, "failure": failure, "ms": begun.elapsed().as_millis() as u64})
        );
    }
}

static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the behaviour has measured goes with its verdict.
pub fn notes(text: &str) {
    NOTES.lock().expect("notes").push(text.to_owned());
}

/// The last lines of a daemon's log.
pub fn tail(path: &str) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// A program of the engine, with nothing on stdin.
pub fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).stdin(std::process::Stdio::null());
    command
}

/// What one session showed.
pub struct Report {
    pub engine: &'static str,
    pub runtime: String,
    pub verdicts: Vec<Verdict>,
    /// Why it ended before its end, if so.
    pub broken: Option<String>,
    pub took: Duration,
}

pub struct Verdict {
    pub behaviour: String,
    pub notes: Vec<String>,
    pub failure: Option<String>,
    pub took: Duration,
}

impl Report {
    pub fn read(
        engine: &'static str,
        runtime: &str,
        text: &str,
        success: bool,
        said: &str,
        took: Duration,
    ) -> Report {
        let verdict = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(Verdict {
                behaviour: line["behaviour"].as_str()?.to_owned(),
                notes: line["notes"]
                    .as_array()?
                    .iter()
                    .map(|note| note.as_str().map(str::to_owned))
                    .collect::<Option<_>>()?,
                failure: line["failure"].as_str().map(str::to_owned),
                took: Duration::from_millis(line["ms"].as_u64()?),
            })
        };
        Report {
            engine,
            runtime: runtime.to_owned(),
            verdicts: text.lines().filter_map(verdict).collect(),
            broken: (!success).then(|| said.to_owned()),
            took,
        }
    }

    /// Which behaviours took most of it, or what each took.
    pub fn tells_its_time(&self) {
        let mut slow: Vec<&Verdict> = self.verdicts.iter().collect();
        slow.sort_by_key(|verdict| std::cmp::Reverse(verdict.took));
        if std::env::var_os("CAPSID_VERBOSE").is_none() {
            slow.truncate(3);
        }
        let of = |verdict: &&Verdict| {
            format!(" {:.1} {}", verdict.took.as_secs_f64(), verdict.behaviour)
        };
        let slow: Vec<String> = slow.iter().map(of).collect();
        let (engine, runtime) = (self.engine, &self.runtime);
        let took = self.took.as_secs_f64();
        println!(
            "{engine} on {runtime}: {took:.1} s, of which{}",
            slow.join(",")
        );
    }

    pub fn of(&self, behaviour: &str) -> Option<&Verdict> {
        self.verdicts
            .iter()
            .find(|verdict| verdict.behaviour == behaviour)
    }

    /// Why the behaviour was not seen, if so.
    pub fn failure(&self, behaviour: &str) -> Option<String> {
        match self.of(behaviour) {
            Some(verdict) => verdict.failure.clone(),
            None => {
                let said = self.broken.as_deref().unwrap_or_default();
                let last = said.rfind("panicked at").map_or(said, |at| &said[at..]);
                let last = last.lines().filter(|line| !line.starts_with("note: "));
                let last: Vec<&str> = last.take(12).collect();
                Some(format!(
                    "no verdict, the session ended: {}",
                    last.join("\n")
                ))
            }
        }
    }
}

impl Engine {
    /// The behaviours that these words choose.
    pub fn chosen<'a>(&'a self, words: &'a [String]) -> impl Iterator<Item = &'static str> + 'a {
        self.behaviours
            .iter()
            .copied()
            .filter(|behaviour| is_wanted(self.name, behaviour, words))
    }
}
