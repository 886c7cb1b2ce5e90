//! Telling that memory was what a process has died of: the kernel kills without a word, but it
//! counts.

use serde::Serialize;

use super::Container;
use super::state::Record;
use crate::cgroup::CgroupPlan;
use crate::error::{Code, Error};

/// What is known of a container in which the kernel has killed for want of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OomKilled {
    /// Whether it was init, in a sentence.
    pub reason: &'static str,
    /// How many processes.
    pub processes: u64,
    /// The most memory that all of them together could have, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
}

impl OomKilled {
    /// For an init that was killed after somebody of the container was, for want of memory: the
    /// kernel counts its victims and names none, and anybody can send SIGKILL.
    pub const PERHAPS: &'static str =
        "container init was possibly OOM-killed (memory limit too low?)";

    /// Whether it can have been init.
    pub(super) fn may_be_init(&self) -> bool {
        self.reason == OomKilled::PERHAPS
    }
}

/// runc's words for an init that died before its program ran: nobody else was there.
const INIT: &str = "container init was OOM-killed (memory limit too low?)";
const OTHERS: &str = "processes of the container were OOM-killed, but not its init";

const POINTER: &str = "/linux/resources/memory/limit";

/// An error about a process that has died, said of init or of another one.
pub(super) fn explain(cgroup: &CgroupPlan, error: Error, killed_before: u64, init: bool) -> Error {
    if error.code() != Code::Died || cgroup.oom_kills() <= killed_before {
        return error;
    }
    let tail = match init {
        true => INIT.to_owned(),
        false => format!("{} (possibly OOM-killed)", error.tail()),
    };
    told(cgroup, Error::new(Code::Died, tail))
}

/// The same with the limit.
pub(super) fn told(cgroup: &CgroupPlan, error: Error) -> Error {
    let error = error.at(POINTER);
    match cgroup.memory_limit() {
        Some(0) => error.hint("its memory limit is less than a page"),
        Some(limit) => error.hint(format!("its memory limit is {limit} bytes")),
        None => error,
    }
}

impl Container {
    /// Whether the kernel has killed processes of the container, and which. None as well when
    /// nobody counts, or its cgroup is gone.
    pub fn oom_killed(&self) -> Option<OomKilled> {
        let cgroup = &self.journal.cgroup;
        let processes = cgroup.oom_kills();
        let reason = || match self.record.as_ref().map(Record::signal_of_end) {
            // Whoever has waited for it knows its signal; the kernel tells nobody else.
            None | Some(None | Some(libc::SIGKILL)) => OomKilled::PERHAPS,
            Some(Some(_)) => OTHERS,
        };
        (processes > 0).then(|| OomKilled {
            reason: reason(),
            processes,
            memory_limit: cgroup.memory_limit(),
        })
    }
}

impl Record {
    /// The signal that has ended init, or 0; None: it runs, or somebody has waited for it.
    fn signal_of_end(&self) -> Option<i32> {
        self.init.exit_code().map(|code| code & 0x7f)
    }
}
