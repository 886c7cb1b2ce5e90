//! The seccomp filter, and how its listener gets to the parent.

use std::os::fd::AsRawFd;

use super::Child;
use crate::report::{self, Refused, call};
use crate::seccomp::Filter;
use crate::sys::seccomp;

impl Child<'_> {
    /// The listener's number goes by write(2) and the parent fetches it: sendmsg(2) may be what
    /// the listener is to be asked about. (That is why write(2) can't have a listener.)
    pub(super) fn install_seccomp(&self, filter: &Filter) -> Result<(), Refused> {
        let listener = seccomp::install(&filter.program, filter.flags).map_err(call("seccomp"))?;
        match listener {
            Some(listener) => self.ask(&report::listener(listener.as_raw_fd())),
            None => Ok(()),
        }
    }
}
