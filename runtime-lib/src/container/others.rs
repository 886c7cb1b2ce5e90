//! The other containers of a state root: who of the living has what only one may have, be it a
//! cgroup or an overlay's directory. Nothing is left behind that could block it: who lives, the
//! kernel says.

use super::state::{Journal, Status};
use super::store::{Hold, is_unread};
use super::{Container, ContainerId, Runtime};
use crate::error::{Code, Result};

impl Runtime {
    /// A container other than `own` that may live, and of whose journal `has` is true.
    pub(super) fn living_other(
        &self,
        own: &ContainerId,
        has: impl Fn(&Journal) -> bool,
    ) -> Result<Option<ContainerId>> {
        for id in self.ids()? {
            if id == *own {
                continue;
            }
            match self.open(&id) {
                Ok(other) if has(&other.journal) && other.may_live()? => return Ok(Some(id)),
                Err(error) if is_unread(&error) => return Err(error),
                // One that is damaged is its own story.
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Container {
    /// Whether it has a process, or gets one.
    fn may_live(&self) -> Result<bool> {
        match self.status()? {
            // Whoever creates it holds its lock; one that was killed at that does not.
            Status::Creating => match self.runtime.load(&self.id, Hold::LockIfFree) {
                // It may be through by now.
                Ok(now) => Ok(now.status()?.has_process()),
                Err(error) => Ok(error.code() == Code::Exists),
            },
            status => Ok(status.has_process()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use super::super::identity::Identity;
    use super::super::state::Record;
    use super::super::store::{JOURNAL, SCHEMA, STATE, StateDir};
    use super::*;
    use crate::cgroup::{CgroupPlan, Enabled};
    use crate::plan::Conditions;
    use crate::sys::process::pidfd_open;

    fn begun(root: &Path, id: &ContainerId) -> StateDir {
        let state_dir = StateDir::claim(root, id).unwrap();
        let journal = Journal {
            schema: SCHEMA,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: String::new(),
            owner: 0,
            cgroup: CgroupPlan::default(),
            rdt: None,
            overlay_ids: None,
            overlay_dir: None,
            hooks: Vec::new(),
        };
        state_dir.record(JOURNAL, &journal).unwrap();
        state_dir
    }

    /// A state whose init is this very process.
    fn record() -> Record {
        let pid = std::process::id() as i32;
        Record {
            schema: SCHEMA,
            init: Identity::of(pid, &pidfd_open(pid).unwrap()).unwrap(),
            shares_pids: false,
            inherits_keyring: false,
            conditions: Conditions::default(),
            seccomp: false,
            annotations: HashMap::new(),
            notices: Vec::new(),
            subtree_control: Enabled::new(),
        }
    }

    #[test]
    fn a_container_lives_from_its_creation_on_also_when_that_ends_while_it_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let runtime = Runtime::new(root.path());
        let id = ContainerId::new("web").unwrap();
        let state_dir = begun(root.path(), &id);
        let creating = runtime.open(&id).unwrap();
        assert_eq!(creating.status(), Ok(Status::Creating));
        assert_eq!(creating.may_live(), Ok(true), "somebody is at it");
        state_dir.record(STATE, &record()).unwrap();
        state_dir.keep().unwrap();
        assert_eq!(creating.may_live(), Ok(true), "it is there by now");
        let other = ContainerId::new("other").unwrap();
        assert_eq!(runtime.living_other(&other, |_| true), Ok(Some(id.clone())));
        assert_eq!(runtime.living_other(&other, |_| false), Ok(None));
        assert_eq!(runtime.living_other(&id, |_| true), Ok(None));
    }

    #[test]
    fn a_container_whose_creation_was_killed_does_not_live() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::new("web").unwrap();
        begun(root.path(), &id).keep().unwrap();
        let creating = Runtime::new(root.path()).open(&id).unwrap();
        assert_eq!(creating.may_live(), Ok(false));
    }
}
