//! The measurements, one function each: which commands, in which order, and which
//! of what they took is the figure. It must not print figures or judge them.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::args::{Args, Pace};
use crate::contender::{Contender, on_path};
use crate::figure::Figure;
use crate::limit;
use crate::results::{Row, SUBJECT, Track};
use crate::rounds::Rounds;
use crate::site::Site;
use crate::stopwatch::Lap;
use crate::view::View;

/// Docker's default profile, resolved for its default capabilities.
const DOCKER: &str = include_str!("../../fixtures/seccomp/docker.json");
/// What dockerd writes for a container without options.
const DOCKER_CONFIG: &str = include_str!("../../fixtures/good/docker.json");

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    Run,
    Lifecycle,
    Exec,
    State,
    Kill,
    List,
    Version,
    Seccomp,
    Syscalls,
    Memory,
    Size,
}

/// What a job works on.
pub struct Bench<'a> {
    pub site: &'a Site,
    pub args: &'a Args,
    pub contenders: &'a [Contender],
}

impl<'a> Bench<'a> {
    fn everyone(&self) -> Vec<&'a Contender> {
        self.contenders.iter().collect()
    }

    /// All but the floor, which knows only how to run.
    fn runtimes(&self) -> Vec<&'a Contender> {
        self.contenders
            .iter()
            .filter(|contender| !contender.is_floor())
            .collect()
    }

    fn view(&self) -> View {
        self.site.view()
    }

    fn rounds(&self, pace: Pace) -> Rounds {
        Rounds {
            count: self.args.rounds(),
            view: Some(self.view()),
            pace: Some(pace),
        }
    }

    /// Every job that was asked for, in this view.
    pub fn measure(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for pace in self.args.paces() {
            if self.args.wants(Job::Run) {
                rows.extend(self.run(pace)?);
            }
            if self.args.wants(Job::Lifecycle) {
                rows.extend(self.lifecycle(pace)?);
            }
            rows.extend(self.resident(pace)?);
            if self.args.wants(Job::Seccomp) {
                rows.extend(self.filtered(pace)?);
            }
        }
        if self.args.wants(Job::List) {
            rows.extend(self.list()?);
        }
        if self.args.wants(Job::Syscalls) {
            rows.extend(self.syscalls()?);
        }
        if self.args.wants(Job::Memory) && self.site.has_memory() {
            rows.push(self.memory()?);
        }
        Ok(rows)
    }

    fn announce(&self, what: &str, pace: Option<Pace>) {
        eprintln!(
            "{} {what}{}",
            self.view().name(),
            pace.map_or(String::new(), |pace| format!(", {}", pace.name()))
        );
    }

    fn run(&self, pace: Pace) -> Result<Vec<Row>> {
        self.announce("run", Some(pace));
        let rounds = self.rounds(pace);
        let contenders = self.everyone();
        for contender in &contenders {
            self.site
                .write_bundle(contender, "run", "/bin/true", None)?;
        }
        let figures = [Figure::Run, Figure::RunCpu, Figure::RunRss];
        let rows = rounds.interleave(&contenders, figures, |contender, _| {
            rounds.rest();
            let lap = self
                .site
                .stopwatch
                .time(&contender.run(self.site, "run", None));
            let lap = self.or_clear(contender, "run", lap)?;
            Ok([lap.wall_ms, lap.cpu_ms, lap.rss_kib])
        });
        Ok(self.once_per_view(rows, pace))
    }

    /// The same run under Docker's default profile, and with all else that dockerd writes: each round has all
    /// three, so that their differences are what the profile, and the rest, add.
    fn filtered(&self, pace: Pace) -> Result<Vec<Row>> {
        self.announce(Figure::Filtered.label(), Some(pace));
        let rounds = self.rounds(pace);
        let contenders = self.runtimes();
        for contender in &contenders {
            for id in ["run", "filtered", "docker"] {
                self.site.write_bundle(contender, id, "/bin/true", None)?;
            }
            self.site.add_seccomp(contender, "filtered", DOCKER)?;
            self.site
                .like_docker(contender, "docker", DOCKER_CONFIG, DOCKER)?;
        }
        let figures = [Figure::Plain, Figure::Filtered, Figure::Docker];
        Ok(rounds.interleave(&contenders, figures, |contender, _| {
            let mut took = [0.0; 3];
            for (id, took) in ["run", "filtered", "docker"].into_iter().zip(&mut took) {
                rounds.rest();
                let command = contender.run(self.site, id, None);
                let lap = self.site.stopwatch.time(&command);
                *took = self.or_clear(contender, id, lap)?.wall_ms;
            }
            Ok(took)
        }))
    }

    fn lifecycle(&self, pace: Pace) -> Result<Vec<Row>> {
        self.announce("create+start+delete", Some(pace));
        let rounds = self.rounds(pace);
        let contenders = self.runtimes();
        for contender in &contenders {
            self.site
                .write_bundle(contender, "life", "/bin/true", None)?;
        }
        let figures = [
            Figure::Lifecycle,
            Figure::Create,
            Figure::Start,
            Figure::Delete,
            Figure::CreateRss,
        ];
        let rows = rounds.interleave(&contenders, figures, |contender, _| {
            let laps = self.live(contender, rounds);
            self.or_clear(contender, "life", laps)
        });
        Ok(self.once_per_view(rows, pace))
    }

    fn live(&self, contender: &Contender, rounds: Rounds) -> Result<[f64; 5]> {
        rounds.rest();
        let create = self.create(contender, "life")?;
        let pid = fs::read_to_string(self.site.pid_file(contender)).context("read the pid file")?;
        rounds.rest();
        let start = self.lap(contender, &["start", "life"])?;
        // Not part of the figure: this is how long /bin/true takes.
        self.site.stopwatch.await_end(pid.trim())?;
        rounds.rest();
        let delete = self.lap(contender, &["delete", "life"])?;
        let [c, s, d] = [create, start, delete].map(|lap| lap.wall_ms);
        Ok([c + s + d, c, s, d, create.rss_kib])
    }

    fn lap(&self, contender: &Contender, words: &[&str]) -> Result<Lap> {
        self.site.stopwatch.time(&contender.verb(self.site, words))
    }

    fn create(&self, contender: &Contender, id: &str) -> Result<Lap> {
        let bundle = self.site.bundle(contender, id);
        let pid_file = self.site.pid_file(contender);
        let (bundle, pid_file) = (bundle.to_string_lossy(), pid_file.to_string_lossy());
        self.lap(
            contender,
            &["create", "--bundle", &bundle, "--pid-file", &pid_file, id],
        )
    }

    /// exec, state and kill, on a container that runs meanwhile.
    fn resident(&self, pace: Pace) -> Result<Vec<Row>> {
        const ID: &str = "pause";
        const VERBS: [(Job, Figure, &[&str]); 3] = [
            (Job::Exec, Figure::Exec, &["exec", ID, "/bin/true"]),
            (Job::State, Figure::State, &["state", ID]),
            // Pid 1 of a pid namespace does not notice a signal that it has no handler for.
            (Job::Kill, Figure::Kill, &["kill", ID, "WINCH"]),
        ];
        let rounds = self.rounds(pace);
        let mut rows = Vec::new();
        let mut running: HashSet<String> = HashSet::new();
        for (_, figure, words) in VERBS.into_iter().filter(|verb| self.args.wants(verb.0)) {
            self.announce(figure.label(), Some(pace));
            rows.extend(
                rounds.interleave(&self.runtimes(), [figure], |contender, _| {
                    if !running.contains(&contender.name) {
                        self.site.write_bundle(contender, ID, "/bin/pause", None)?;
                        let started = self
                            .create(contender, ID)
                            .and_then(|_| self.lap(contender, &["start", ID]));
                        self.or_clear(contender, ID, started)?;
                        running.insert(contender.name.clone());
                    }
                    rounds.rest();
                    Ok([self.lap(contender, words)?.wall_ms])
                }),
            );
        }
        for contender in self
            .runtimes()
            .iter()
            .filter(|contender| running.contains(&contender.name))
        {
            self.site.clear(contender, ID)?;
        }
        Ok(rows)
    }

    /// `list` among many containers, then `delete --force` of each of them.
    fn list(&self) -> Result<Vec<Row>> {
        let ids: Vec<String> = (0..self.args.crowd())
            .map(|number| format!("crowd{number}"))
            .collect();
        self.announce(&format!("list of {}, delete --force", ids.len()), None);
        let contenders = self.runtimes();
        let rounds = Rounds {
            count: self.args.rounds().min(20),
            view: Some(self.view()),
            pace: None,
        };
        let mut rows = rounds.interleave(&contenders, [Figure::List], |contender, round| {
            for id in ids.iter().filter(|_| round == 0) {
                self.site.write_bundle(contender, id, "/bin/pause", None)?;
                self.create(contender, id)?;
            }
            Ok([self.lap(contender, &["list"])?.wall_ms])
        });
        // The first of them is the round that warms up.
        let rounds = Rounds {
            count: ids.len().saturating_sub(1),
            ..rounds
        };
        rows.extend(
            rounds.interleave(&contenders, [Figure::ForceDelete], |contender, round| {
                Ok([self
                    .lap(contender, &["delete", "--force", &ids[round]])?
                    .wall_ms])
            }),
        );
        for (contender, id) in contenders
            .iter()
            .flat_map(|contender| ids.iter().map(move |id| (contender, id)))
        {
            if self.site.root(contender).join(id).exists() {
                self.site.clear(contender, id)?;
            }
        }
        Ok(rows)
    }

    fn syscalls(&self) -> Result<Vec<Row>> {
        let Some(strace) = on_path("strace") else {
            eprintln!("NOT MEASURED: system calls: strace is not on PATH (apt-get install strace)");
            return Ok(Vec::new());
        };
        self.announce("system calls", None);
        let contenders = self.everyone();
        let rounds = Rounds {
            count: 3,
            view: Some(self.view()),
            pace: None,
        };
        Ok(
            rounds.interleave(&contenders, [Figure::Syscalls], |contender, _| {
                self.site
                    .write_bundle(contender, "run", "/bin/true", None)?;
                let summary = self.site.file("strace");
                let mut command = vec![
                    strace.clone().into(),
                    "-f".into(),
                    "-c".into(),
                    "-o".into(),
                    summary.clone().into(),
                ];
                command.extend(contender.run(self.site, "run", None));
                self.or_clear(contender, "run", self.site.stopwatch.time(&command))?;
                // "100.00  0.004830  15  302  7 total": the errors column may be empty.
                let text = fs::read_to_string(&summary).context("read strace's summary")?;
                let total = text
                    .lines()
                    .last()
                    .and_then(|line| line.split_whitespace().nth(3));
                let calls = total
                    .and_then(|calls| calls.parse().ok())
                    .context("strace's summary has no total")?;
                Ok([calls])
            }),
        )
    }

    fn memory(&self) -> Result<Row> {
        self.announce("smallest memory limit", None);
        let mut tracks = Vec::new();
        for contender in self.everyone() {
            let found = limit::smallest(self.site, contender, self.args.quick)?;
            tracks.push(Track {
                contender: contender.name.clone(),
                failure: found
                    .is_none()
                    .then(|| format!("starts at no limit up to {} KiB", limit::LARGEST_KIB)),
                samples: found.map(|kib| kib as f64).into_iter().collect(),
            });
        }
        Ok(Row {
            figure: Figure::MemoryLimit,
            view: Some(self.view()),
            pace: None,
            tracks,
        })
    }

    /// Start of the program alone, and its size: the same in every view.
    pub fn programs(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let contenders = self.runtimes();
        let once = Rounds {
            count: 1,
            view: None,
            pace: None,
        };
        if self.args.wants(Job::Version) {
            eprintln!("--version");
            let rounds = Rounds {
                count: self.args.rounds(),
                ..once
            };
            rows.extend(
                rounds.interleave(&contenders, [Figure::Version], |contender, _| {
                    let command = [contender.path.clone().into(), "--version".into()];
                    Ok([self.site.stopwatch.time(&command)?.wall_ms])
                }),
            );
        }
        if self.args.wants(Job::Seccomp) {
            rows.push(compile()?);
        }
        if self.args.wants(Job::Size) {
            rows.extend(
                once.interleave(&contenders, [Figure::Size], |contender, _| {
                    Ok([fs::metadata(&contender.path)?.len() as f64 / 1024.0])
                }),
            );
        }
        Ok(rows)
    }

    /// Memory does not depend on the pace: it is reported once, for the first.
    fn once_per_view(&self, mut rows: Vec<Row>, pace: Pace) -> Vec<Row> {
        let first = self.args.paces().first() == Some(&pace);
        rows.retain(|row| first || !matches!(row.figure, Figure::RunRss | Figure::CreateRss));
        for row in rows
            .iter_mut()
            .filter(|row| matches!(row.figure, Figure::RunRss | Figure::CreateRss))
        {
            row.pace = None;
        }
        rows
    }

    fn or_clear<T>(&self, contender: &Contender, id: &str, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            self.site.clear(contender, id)?;
        }
        outcome
    }
}

/// What compiling Docker's profile costs, in this very process: nobody else's compiler can be
/// called by itself.
fn compile() -> Result<Row> {
    eprintln!("{}", Figure::Compile.label());
    let profile = serde_json::from_str(DOCKER).context("read Docker's profile")?;
    let native = capsid_runtime::seccomp::native();
    let samples = (0..200).map(|_| {
        let begun = std::time::Instant::now();
        std::hint::black_box(capsid_runtime::seccomp::compile(&profile, native));
        begun.elapsed().as_secs_f64() * 1e3
    });
    Ok(Row {
        figure: Figure::Compile,
        view: None,
        pace: None,
        tracks: vec![Track {
            contender: SUBJECT.to_owned(),
            samples: samples.collect(),
            failure: None,
        }],
    })
}

/// The version that a runtime states, for the report.
pub fn version(contender: &Contender) -> String {
    let output = Command::new(&contender.path).arg("--version").output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    text.lines().next().unwrap_or("?").trim().to_owned()
}
