//! How the process is scheduled and executed: scheduler, I/O priority, CPU affinity, memory
//! policy, personality. All of it is set with the runtime's rights, before they are gone, and
//! after the process is in its cgroups, which may narrow what it is given here.

use oci_spec::runtime::{
    IOPriorityClass, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Spec,
};
use serde::{Deserialize, Serialize};

use super::{Open, Plan};
use crate::error::{Code, Error, Result};
use crate::step::scheduling::{IO_CLASSES, MEMORY_FLAGS, MEMORY_MODES, POLICIES};
use crate::step::{IoPriority, MemoryPolicy, NumberSet, Scheduler, Step};

/// Of personality(2), by the words of config-linux.md.
const PER_LINUX: i32 = 0;
const PER_LINUX32: i32 = 8;

/// linux/sched.h
fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// What every process of the container executes under, those of exec as well: the settings
/// that config.json has beside its process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personality: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryPolicy>,
    /// The cgroup has CPUs of its own, which some schedulers don't go with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    own_cpus: bool,
}

impl Conditions {
    /// Those of a configuration.
    ///
    /// # Errors
    /// A list of memory nodes that is none.
    pub fn of(config: &Spec) -> Result<Conditions> {
        let linux = config.linux().as_ref();
        let personality = linux.and_then(|linux| linux.personality().as_ref());
        let memory = linux.and_then(|linux| linux.memory_policy().as_ref());
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let cpu = resources.and_then(|resources| resources.cpu().as_ref());
        Ok(Conditions {
            personality: personality.map(|asked| match asked.domain() {
                LinuxPersonalityDomain::PerLinux => PER_LINUX,
                LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
            }),
            memory: memory.map(memory_policy).transpose()?,
            own_cpus: cpu
                .and_then(|cpu| cpu.cpus().as_deref())
                .is_some_and(|cpus| !cpus.is_empty()),
        })
    }

    /// Whether none was asked for.
    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// The steps that set them.
    pub(super) fn set(&self, plan: &mut Plan) {
        plan.own_cpus = self.own_cpus;
        if let Some(persona) = self.personality {
            plan.step_for(Step::Personality(persona), "/linux/personality");
        }
        if let Some(policy) = &self.memory {
            plan.step_for(Step::MemoryPolicy(policy.clone()), "/linux/memoryPolicy");
        }
    }
}

fn memory_policy(asked: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    let nodes = asked.nodes().as_deref().unwrap_or_default();
    let flags = asked.flags().as_deref().unwrap_or_default();
    Ok(MemoryPolicy {
        mode: memory_mode(asked.mode()),
        flags: flags.iter().fold(0, |bits, flag| bits | memory_flag(*flag)),
        nodes: match nodes {
            "" => NumberSet::default(),
            nodes => list(nodes, "/linux/memoryPolicy/nodes")?,
        },
    })
}

/// The number of a memory policy's mode.
fn memory_mode(mode: MemoryPolicyModeType) -> i32 {
    number(&MEMORY_MODES, &mode.to_string())
}

/// The bit of a memory policy's flag.
pub(super) fn memory_flag(flag: MemoryPolicyFlagType) -> i32 {
    number(&MEMORY_FLAGS, &flag.to_string())
}

/// The number of a scheduling policy; None for one that Linux never had (SCHED_ISO).
pub(super) fn policy(policy: LinuxSchedulerPolicy) -> Option<u32> {
    let word = policy.to_string();
    let found = POLICIES.iter().find(|(known, _)| *known == word);
    found.map(|(_, number)| *number)
}

