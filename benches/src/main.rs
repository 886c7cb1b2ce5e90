//! `make bench`: capsid against crun, runc and the floor, on one bundle in one
//! run. This file only tells the two processes apart: the supervisor, which keeps
//! the machine clean, and the worker, which measures.
#![forbid(unsafe_code)]

mod args;
mod bundle;
mod chart;
mod contender;
mod crowd;
mod density;
mod figure;
mod hierarchy;
mod home;
mod job;
mod limit;
mod machine;
mod report;
mod results;
mod rounds;
mod site;
mod stopwatch;
mod supervisor;
mod table;
mod view;
mod worker;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    run(&args).unwrap_or_else(|error| {
        eprintln!("capsid-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(args: &args::Args) -> Result<ExitCode> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "needs root: it makes cgroups in every hierarchy and mount namespaces in which only one cgroup version is seen; try `sudo make bench`"
    );
    match (&args.scratch, &args.cgroup) {
        (Some(scratch), Some(cgroup)) => {
            supervisor::accept_signals()?;
            worker::run(args, scratch, cgroup)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => supervisor::run(),
    }
}
