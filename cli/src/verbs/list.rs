//! `list`: the containers below the state directory, sorted by id. One that can't be read is a
//! warning and does not hide the others.

use capsid_runtime::{Code, Listed, Result, State};
use clap::{Args, ValueEnum};

use super::table::columns;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
The table has the columns ID, PID (0 when stopped), STATUS, BUNDLE, CREATED and OWNER; the JSON
form is an array of what `capsid state` prints.

Examples:
  capsid list
  capsid list --format json
  capsid --root /tmp/state list --quiet";

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct List {
    /// A table for people, or one JSON array
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// Print only the ids, one a line
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub fn run(self, global: &Global) -> Result<u8> {
        let listed = match global.runtime()?.list() {
            // The default directory is made by the first container.
            Err(error) if error.code() == Code::NotFound && !global.root_is_explicit() => {
                Vec::new()
            }
            Err(error) if error.code() == Code::NotFound => {
                return Err(error.hint("no container was made with this --root"));
            }
            listed => listed?,
        };
        let states = readable(listed);
        output::print(match self.format {
            _ if self.quiet => states
                .iter()
                .map(|state| format!("{}\n", state.id))
                .collect(),
            Format::Table => table(&states),
            Format::Json => output::json_line(&states)?,
        })?;
        Ok(0)
    }
}

fn readable(listed: Vec<Listed>) -> Vec<State> {
    let readable = listed
        .into_iter()
        .filter_map(|Listed { id, state }| match state {
            Ok(state) => Some(state),
            Err(error) => {
                let error = error.during(format!("load container {id}"));
                tracing::warn!("{error}");
                None
            }
        });
    readable.collect()
}

fn table(states: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = states.iter().map(|state| {
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            state.bundle.display().to_string(),
            state.created.clone(),
            state.owner.clone(),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    columns(&rows)
}
