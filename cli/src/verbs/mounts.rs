//! `mounts`: binds and tmpfs that come into a running container, and go again.

use std::path::{Path, PathBuf};

use capsid_runtime::{Added, Code, Detach, Error, Result};
use clap::{Args, Subcommand, ValueEnum};
use oci_spec::runtime::{Mount, MountBuilder};

use super::container_id::Id;
use super::table::columns;
use crate::global::Global;
use crate::output;

const NOTES: &str = "\
A mount can come into a container that is created, running or paused. It is gone when the
container is, and none of it is ever seen on the host.

Examples:
  capsid mounts add --options ro web /srv/data /data
  capsid mounts add --type tmpfs --options size=64m,mode=1777 web scratch /scratch
  capsid mounts list web
  capsid mounts remove web /data";

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Mounts {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Mount a directory or file of the host, or a new tmpfs
    Add(Add),
    /// Unmount what `mounts add` has mounted
    Remove(Remove),
    /// List what `mounts add` has mounted and is still there
    List(List),
}

const ADD_NOTES: &str = "\
The place is made where it is missing: a directory, or a file for a file. No symbolic link leads
it out of the container, and nothing is mounted in /proc but over the files that lxcfs serves.

Examples:
  capsid mounts add web /srv/data /data
  capsid mounts add -o rbind,rro web /srv /srv
  capsid mounts add -t tmpfs -o size=64m web scratch /scratch";

#[derive(Args)]
#[command(after_help = ADD_NOTES)]
struct Add {
    #[command(flatten)]
    id: Id,

    /// What of the host is mounted, or the name of the tmpfs
    source: PathBuf,

    /// Where in the container
    destination: PathBuf,

    /// A bind of the source, or a new tmpfs
    #[arg(short, long, value_name = "TYPE", default_value = "bind")]
    r#type: Type,

    /// Mount options as in config.json, with commas between; may repeat. Not here: idmap, tmpcopyup,
    /// copy-symlink, src-nofollow, remount
    #[arg(short, long, value_name = "OPTIONS")]
    options: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Bind,
    Tmpfs,
}

const REMOVE_NOTES: &str = "\
What config.json has mounted can't be removed.

Example:
  capsid mounts remove web /data";

#[derive(Args)]
#[command(after_help = REMOVE_NOTES)]
struct Remove {
    #[command(flatten)]
    id: Id,

    /// Where in the container, as `mounts list` shows it
    destination: PathBuf,

    /// Also when processes use it, or mounts lie on it: out of sight now, and gone with its last user
    #[arg(short, long)]
    lazy: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    id: Id,

    /// A table for people, or one JSON array with entries as in config.json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Mounts {
    pub fn run(self, global: &Global) -> Result<u8> {
        match self.action {
            Action::Add(add) => add.run(global)?,
            Action::Remove(remove) => remove.run(global)?,
            Action::List(list) => list.run(global)?,
        }
        Ok(0)
    }
}

impl Add {
    fn run(self, global: &Global) -> Result<()> {
        let container = self.id.open(global, "mounts add")?;
        let mount = self
            .mount()
            .map_err(|error| error.during(format!("mounts add {}", container.id())))?;
        container.mounts().add(&mount)
    }

    fn mount(&self) -> Result<Mount> {
        let kind = match self.r#type {
            Type::Bind => "bind",
            Type::Tmpfs => "tmpfs",
        };
        MountBuilder::default()
            .destination(absolute(&self.destination)?)
            .typ(kind)
            .source(self.source.clone())
            .options(words(&self.options))
            .build()
            .map_err(|error| Error::new(Code::InvalidArgument, error.to_string()))
    }
}

impl Remove {
    fn run(self, global: &Global) -> Result<()> {
        let container = self.id.open(global, "mounts remove")?;
        let detach = match self.lazy {
            true => Detach::Lazily,
            false => Detach::Unused,
        };
        let destination = absolute(&self.destination)
            .map_err(|error| error.during(format!("mounts remove {}", container.id())))?;
        container.mounts().remove(destination, detach)
    }
}

impl List {
    fn run(self, global: &Global) -> Result<()> {
        let added = self.id.open(global, "mounts list")?.mounts().list()?;
        output::print(match self.format {
            Format::Table => table(&added),
            Format::Json => output::json_line(&added)?,
        })
    }
}

/// Relative ones would mean another place with every reader.
fn absolute(destination: &Path) -> Result<&Path> {
    match destination.is_absolute() {
        true => Ok(destination),
        false => Err(
            Error::new(Code::InvalidArgument, "the destination must be absolute")
                .path(destination)
                .hint("a path of the container begins with /"),
        ),
    }
}

/// As mount(8) takes them: several `--options`, each of several words.
fn words(options: &[String]) -> Vec<String> {
    let words = options.iter().flat_map(|list| list.split(','));
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn table(added: &[Added]) -> String {
    let header = ["DESTINATION", "TYPE", "SOURCE", "OPTIONS"].map(str::to_owned);
    let rows = added.iter().map(|mount| {
        [
            mount.destination.display().to_string(),
            mount.fstype.clone(),
            mount.source.display().to_string(),
            mount.options.join(","),
        ]
    });
    let rows: Vec<[String; 4]> = std::iter::once(header).chain(rows).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_at_commas_and_may_repeat() {
        let given = ["ro,nosuid".to_owned(), String::new(), "size=1m".to_owned()];
        assert_eq!(words(&given), ["ro", "nosuid", "size=1m"]);
    }

    #[test]
    fn a_relative_destination_is_refused() {
        assert!(absolute(Path::new("data")).is_err());
        assert!(absolute(Path::new("/data")).is_ok());
    }
}
