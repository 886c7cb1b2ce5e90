//! How a process is scheduled (config.md, "Linux Process"; sched(7), ioprio_set(2)), in the
//! words of runc where it has the same rule.

use oci_spec::runtime::Process;

use super::refuse;
use crate::error::Error;
use crate::plan::scheduling::policy;
use crate::step::NumberSet;

/// sched(7)
const NICE: std::ops::RangeInclusive<i32> = -20..=19;
const PRIORITY: std::ops::RangeInclusive<i32> = 1..=99;
/// ioprio_set(2)
const IO_LEVEL: std::ops::RangeInclusive<i64> = 0..=7;

/// The policies that each kind of number is for.
const WITH_PRIORITY: &[u32] = &[1, 2];
const DEADLINE: u32 = 6;

/// Each number is in its range, and only where its policy knows it.
pub(super) fn scheduler_fits_its_policy(process: &Process, at: &str) -> Vec<Error> {
    let Some(scheduler) = process.scheduler() else {
        return vec![];
    };
    let at = |field: &str| format!("{at}/scheduler/{field}");
    let Some(policy) = policy(*scheduler.policy()) else {
        let tail = format!("Linux has no scheduling policy {}", scheduler.policy());
        return vec![refuse(at("policy"), tail)];
    };
    let mut errors = Vec::new();
    let nice = scheduler.nice().unwrap_or_default();
    if !NICE.contains(&nice) {
        errors.push(refuse(
            at("nice"),
            format!("invalid scheduler.nice: {nice}"),
        ));
    }
    let priority = scheduler.priority().unwrap_or_default();
    match WITH_PRIORITY.contains(&policy) {
        true if !PRIORITY.contains(&priority) => {
            let (low, high) = (PRIORITY.start(), PRIORITY.end());
            let tail = format!("scheduler.priority {priority} is not between {low} and {high}");
            errors.push(refuse(at("priority"), tail));
        }
        false if priority != 0 => {
            let tail = "scheduler.priority can only be specified for SchedFIFO or SchedRR policy";
            errors.push(refuse(at("priority"), tail));
        }
        _ => {}
    }
    let times = [
        ("runtime", scheduler.runtime().unwrap_or_default()),
        ("deadline", scheduler.deadline().unwrap_or_default()),
        ("period", scheduler.period().unwrap_or_default()),
    ];
    if let Some((name, _)) = times.iter().find(|(_, time)| *time != 0)
        && policy != DEADLINE
    {
        let tail =
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        errors.push(refuse(at(name), tail));
    }
    errors
}

/// sched_setattr(2) says only EINVAL: runtime <= deadline <= period, where 0 of the last is
/// the deadline's.
pub(super) fn deadlines_are_in_order(process: &Process, at: &str) -> Vec<Error> {
    let scheduler = process.scheduler().as_ref();
    let Some(scheduler) = scheduler.filter(|it| policy(*it.policy()) == Some(DEADLINE)) else {
        return vec![];
    };
    let runtime = scheduler.runtime().unwrap_or_default();
    let deadline = scheduler.deadline().unwrap_or_default();
    let period = match scheduler.period().unwrap_or_default() {
        0 => deadline,
        period => period,
    };
    if runtime != 0 && runtime <= deadline && deadline <= period {
        return vec![];
    }
    let tail = format!(
        "SCHED_DEADLINE needs 0 < runtime <= deadline <= period, not {runtime}, {deadline}, {period}"
    );
    vec![refuse(format!("{at}/scheduler"), tail)]
}

/// config.md: "ioPriority".
pub(super) fn io_priority_is_in_range(process: &Process, at: &str) -> Vec<Error> {
    match process.io_priority() {
        Some(asked) if !IO_LEVEL.contains(&asked.priority()) => {
            let tail = format!("invalid ioPriority.Priority: {}", asked.priority());
            vec![refuse(format!("{at}/ioPriority/priority"), tail)]
        }
        _ => vec![],
    }
}

/// config.md: "execCPUAffinity".
pub(super) fn affinities_are_lists(process: &Process, at: &str) -> Vec<Error> {
    let Some(asked) = process.exec_cpu_affinity() else {
        return vec![];
    };
    let lists = [
        ("initial", asked.initial()),
        ("final", asked.cpu_affinity_final()),
    ];
    let judge = |(name, list): (&str, &Option<String>)| {
        let list = list.as_deref().filter(|list| !list.is_empty())?;
        let why = NumberSet::parse(list).err()?;
        Some(refuse(format!("{at}/execCPUAffinity/{name}"), why))
    };
    lists.into_iter().filter_map(judge).collect()
}
