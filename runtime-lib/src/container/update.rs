//! update: other limits for a container, in force at once and kept with its configuration.

use serde_json::Value;

use super::Container;
use super::state::Status;
use super::store::{CONFIG, JOURNAL, STATE};
use crate::Notice;
use crate::cgroup::Enabled;
use crate::error::{Code, Error, Result};
use crate::rdt;
use crate::spec::Resources;
use crate::spec::resources::AT;

const CHECKED: &str = "/linux/resources/memory/checkBeforeUpdate";

/// What is to change.
#[derive(Clone, Debug)]
pub struct Update {
    /// The limits of the container's cgroup.
    pub resources: Resources,
    /// The share of caches and memory bandwidth.
    pub rdt: rdt::Schemata,
    /// Refuse what will not act as written.
    pub strict: bool,
}

impl Container {
    /// Changes the limits of a container that is created, running or paused. All of them, or on
    /// an error none. What would not act as it was written is in the answer.
    ///
    /// # Errors
    /// [`Code::NotRunning`], `container not running`; what is wrong with a value, by a pointer
    /// into the resources; the kernel's refusals.
    pub fn update(&self, update: &Update) -> Result<Vec<Notice>> {
        self.locked()
            .and_then(|container| container.change(update))
            .map_err(|error| error.within(AT).during(format!("update {}", self.id)))
    }

    fn change(mut self, update: &Update) -> Result<Vec<Notice>> {
        if let Status::Creating | Status::Stopped = self.status()? {
            return Err(Error::new(Code::NotRunning, "container not running"));
        }
        let mut config = self.spec()?.raw;
        let mut resources = update.resources.clone();
        if config.pointer(CHECKED) == Some(&Value::Bool(true)) {
            resources.check_usage_unless_told();
        }
        resources.shares_after_idleness(config.pointer(AT));
        let cgroup = self.journal.cgroup.clone();
        let change = cgroup.change(&resources)?;
        let mut notices = resources.notices().to_vec();
        notices.extend(change.notices.iter().map(|notice| Notice {
            pointer: notice.pointer.replacen(AT, "", 1),
            ..notice.clone()
        }));
        if resources.other_devices(config.pointer(AT)) {
            let text = "left as they are: only create sets device rules";
            notices.push(Notice::new("/devices", text));
        }
        if update.strict {
            Notice::refuse(&notices)?;
        }
        resources.merge_into(&mut config);
        update.rdt.merge_into(&mut config);

        let manager = cgroup.manager();
        let made = change.make(&*manager);
        // Also of a change that was refused: what it has enabled stays.
        let remembered = self.remember(manager.enabled());
        if let (Err(_), Err(error)) = (&made, &remembered) {
            tracing::warn!("the state does not say which controllers are enabled now: {error}");
        }
        made?;
        let before = remembered.and_then(|()| self.change_rdt(&update.rdt));
        let frozen = before.and_then(|before| {
            let frozen = self.freeze_config(&config);
            if let (Err(_), Some(group), Some(before)) = (&frozen, &self.journal.rdt, before) {
                group.take_back(before);
            }
            frozen
        });
        frozen.inspect_err(|_| change.take_back(&*manager))?;
        Ok(notices)
    }

    /// Adds to the state which controllers are enabled above the container's cgroup.
    fn remember(&mut self, enabled: Enabled) -> Result<()> {
        let Some(record) = self.record.as_mut().filter(|_| !enabled.is_empty()) else {
            return Ok(());
        };
        for (place, controllers) in enabled {
            let known = record.subtree_control.entry(place).or_default();
            known.extend(controllers);
            known.sort_unstable();
            known.dedup();
        }
        self.state_dir.record(STATE, record).map(drop)
    }

    /// Gives the container's resctrl group other schemata. Where it has no group, it gets one.
    fn change_rdt(&mut self, schemata: &rdt::Schemata) -> Result<Option<rdt::Before>> {
        if schemata.is_empty() {
            return Ok(None);
        }
        if let Some(group) = &self.journal.rdt {
            return group.change(schemata).map(Some);
        }
        let group = rdt::Group::of_container(self.id.as_str(), schemata)?;
        // Known before it is made, as everything that delete takes back.
        self.journal.rdt = Some(group.clone());
        self.written = Some(self.state_dir.record(JOURNAL, &self.journal)?);
        let joined = self.join_rdt(&group);
        if joined.is_err() {
            // It is gone again: the next update has to make it.
            self.journal.rdt = None;
            self.written = Some(self.state_dir.record(JOURNAL, &self.journal)?);
        }
        joined.map(|()| None)
    }

    fn join_rdt(&self, group: &rdt::Group) -> Result<()> {
        let made = group.make()?;
        for pid in self.processes()? {
            group.add(pid)?;
        }
        made.keep();
        Ok(())
    }

    fn freeze_config(&self, config: &Value) -> Result<()> {
        let text = serde_json::to_vec(config)
            .map_err(|error| Error::new(Code::Io, error.to_string()).doing("write JSON"))?;
        self.state_dir.write(CONFIG, &text)
    }
}
