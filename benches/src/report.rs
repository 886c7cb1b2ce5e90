//! Everything one benchmark found, and its JSON form. The table and the chart are
//! drawn from the same value. It must not compute figures of its own.

use serde_json::{Value, json};

use crate::args::{Args, Pace};
use crate::contender::{Contender, FLOOR};
use crate::figure::Bound;
use crate::job;
use crate::machine::Machine;
use crate::results::{REFERENCE, Row, Track, Verdict};
use crate::view::View;

/// Raised when a field of the JSON output changes its meaning.
const SCHEMA: u32 = 1;

pub struct Report {
    pub machine: Machine,
    pub contenders: Vec<Participant>,
    pub missing: Vec<String>,
    pub skipped: Vec<String>,
    pub rounds: usize,
    pub crowd: usize,
    pub quick: bool,
    pub rows: Vec<Row>,
}

pub struct Participant {
    pub name: String,
    pub path: String,
    pub version: String,
}

impl Report {
    pub fn new(
        machine: Machine,
        args: &Args,
        contenders: &[Contender],
        missing: Vec<String>,
    ) -> Report {
        let participant = |contender: &Contender| Participant {
            name: contender.name.clone(),
            path: contender.path.display().to_string(),
            version: if contender.is_floor() {
                "the kernel calls alone".into()
            } else {
                job::version(contender)
            },
        };
        Report {
            machine,
            contenders: contenders.iter().map(participant).collect(),
            missing,
            skipped: Vec::new(),
            rounds: args.rounds(),
            crowd: args.crowd(),
            quick: args.quick,
            rows: Vec::new(),
        }
    }

    pub fn json(&self) -> String {
        let machine = &self.machine;
        let value = json!({
            "schema": SCHEMA,
            "machine": {
                "kernel": machine.kernel, "architecture": machine.architecture,
                "processor": machine.processor, "processors": machine.processors,
                "memory_kib": machine.memory_kib, "time": machine.time,
                "load_before": machine.load_before, "load_after": machine.load_after
            },
            "settings": { "rounds": self.rounds, "crowd": self.crowd, "quick": self.quick },
            "contenders": self.contenders.iter().map(|participant| json!({
                "name": participant.name, "path": participant.path, "version": participant.version
            })).collect::<Vec<_>>(),
            "missing": self.missing,
            "skipped": self.skipped,
            "rows": self.rows.iter().map(|row| self.row(row)).collect::<Vec<_>>()
        });
        format!("{value:#}\n")
    }

    fn row(&self, row: &Row) -> Value {
        json!({
            "figure": row.figure.key(),
            "unit": row.figure.unit(),
            "view": row.view.map(View::name),
            "pace": row.pace.map(Pace::name),
            "contenders": row.tracks.iter().map(|track| {
                let ratios = [REFERENCE, FLOOR].map(|base| row.ratio(&track.contender, base));
                (track.contender.clone(), track_json(track, ratios))
            }).collect::<serde_json::Map<_, _>>(),
            "aims": row.verdicts().iter().map(verdict_json).collect::<Vec<_>>()
        })
    }
}

fn track_json(track: &Track, [to_crun, to_floor]: [Option<f64>; 2]) -> Value {
    json!({
        "median": track.median(), "minimum": track.minimum(), "ratio_to_crun": to_crun, "ratio_to_floor": to_floor,
        "failure": track.failure, "samples": track.samples
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let (against, limit) = match verdict.bound {
        Bound::Ratio(base, limit) => (Some(base), limit),
        Bound::AtMost(limit) => (None, limit),
    };
    json!({ "against": against, "at_most": limit, "reached": verdict.reached, "met": verdict.met() })
}
