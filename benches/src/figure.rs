//! The figures that the benchmark reports: their words, units, and the aims that
//! issue 2 sets for them. It must not know how a figure is measured.

use crate::args::Pace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Run,
    RunCpu,
    RunRss,
    Lifecycle,
    Create,
    Start,
    Delete,
    CreateRss,
    Exec,
    State,
    Kill,
    List,
    ForceDelete,
    Version,
    Plain,
    Filtered,
    Docker,
    Compile,
    Syscalls,
    MemoryLimit,
    Size,
}

impl Figure {
    /// The key in the JSON output.
    pub fn key(self) -> &'static str {
        self.words().0
    }

    /// The row's name in the table and the chart.
    pub fn label(self) -> &'static str {
        self.words().1
    }

    pub fn unit(self) -> &'static str {
        self.words().2
    }

    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Figure::Run => ("run", "run /bin/true", "ms"),
            Figure::RunCpu => ("run-cpu", "CPU time of a run", "ms"),
            Figure::RunRss => ("run-rss", "peak RSS of a run", "KiB"),
            Figure::Lifecycle => ("lifecycle", "create+start+delete", "ms"),
            Figure::Create => ("create", "  create", "ms"),
            Figure::Start => ("start", "  start", "ms"),
            Figure::Delete => ("delete", "  delete", "ms"),
            Figure::CreateRss => ("create-rss", "peak RSS of a create", "KiB"),
            Figure::Exec => ("exec", "exec /bin/true", "ms"),
            Figure::State => ("state", "state", "ms"),
            Figure::Kill => ("kill", "kill (SIGWINCH)", "ms"),
            Figure::List => ("list", "list", "ms"),
            Figure::ForceDelete => ("force-delete", "delete --force", "ms"),
            Figure::Version => ("version", "--version", "ms"),
            Figure::Plain => ("plain", "run, in the rounds of the next two", "ms"),
            Figure::Filtered => ("filtered", "run with Docker's seccomp profile", "ms"),
            Figure::Docker => ("docker", "run with Docker's configuration", "ms"),
            Figure::Compile => ("compile", "compiling that profile", "ms"),
            Figure::Syscalls => ("syscalls", "system calls of a run", "calls"),
            Figure::MemoryLimit => ("memory-limit", "smallest memory limit", "KiB"),
            Figure::Size => ("size", "size of the binary", "KiB"),
        }
    }
}

/// What capsid's figure is held against.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At most this many times the named contender's, paired round by round.
    Ratio(&'static str, f64),
    /// At most this much, in the figure's unit.
    AtMost(f64),
}

const AIMS: &[(Figure, Option<Pace>, Bound)] = &[
    (Figure::Run, Some(Pace::Hot), Bound::Ratio("crun", 0.57)),
    (Figure::Run, Some(Pace::Gap), Bound::Ratio("crun", 0.45)),
    (Figure::Run, None, Bound::Ratio("floor", 1.45)),
    (Figure::RunRss, None, Bound::AtMost(2560.0)),
    (Figure::CreateRss, None, Bound::AtMost(2560.0)),
    (Figure::Exec, None, Bound::Ratio("crun", 0.7)),
    (Figure::State, None, Bound::Ratio("crun", 0.4)),
    (Figure::Kill, None, Bound::Ratio("crun", 0.4)),
    (Figure::Filtered, None, Bound::Ratio("crun", 0.6)),
    (Figure::Compile, None, Bound::AtMost(1.0)),
    (Figure::Syscalls, None, Bound::AtMost(400.0)),
    (Figure::MemoryLimit, None, Bound::AtMost(256.0)),
];

/// The aims for a figure at a pace, in the table's order.
pub fn aims(figure: Figure, pace: Option<Pace>) -> impl Iterator<Item = Bound> {
    AIMS.iter()
        .filter(move |aim| aim.0 == figure && (aim.1.is_none() || aim.1 == pace))
        .map(|aim| aim.2)
}
