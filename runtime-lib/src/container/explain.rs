//! explain: the plan that create would run, as text or data; it runs nothing.

use std::fmt;

use serde::Serialize;

use super::bundle::Bundle;
use super::cgroups::shows_early;
use super::options::CreateOptions;
use super::prepared::Prepared;
use super::{ContainerId, Runtime};
use crate::Notice;
use crate::error::{Error, Result};
use crate::plan::{Beside, Plan, Start};
use crate::step::Step;

/// What create would do, in order. `Display` is for people, `Serialize` for programs.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What is made and limited before the clone.
    pub cgroup: Vec<String>,
    /// What the parent makes and limits after it, while the child works.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub meanwhile: Vec<String>,
    /// The child's steps, with the parent's actions where the child waits for them.
    pub steps: Vec<ExplainedStep>,
    /// Settings that will not act as they were written.
    pub notices: Vec<Notice>,
    #[serde(skip)]
    plan: String,
}

/// One step of the child.
#[derive(Clone, Debug, Serialize)]
pub struct ExplainedStep {
    pub step: String,
    /// The setting that asked for it (RFC 6901); absent where capsid itself does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The system calls that make a mount, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<&'static str>,
    /// What the parent does while the child waits at this step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parent: Vec<String>,
}

impl Runtime {
    /// Everything that is wrong with the bundle's configuration, whatever the machine; the
    /// first of it is what [`Runtime::create`] refuses with.
    ///
    /// # Errors
    /// The bundle or its configuration can't be read.
    pub fn problems(&self, options: &CreateOptions) -> Result<Vec<Error>> {
        Bundle::problems(options)
            .map_err(|error| error.during(format!("explain {}", options.bundle.display())))
    }

    /// The plan that [`Runtime::create`] would run now, with the same checks and refusals.
    ///
    /// # Errors
    /// As [`Runtime::create`], as far as they come before anything is made.
    pub fn explain(&self, id: &ContainerId, options: &CreateOptions) -> Result<Explanation> {
        self.prepare(id, options, Start::WhenTold)
            .map(|prepared| explanation(&prepared))
            .map_err(|error| error.during(format!("explain {}", options.bundle.display())))
    }
}

fn explanation(prepared: &Prepared) -> Explanation {
    let plan = &prepared.plan;
    let mut cgroups = prepared.cgroup.describe(&prepared.limits);
    let mut before = cgroups.begin;
    if shows_early(prepared) {
        before.append(&mut cgroups.finish);
    }
    before.extend(prepared.rdt.iter().flat_map(|group| group.describe()));
    let beside = Beside {
        cloned: &cgroups.finish,
        unit: &cgroups.place,
        ready: &cgroups.delegate,
    };
    let steps = plan.steps.iter().map(|planned| ExplainedStep {
        step: planned.step.to_string(),
        pointer: planned.pointer.clone(),
        calls: planned.step.calls(),
        parent: match planned.step {
            Step::Meet(barrier) => plan.actions(barrier, beside),
            _ => Vec::new(),
        },
    });
    Explanation {
        cgroup: before,
        steps: steps.collect(),
        notices: plan.notices.clone(),
        plan: format!("{:#}", Text { plan, beside }),
        meanwhile: cgroups.finish,
    }
}

/// The plan with what is done beside it.
struct Text<'a> {
    plan: &'a Plan,
    beside: Beside<'a>,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.write(f, self.beside)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.cgroup {
            writeln!(f, "{line}")?;
        }
        f.write_str(&self.plan)
    }
}
