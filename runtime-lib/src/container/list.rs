//! list: every container below the state root.

use super::state::State;
use super::{ContainerId, Runtime};
use crate::error::{Code, Error, Result};

/// One entry of [`Runtime::list`].
#[derive(Debug)]
pub struct Listed {
    pub id: String,
    /// The state, or why it can't be told; the others are listed all the same.
    pub state: Result<State>,
}

impl Runtime {
    /// All containers, sorted by id. Directories whose names are no ids are passed over.
    ///
    /// # Errors
    /// [`Code::NotFound`] when the state root does not exist.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let describe = |id: ContainerId| Listed {
            state: self.open(&id).and_then(|container| container.listed()),
            id: id.to_string(),
        };
        let listed = self.ids()?.into_iter().map(describe);
        // A container that is deleted while we look is no longer one.
        Ok(listed.filter(|entry| !is_gone(entry)).collect())
    }

    /// The ids below the state root, sorted.
    pub(super) fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = std::fs::read_dir(&self.root).map_err(|error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::Io,
            };
            let refused = Error::io(code, "open", &error).path(&self.root);
            match error.kind() {
                std::io::ErrorKind::NotADirectory => refused.hint("see --root"),
                _ => refused,
            }
        })?;
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<_> = names
            .filter_map(|name| ContainerId::new(&name).ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

impl super::Container {
    fn listed(&self) -> Result<State> {
        let mut state = self.state()?;
        state.owner = user_name(self.journal.owner);
        Ok(state)
    }
}

fn is_gone(entry: &Listed) -> bool {
    entry
        .state
        .as_ref()
        .is_err_and(|error| error.code() == Code::NotFound)
}

/// The name of a host user in /etc/passwd, else the number. (A static binary has no NSS.)
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    names
        .into_iter()
        .next()
        .unwrap_or_else(|| format!("#{uid}"))
}
