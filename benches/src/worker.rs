//! The measuring process: builds the measuring sticks, enters each view, runs the
//! jobs there, and writes the report. It must not clean up the machine; the
//! supervisor does that, also when this process dies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::args::Args;
use crate::contender::{Contender, FLOOR};
use crate::home;
use crate::job::{Bench, Job};
use crate::machine::Machine;
use crate::report::Report;
use crate::results::REFERENCE;
use crate::site::Site;
use crate::view::{Entered, View};
use crate::{chart, density, table};

/// The C programs beside this crate, and what is built of them.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/floor");

pub fn run(args: &Args, scratch: &Path, cgroup: &str) -> Result<()> {
    // Relative paths would mean something else after the first change of namespace.
    let (json, svg) = (
        std::path::absolute(&args.json)?,
        std::path::absolute(&args.svg)?,
    );
    for file in [&json, &svg] {
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))
            .with_context(|| format!("mkdir for {}", file.display()))?;
    }
    let tools = json.with_file_name("bin");
    let floor = build(&tools, FLOOR)?;
    let (stopwatch, guest) = (build(&tools, "stopwatch")?, build(&tools, "guest")?);

    let (contenders, missing) = Contender::all(args, &floor);
    for name in &missing {
        eprintln!("MISSING: {name}: it is left out of this benchmark");
    }
    anyhow::ensure!(!contenders.is_empty(), "no runtime to measure");
    if !contenders
        .iter()
        .any(|contender| contender.name == REFERENCE)
    {
        eprintln!(
            "WITHOUT {REFERENCE} there are no ratios and no aims to meet (apt-get install {REFERENCE})"
        );
    }

    let mut report = Report::new(Machine::here(), args, &contenders, missing);
    report.machine.warn_if_busy();
    home::enter(cgroup)?;
    let mut programs_done = false;
    for view in View::ALL.into_iter().filter(|view| args.wants_view(*view)) {
        let entered = match Entered::enter(view, scratch)? {
            Ok(entered) => entered,
            Err(reason) => {
                eprintln!("NOT MEASURED: the {} view: {reason}", view.name());
                report
                    .skipped
                    .push(format!("{} view: {reason}", view.name()));
                continue;
            }
        };
        let site = Site::furnish(entered, scratch, cgroup, &stopwatch, &guest)?;
        if let Some(size) = args.density {
            return density(
                &site,
                &contenders,
                size,
                &json.with_file_name("density.json"),
            );
        }
        let bench = Bench {
            site: &site,
            args,
            contenders: &contenders,
        };
        if !programs_done {
            report.rows.extend(bench.programs()?);
            programs_done = true;
        }
        report.rows.extend(bench.measure()?);
        if args.wants(Job::Memory) && !site.has_memory() {
            report.skipped.push(format!(
                "smallest memory limit, {} view: no memory controller",
                view.name()
            ));
        }
    }
    report.machine.load_after = Machine::load();

    fs::write(&json, report.json()).with_context(|| format!("write {}", json.display()))?;
    fs::write(&svg, chart::draw(&report)).with_context(|| format!("write {}", svg.display()))?;
    print!("{}", table::render(&report));
    println!("\nsamples: {}\nchart:   {}", json.display(), svg.display());
    Ok(())
}

/// Containers at once, in the first view that is to be had.
fn density(site: &Site, contenders: &[Contender], size: usize, json: &Path) -> Result<()> {
    anyhow::ensure!(size > 0, "--density 0 is no crowd");
    let found = density::measure(site, contenders, size)?;
    let text = format!("{:#}\n", density::json(&found, size));
    fs::write(json, text).with_context(|| format!("write {}", json.display()))?;
    print!("{}", density::render(&found, size));
    println!("\nsamples: {}", json.display());
    let failed = found.iter().find(|density| density.failure.is_some());
    failed.map_or(Ok(()), |density| {
        anyhow::bail!("{} did not hold {size} containers", density.contender)
    })
}

fn build(directory: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("mkdir {}", directory.display()))?;
    let (source, program) = (
        Path::new(SOURCES).join(name).with_extension("c"),
        directory.join(name),
    );
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&compiler)
        .args(["-O2", "-static", "-Wall", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .with_context(|| format!("start the C compiler {}", compiler.to_string_lossy()))?;
    anyhow::ensure!(status.success(), "{} did not compile", source.display());
    Ok(program)
}
