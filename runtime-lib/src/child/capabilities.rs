//! Capability sets that are changed one capability at a time (capabilities(7)).

use nix::errno::Errno;

use crate::report::{Refused, call};
use crate::sys::credentials;

pub(super) fn drop_bounding(set: u64) -> Result<(), Refused> {
    for capability in bits(set) {
        match credentials::drop_bounding(capability) {
            Ok(()) => {}
            // Above the last capability that this kernel has.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(Refused::new("prctl", errno)),
        }
    }
    Ok(())
}

/// What is not both permitted and inheritable can't be ambient, and the plan has said so.
pub(super) fn ambient(set: u64) -> Result<(), Refused> {
    credentials::clear_ambient().map_err(call("prctl"))?;
    for capability in bits(set) {
        match credentials::raise_ambient(capability) {
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(errno) => return Err(Refused::new("prctl", errno)),
        }
    }
    Ok(())
}

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| set & (1 << bit) != 0)
}
