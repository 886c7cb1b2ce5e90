//! The library without the command line: runs a bundle to its end and says how it ended.
//!
//!     cargo run --example embed -- BUNDLE ID

use capsid_runtime::{ContainerId, CreateOptions, Result, Runtime, Seal};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bundle), Some(id)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: embed BUNDLE ID");
        std::process::exit(2);
    };
    let runtime = Runtime::new(Runtime::default_root()?);
    let options = CreateOptions {
        bundle: bundle.into(),
        ..CreateOptions::default()
    };
    // This program's own file is not one that a container may be trusted with: a real
    // embedder executes itself from `seal::seal_self` first, as the command line does.
    let created = runtime.run(&ContainerId::new(&id)?, &options, &Seal::AlreadySealed)?;
    let exit = created.process.wait()?;
    created.container.delete(false)?;
    println!("{id} ended with status {}", exit.code());
    Ok(())
}