/// The number of a word that the tables are complete for: a test holds that.
fn number<N: Copy + Default>(table: &[(&'static str, N)], word: &str) -> N {
    let found = table.iter().find(|(known, _)| *known == word);
    found.map_or_else(N::default, |(_, number)| *number)
}

/// A list of CPUs or memory nodes.
fn list(text: &str, pointer: &str) -> Result<NumberSet> {
    NumberSet::parse(text).map_err(|why| Error::new(Code::InvalidConfig, why).at(pointer))
}

/// The scheduler and the I/O priority of a process.
pub(super) fn schedule(process: &Process, pointer: &str, plan: &mut Plan) {
    if let Some(asked) = process.scheduler() {
        let flags = asked.flags().as_deref().unwrap_or_default();
        let scheduler = Scheduler {
            policy: policy(*asked.policy()).unwrap_or_default(),
            flags: flags.iter().fold(0, |bits, one| bits | flag(*one)),
            nice: asked.nice().unwrap_or_default(),
            priority: asked.priority().unwrap_or_default().unsigned_abs(),
            runtime: asked.runtime().unwrap_or_default(),
            deadline: asked.deadline().unwrap_or_default(),
            period: asked.period().unwrap_or_default(),
        };
        plan.step_for(Step::Scheduler(scheduler), format!("{pointer}/scheduler"));
    }
    if let Some(asked) = process.io_priority() {
        let priority = IoPriority {
            class: io_class(asked.class()),
            level: u16::try_from(asked.priority()).unwrap_or_default(),
        };
        plan.step_for(Step::IoPriority(priority), format!("{pointer}/ioPriority"));
    }
}

fn io_class(class: IOPriorityClass) -> u16 {
    number(&IO_CLASSES, &class.to_string())
}

/// The CPUs that an exec'd process runs on before and after it joins the container's cgroups
/// (config.md, "execCPUAffinity"). It is never the caller's own affinity that changes: with an
/// initial one the child can't be born in its cgroup, and joins it by itself.
#[derive(Default)]
pub(super) struct ExecAffinity {
    initial: Option<NumberSet>,
    after: Option<NumberSet>,
    at: String,
}

impl ExecAffinity {
    pub(super) fn of(process: &Process, pointer: &str) -> Result<ExecAffinity> {
        let at = format!("{pointer}/execCPUAffinity");
        let asked = process.exec_cpu_affinity().as_ref();
        let cpus = |given: Option<&Option<String>>, name: &str| {
            let text = given.and_then(|text| text.as_deref());
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| list(text, &format!("{at}/{name}")))
                .transpose()
        };
        Ok(ExecAffinity {
            initial: cpus(asked.map(|asked| asked.initial()), "initial")?,
            after: cpus(asked.map(|asked| asked.cpu_affinity_final()), "final")?,
            at,
        })
    }

    /// Before anything else that the child does.
    pub(super) fn before_cgroups(&mut self, plan: &mut Plan) {
        let Some(cpus) = self.initial.take() else {
            return;
        };
        plan.step_for(Step::CpuAffinity(cpus), format!("{}/initial", self.at));
        if let Some(directory) = plan.cgroup.take() {
            let processes = plan.open(Open::Tasks(directory.join("cgroup.procs")));
            plan.step_for(Step::JoinUnified { processes }, "/linux/cgroupsPath");
        }
    }

    /// When the child is in all its cgroups. They say which CPUs it has: since Linux 6.2 the
    /// affinity that whoever calls capsid has would narrow them for good.
    pub(super) fn in_cgroups(&mut self, plan: &mut Plan) {
        match self.after.take() {
            Some(cpus) => plan.step_for(Step::CpuAffinity(cpus), format!("{}/final", self.at)),
            None => plan.step(Step::EveryCpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    fn read<T: DeserializeOwned>(word: &str) -> T {
        serde_json::from_value(json!(word)).unwrap()
    }

    #[test]
    fn every_word_of_the_tables_is_one_of_the_specification() {
        for (word, number) in POLICIES {
            assert_eq!(policy(read(word)), Some(number), "{word}");
        }
        assert_eq!(policy(read("SCHED_ISO")), None);
        for (word, number) in MEMORY_MODES {
            assert_eq!(memory_mode(read(word)), number, "{word}");
        }
        for (word, number) in MEMORY_FLAGS {
            assert_eq!(memory_flag(read(word)), number, "{word}");
        }
        for (word, number) in IO_CLASSES {
            assert_eq!(io_class(read(word)), number, "{word}");
        }
    }

    #[test]
    fn an_io_priority_is_one_number() {
        let priority = IoPriority { class: 1, level: 7 };
        assert_eq!(priority.value(), 0x2007);
    }
}
