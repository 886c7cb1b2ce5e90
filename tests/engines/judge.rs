//! What the sessions' verdicts mean: a behaviour that runc has is a test that capsid must pass; one that runc
//! lacks too is not to be had here, and a skip that names runc's failure.

use std::fmt::Write;
use std::process::ExitCode;

use crate::docs;
use crate::harness::machine;
use crate::place::RUNTIMES;
use crate::session::{Engine, Report};

#[derive(Default)]
pub struct Judge {
    passed: usize,
    failures: Vec<(String, String)>,
    rows: Vec<Row>,
}

/// One line of the table: what each runtime showed, if it was run.
pub struct Row {
    pub engine: &'static str,
    pub behaviour: &'static str,
    pub cells: [Option<bool>; RUNTIMES.len()],
}

impl Judge {
    pub fn skips(&mut self, name: &str, reason: &str) {
        machine::record_skip(name, reason);
        // libtest counts a skip as passed, and tests/run.sh takes it off again.
        self.passed += 1;
    }

    pub fn compares(&mut self, engine: &Engine, words: &[String], reports: &[&Report]) {
        for behaviour in engine.chosen(words) {
            let name = format!("{}::{behaviour}", engine.name);
            for report in reports {
                for note in report.of(behaviour).iter().flat_map(|v| &v.notes) {
                    println!("{name} on {}: {note}", report.runtime);
                }
            }
            let failure = |runtime: &str| {
                reports
                    .iter()
                    .find(|report| report.runtime == runtime)
                    .and_then(|report| report.failure(behaviour))
            };
            if std::env::var_os("CAPSID_VERBOSE").is_some() {
                for report in reports {
                    let tried = report.of(behaviour).is_some() || report.broken.is_some();
                    if let Some(text) = report.failure(behaviour).filter(|_| tried) {
                        println!("{name}, {}: {text}", report.runtime);
                    }
                }
            }
            match (failure("capsid"), failure("runc")) {
                (None, _) => {
                    println!("test {name} ... ok");
                    self.passed += 1;
                }
                (Some(_), Some(theirs)) => {
                    let line = theirs
                        .lines()
                        .find(|line| line.contains("rror"))
                        .or(theirs.lines().next());
                    let line = line.unwrap_or_default();
                    let end: String = line
                        .chars()
                        .skip(line.chars().count().saturating_sub(100))
                        .collect();
                    self.skips(&name, &format!("not with runc either: …{end}"));
                }
                (Some(ours), None) => {
                    println!("test {name} ... FAILED");
                    self.failures.push((name, ours));
                }
            }
        }
    }

    /// Every row of an engine, with what was seen of it this time.
    pub fn knows(&mut self, engine: &Engine, reports: &[&Report]) {
        for behaviour in engine.chosen(&[]) {
            let cells = RUNTIMES.map(|runtime| {
                let report = reports.iter().find(|report| report.runtime == runtime)?;
                Some(report.of(behaviour)?.failure.is_none())
            });
            self.rows.push(Row {
                engine: engine.name,
                behaviour,
                cells,
            });
        }
    }

    /// The page's table is one more test.
    pub fn compares_the_page(&mut self) {
        let name = "docs::the_table_is_what_was_seen";
        match docs::update(&self.rows) {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(difference) => {
                println!("test {name} ... FAILED");
                self.failures.push((name.to_owned(), difference));
            }
        }
    }

    /// Says it all in the words of libtest, which tests/run.sh reads.
    pub fn ends(self) -> ExitCode {
        let failed = self.failures.len();
        if failed > 0 {
            let mut text = String::from("\nfailures:\n");
            for (name, failure) in &self.failures {
                let _ = write!(text, "\n---- {name} ----\n{failure}\n");
            }
            println!("{text}");
        }
        let word = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {} passed; {failed} failed",
            self.passed
        );
        ExitCode::from(u8::from(failed > 0))
    }
}
