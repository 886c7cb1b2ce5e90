//! The command line of the benchmark: what to measure, against whom, how often,
//! and where to write it. It must not look at the machine.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::contender::{FLOOR, RUNC};
use crate::job::Job;
use crate::results::{REFERENCE, SUBJECT};
use crate::view::View;

/// Measures capsid against crun, runc and the floor on one bundle in one run.
///
/// Needs root, a C compiler, and what of crun, runc and strace is to be compared.
#[derive(Debug, Parser)]
#[command(name = "capsid-bench", version)]
pub struct Args {
    /// The capsid binary [default: `capsid` beside this program]
    #[arg(long, value_name = "PATH")]
    pub capsid: Option<PathBuf>,

    /// One more runtime with runc's command line, such as an older capsid; may repeat
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    pub vs: Vec<(String, PathBuf)>,

    /// Only these contenders: capsid, crun, runc, floor, or a NAME of --vs
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub runtimes: Vec<String>,

    /// Only these measures; may repeat
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub only: Vec<Job>,

    /// Only these cgroup layouts
    #[arg(long, value_name = "VIEW,...", value_delimiter = ',')]
    pub views: Vec<View>,

    /// Only back to back, or only with a gap before each command
    #[arg(long, value_name = "PACE,...", value_delimiter = ',')]
    pub paces: Vec<Pace>,

    /// Rounds of each timed measure [default: 60, or 8 with --quick]
    #[arg(long, value_name = "N")]
    pub runs: Option<usize>,

    /// Few rounds, few containers: a look, not a figure to quote
    #[arg(long)]
    pub quick: bool,

    /// Instead of all else: so many containers at once under containerd, with each runtime in turn
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "200")]
    pub density: Option<usize>,

    /// Where the raw samples, medians, ratios and machine facts go
    #[arg(long, value_name = "FILE", default_value = "benches/out/bench.json")]
    pub json: PathBuf,

    /// Where the chart goes
    #[arg(long, value_name = "FILE", default_value = "benches/out/bench.svg")]
    pub svg: PathBuf,

    /// Set by the supervisor for the process that measures: its scratch directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub scratch: Option<PathBuf>,

    /// Set by the supervisor for the process that measures: its cgroup
    #[arg(long, hide = true, value_name = "CGROUP", requires = "scratch")]
    pub cgroup: Option<String>,
}

/// How commands follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// Back to back.
    Hot,
    /// 60 ms of rest before each command, as containers are created in real life.
    Gap,
}

impl Pace {
    pub const ALL: [Pace; 2] = [Pace::Hot, Pace::Gap];

    pub fn name(self) -> &'static str {
        match self {
            Pace::Hot => "hot",
            Pace::Gap => "60 ms gaps",
        }
    }
}

impl Args {
    pub fn rounds(&self) -> usize {
        self.runs.unwrap_or(if self.quick { 8 } else { 60 }).max(1)
    }

    /// How many containers `list` has to show.
    pub fn crowd(&self) -> usize {
        if self.quick { 10 } else { 100 }
    }

    pub fn wants(&self, job: Job) -> bool {
        self.only.is_empty() || self.only.contains(&job)
    }

    pub fn wants_runtime(&self, name: &str) -> bool {
        self.runtimes.is_empty() || self.runtimes.iter().any(|wanted| wanted == name)
    }

    pub fn wants_view(&self, view: View) -> bool {
        self.views.is_empty() || self.views.contains(&view)
    }

    pub fn paces(&self) -> Vec<Pace> {
        Pace::ALL
            .into_iter()
            .filter(|pace| self.paces.is_empty() || self.paces.contains(pace))
            .collect()
    }
}

fn named_path(text: &str) -> Result<(String, PathBuf)> {
    let (name, path) = text.split_once('=').context("expected NAME=PATH")?;
    anyhow::ensure!(
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
        "the name may hold letters, digits, - _ ."
    );
    anyhow::ensure!(
        ![SUBJECT, REFERENCE, RUNC, FLOOR].contains(&name),
        "this name is taken"
    );
    Ok((name.to_owned(), PathBuf::from(path)))
}
