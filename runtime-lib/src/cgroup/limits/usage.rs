//! `memory.checkBeforeUpdate`: a limit below what is in use already is refused before it is
//! written, where the kernel would begin to reclaim and kill.

use std::path::Path;

use super::asked::Asked;
use super::{Limits, Version};
use crate::cgroup::file;
use crate::error::{Code, Error, Result};

/// The limits that are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageCheck {
    limit: Option<u64>,
    both: Option<u64>,
}

impl UsageCheck {
    pub fn of(asked: &Asked<'_>) -> Option<UsageCheck> {
        let finite = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let check = UsageCheck {
            limit: finite(asked.limit),
            both: finite(asked.swap),
        };
        asked.check_before_update.then_some(check)
    }
}

impl Limits {
    /// Compares with what the cgroup uses; one whose use cannot be read uses nothing.
    ///
    /// # Errors
    /// [`Code::Cgroup`] in runc's words.
    pub(in crate::cgroup) fn check_usage(&self, dir: &Path) -> Result<()> {
        let Some(UsageCheck { limit, both }) = self.usage else {
            return Ok(());
        };
        let name = match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        let usage = file::read_line(&dir.join(name)).ok();
        let Some(usage) = usage.and_then(|text| text.parse::<u64>().ok()) else {
            return Ok(());
        };
        let rows = [
            ("memory+swap", both, "/linux/resources/memory/swap"),
            ("memory", limit, "/linux/resources/memory/limit"),
        ];
        for (what, limit, pointer) in rows {
            if let Some(limit) = limit.filter(|limit| *limit <= usage) {
                let tail = format!("rejecting {what} limit {limit} <= usage {usage}");
                return Err(Error::new(Code::Cgroup, tail)
                    .at(pointer)
                    .hint("memory.checkBeforeUpdate asks for this check"));
            }
        }
        Ok(())
    }
}
