//! `explain`: the very plan that create would run, without running it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use capsid_runtime::{ContainerId, CreateOptions, Error, Explanation, Notice, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::create_flags::CreateFlags;
use super::process_flags::Stay;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
Prints the steps in their order, with which calls each mount is made, what the parent does
meanwhile, and a notice for each setting that will not act as it is written, with its place in
config.json. Nothing is made or changed.
Where the configuration is wrong in several places, it lists them all and fails, as it does with
--strict and a notice.

Examples:
  capsid explain /tmp/b
  capsid explain --overlay --format json /tmp/b";

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    code: &'static str,
    pointer: &'a str,
    text: &'a str,
}

impl<'a> Problem<'a> {
    fn of(error: &'a Error) -> Problem<'a> {
        Problem {
            code: error.code().as_str(),
            pointer: error.pointer().unwrap_or_default(),
            text: error.tail(),
        }
    }
}

impl Format {
    /// All that is wrong: a line for each, or one JSON object with a list.
    fn problems(self, errors: &[Error], unacting: &[Notice]) -> Result<String> {
        match self {
            Format::Text => {
                let problems = errors.iter().map(|error| format!("problem: {error}\n"));
                let notices = unacting.iter().map(|notice| format!("notice: {notice}\n"));
                Ok(problems.chain(notices).collect())
            }
            Format::Json => {
                let problems = errors.iter().map(Problem::of).collect();
                let notices = unacting.iter().map(|notice| Problem {
                    code: "",
                    pointer: &notice.pointer,
                    text: &notice.text,
                });
                let lists: [(_, Vec<Problem>); 2] =
                    [("problems", problems), ("notices", notices.collect())];
                output::json(&BTreeMap::from(lists), b"  ")
            }
        }
    }

    fn plan(self, explanation: &Explanation) -> Result<()> {
        output::print(match self {
            Format::Text => explanation.to_string(),
            Format::Json => output::json(explanation, b"  ")?,
        })
    }
}

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Explain {
    /// The bundle's directory
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,

    /// Plan for a container of this id; it names the default cgroup and the state directory
    #[arg(long, value_name = "ID", default_value = "example")]
    id: String,

    /// Lines for people, or one JSON object
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    format: Format,

    #[command(flatten)]
    flags: CreateFlags,
}

impl Explain {
    pub fn run(self, global: &Global) -> Result<u8> {
        let id = ContainerId::new(&self.id)?;
        // The bundle may be meant for create or for run: a terminal is not refused here.
        let stay = match self.flags.process.console_socket {
            Some(_) => Stay::Detached,
            None => Stay::Foreground,
        };
        let doing = format!("explain {}", self.bundle.display());
        let options = self.flags.options(doing, self.bundle, stay, global)?;
        let runtime = global.runtime()?;
        let problems = runtime.problems(&options)?;
        let unacting = problems.first().map_or(&[][..], Error::notices);
        if problems.len() > 1 || !unacting.is_empty() {
            output::print(self.format.problems(&problems, unacting)?)?;
        }
        if let Some(first) = problems.into_iter().next() {
            return Err(first.during(format!("explain {}", options.bundle.display())));
        }
        let explained = runtime.explain(&id, &options);
        let refused = match explained {
            // The list is what --strict refers to.
            Err(error) if options.strict => {
                let lenient = CreateOptions {
                    strict: false,
                    ..options
                };
                if let Ok(explanation) = runtime.explain(&id, &lenient) {
                    self.format.plan(&explanation)?;
                }
                Err(error)
            }
            explained => explained,
        };
        self.format.plan(&refused?)?;
        Ok(0)
    }
}
