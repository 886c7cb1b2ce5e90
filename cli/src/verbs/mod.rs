//! The verbs: one file each, and this table of them. A verb turns its flags into one call of
//! the library and the answer into its output; it returns the exit code of success.

mod container_id;
mod create;
mod delete;
mod exec;
mod explain;
mod features;
mod kill;
mod launch;
mod list;
mod matching;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod table;

use capsid_runtime::Result;
use clap::Subcommand;

use crate::global::Global;

#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    Create(create::Create),
    Start(start::Start),
    Run(run::Run),
    Exec(exec::Exec),
    State(state::State),
    List(list::List),
    Ps(ps::Ps),
    Kill(kill::Kill),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Delete(delete::Delete),
    Spec(spec::Spec),
    Explain(explain::Explain),
    Features(features::Features),
}

impl Verb {
    pub fn run(self, global: &Global) -> Result<u8> {
        match self {
            Verb::Create(verb) => verb.run(global),
            Verb::Start(verb) => verb.run(global),
            Verb::Run(verb) => verb.run(global),
            Verb::Exec(verb) => verb.run(global),
            Verb::State(verb) => verb.run(global),
            Verb::List(verb) => verb.run(global),
            Verb::Ps(verb) => verb.run(global),
            Verb::Kill(verb) => verb.run(global),
            Verb::Pause(verb) => verb.run(global),
            Verb::Resume(verb) => verb.run(global),
            Verb::Delete(verb) => verb.run(global),
            Verb::Spec(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(global),
            Verb::Features(verb) => verb.run(),
        }
    }
}
