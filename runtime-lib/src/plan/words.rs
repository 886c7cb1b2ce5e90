//! The words of a plan: what `explain` prints, line by line, and what the goldens compare.

use std::fmt;

use super::process::limit_words;
use super::{IdMap, IdMaps, NetDevice, ParentAction, Plan, Scorer};
use crate::step::{Barrier, Step, namespaces};

/// What the parent does beside the plan's own actions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    /// After the clone, while the child works.
    pub cloned: &'a [String],
    /// After it has had systemd start the unit.
    pub unit: &'a [String],
    /// At last, when the child is ready.
    pub ready: &'a [String],
}

impl fmt::Display for Plan {
    /// How the child is born, each step with its JSON pointer and what the parent does
    /// meanwhile, what is executed, and the notices; `{:#}` adds how each mount is made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Beside::default())
    }
}

impl Plan {
    /// What the parent does while the child waits at this barrier, in its order.
    pub(crate) fn actions(&self, barrier: Barrier, beside: Beside<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        for (_, action) in self.parent.iter().filter(|(at, _)| *at == barrier) {
            lines.push(action.to_string());
            if matches!(action, ParentAction::StartUnit(_)) {
                lines.extend_from_slice(beside.unit);
            }
        }
        if barrier == Barrier::Ready {
            lines.extend_from_slice(beside.ready);
        }
        lines
    }

    /// The plan as text, as its `Display` says.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, beside: Beside<'_>) -> fmt::Result {
        write!(f, "clone")?;
        if !self.namespaces.is_empty() {
            write!(f, " with new namespaces: {}", namespaces(self.namespaces))?;
        }
        if let Some(cgroup) = &self.cgroup {
            write!(f, ", into the cgroup {}", cgroup.display())?;
        }
        writeln!(f)?;
        for line in beside.cloned {
            writeln!(f, "     the parent: {line}")?;
        }
        for (n, planned) in self.steps.iter().enumerate() {
            write!(f, "{:>3}. {}", n + 1, planned.step)?;
            match &planned.pointer {
                Some(pointer) => writeln!(f, "   {pointer}")?,
                None => writeln!(f)?,
            }
            let calls = planned.step.calls();
            if f.alternate() && !calls.is_empty() {
                writeln!(f, "     by {}", calls.join(", "))?;
            }
            if let Step::Meet(barrier) = planned.step {
                for line in self.actions(barrier, beside) {
                    writeln!(f, "     the parent: {line}")?;
                }
            }
        }
        if let Some(program) = &self.program {
            writeln!(f, "program: {:?}", program.argv)?;
            writeln!(f, "  found as the first of: {:?}", program.candidates)?;
        }
        for hook in &self.later {
            writeln!(f, "later: {hook}   {}", hook.pointer())?;
        }
        for notice in &self.notices {
            writeln!(f, "notice: {notice}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NetDevice {
    /// "eth1", "eth1 as net0"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.container == self.host {
            true => Ok(()),
            false => write!(f, " as {}", self.container),
        }
    }
}

impl fmt::Display for ParentAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParentAction::MapIds(maps) => maps.fmt(f),
            ParentAction::CompareMaps(maps) => write!(f, "make sure of: {maps}"),
            ParentAction::Limit {
                resource,
                soft,
                hard,
                pointer,
            } => write!(f, "{}   {pointer}", limit_words(*resource, *soft, *hard)),
            ParentAction::Hook(hook) => write!(f, "{hook}   {}", hook.pointer()),
            ParentAction::OomScoreAdj { score, scorer, .. } => match scorer {
                Scorer::Child => write!(f, "look whether oom_score_adj is {score}"),
                _ => write!(f, "set oom_score_adj to {score}"),
            },
            ParentAction::StartUnit(unit) => write!(f, "have systemd start {unit} with it"),
            ParentAction::Attach(unit) => write!(f, "have systemd put it into {}", unit.name),
            ParentAction::MoveDevices(devices) => {
                let mut comma = "";
                f.write_str("move network devices: ")?;
                for device in devices {
                    write!(f, "{comma}{device}")?;
                    comma = ", ";
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for IdMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |map: &[IdMap]| map.iter().map(ToString::to_string).collect::<Vec<_>>();
        if self.deny_setgroups {
            write!(f, "deny setgroups, ")?;
        }
        let (uid, gid) = (list(&self.uid).join(", "), list(&self.gid).join(", "));
        write!(f, "map uids {uid}, gids {gid}")?;
        match &self.helpers {
            Some((uid, gid)) => write!(f, " by {} and {}", uid.display(), gid.display()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for IdMap {
    /// "0+65536 to 100000": the container's ids and the host's first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{} to {}", self.container, self.size, self.host)
    }
}
