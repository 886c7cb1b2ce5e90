//! The verbs: one file each, and this table of them. A verb turns its flags into one call of
//! the library and the answer into its output; it returns the exit code of success.

mod activation;
mod completion;
mod container_id;
mod create;
mod create_flags;
mod delete;
mod events;
mod exec;
mod explain;
mod features;
mod info;
mod kill;
mod list;
mod matching;
mod mounts;
mod pause;
mod process_flags;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod table;
mod update;
mod user;

pub use update::Update;

use capsid_runtime::Result;
use clap::{Args, Command, Subcommand};

use crate::global::Global;

// Deferred: only the flags of the verb that is asked for are built.
#[derive(Subcommand)]
#[command(defer = true)]
pub enum Verb {
    /// Make a container from a bundle, ready to start
    Create(create::Create),
    /// Start the program of a created container
    Start(start::Start),
    /// Make a container from a bundle and start it
    Run(run::Run),
    /// Run a further command in a running container
    Exec(exec::Exec),
    /// Print a container's state as JSON
    State(state::State),
    /// List the containers
    List(list::List),
    /// List the processes of a container
    Ps(ps::Ps),
    /// Print what a container uses, and what happens to it
    Events(events::Events),
    /// Send a signal to a container's process
    Kill(kill::Kill),
    /// Mount something in a running container, or unmount it
    Mounts(mounts::Mounts),
    /// Change the limits of a container
    Update(update::Update),
    /// Freeze all processes of a container
    Pause(pause::Pause),
    /// Let the processes of a paused container go on
    Resume(resume::Resume),
    /// Remove containers and all that they hold
    Delete(delete::Delete),
    /// Write a config.json to start from
    Spec(spec::Spec),
    /// Print what create would do with a bundle, step by step
    Explain(explain::Explain),
    /// Print what this runtime supports as JSON
    Features(features::Features),
    /// Print what this machine has for containers, and what it lacks
    Info(info::Info),
    /// Print a script that completes command lines in a shell
    Completion(completion::Completion),
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
            Verb::Events(verb) => verb.run(global),
            Verb::Kill(verb) => verb.run(global),
            Verb::Mounts(verb) => verb.run(global),
            Verb::Update(verb) => verb.run(global),
            Verb::Pause(verb) => verb.run(global),
            Verb::Resume(verb) => verb.run(global),
            Verb::Delete(verb) => verb.run(global),
            Verb::Spec(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(global),
            Verb::Features(verb) => verb.run(),
            Verb::Info(verb) => verb.run(global),
            Verb::Completion(verb) => verb.run(),
        }
    }
}

/// Gives a verb its flags.
type Flags = fn(Command) -> Command;

/// The verbs that engines call for every container. A test holds them against the whole parser's.
const OF_ENGINES: [(&str, Flags); 7] = [
    ("create", create::Create::augment_args),
    ("start", start::Start::augment_args),
    ("run", run::Run::augment_args),
    ("exec", exec::Exec::augment_args),
    ("state", state::State::augment_args),
    ("kill", kill::Kill::augment_args),
    ("delete", delete::Delete::augment_args),
];

/// The flags of one of them.
pub fn of_engines(name: &str) -> Option<Command> {
    let (name, flags) = OF_ENGINES.into_iter().find(|(verb, _)| *verb == name)?;
    Some(flags(Command::new(name)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::global::CommandLine;

    #[test]
    fn a_verb_that_engines_call_has_alone_the_flags_that_it_has_among_all() {
        let mut whole = CommandLine::command();
        whole.build();
        for (name, _) in OF_ENGINES {
            let mut alone = of_engines(name).unwrap();
            alone.build();
            let among_all = whole.find_subcommand(name).unwrap();
            let flags = |command: &Command| -> Vec<String> {
                let arguments = command.get_arguments();
                arguments.map(|flag| format!("{flag:?}")).collect()
            };
            assert_eq!(flags(&alone), flags(among_all), "{name}");
        }
    }
}
