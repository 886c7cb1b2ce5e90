//! The ID argument that most verbs share.

use capsid_runtime::{Container, ContainerId, Error, Result};
use clap::Args;

use crate::global::Global;

#[derive(Args, Default)]
pub struct Id {
    /// The container's id: letters, digits, and _ + - . but no leading dot; 255 bytes at most
    #[arg(value_name = "ID")]
    id: String,
}

impl Id {
    /// The id that `verb` is to make a container of.
    pub fn of_a_new_one(&self, verb: &str) -> Result<ContainerId> {
        checked(
            &self.id,
            &format!(
                "the bundle is named by --bundle, and the id is yours to choose: capsid {verb} --bundle DIR ID"
            ),
        )
    }

    /// The container, for a verb that an error then names.
    pub fn open(&self, global: &Global, verb: &str) -> Result<Container> {
        let id = existing(&self.id).map_err(|error| error.during(verb))?;
        open(global, &id, verb)
    }
}

/// The id of a container that is there.
pub fn existing(id: &str) -> Result<ContainerId> {
    checked(id, "capsid list shows the ids")
}

/// Whoever gives a path has mistaken the argument, and not its letters.
fn checked(id: &str, instead_of_a_path: &str) -> Result<ContainerId> {
    let is_a_path = id.contains('/') || matches!(id, "." | "..");
    ContainerId::new(id).map_err(|error| match is_a_path {
        true => Error::new(error.code(), error.tail()).hint(format!(
            "this is a path, and an id is wanted: {instead_of_a_path}"
        )),
        false => error,
    })
}

/// The container of a checked id; `verb` is what an error says is being done.
pub fn open(global: &Global, id: &ContainerId, verb: &str) -> Result<Container> {
    let opened = global.runtime()?.open(id);
    opened.map_err(|error| error.during(format!("{verb} {id}")))
}
