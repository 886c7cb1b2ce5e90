//! The session keyring (keyrings(7)).

use std::ffi::CStr;

use nix::errno::Errno;

use crate::report::{Refused, call};
use crate::sys::keyring;

/// Search permission for the owner (keyctl_setperm(3)), so that a process of the container
/// which lost the possession of the keyring still finds it.
const USER_SEARCH: u32 = 0x0008_0000;

pub(super) fn session_keyring(name: &CStr) -> Result<(), Refused> {
    let joined = match keyring::join_session(name) {
        // A kernel without keyrings, or a filter that hides them.
        Err(Errno::ENOSYS) => return Ok(()),
        result => result.map_err(call("keyctl"))?,
    };
    // The longest id, and what comes before it; what doesn't fit isn't copied at all.
    let mut text = [0; 512];
    let length = keyring::describe(joined, &mut text).map_err(call("keyctl"))?;
    let described = text.get(..length.min(text.len())).unwrap_or_default();
    let permissions = described.split(|b| *b == b';').nth(3);
    let permissions = permissions
        .and_then(|field| std::str::from_utf8(field).ok())
        .and_then(|field| u32::from_str_radix(field, 16).ok())
        .ok_or(Refused::new("keyctl", Errno::EPROTO))?;
    keyring::set_permissions(joined, permissions | USER_SEARCH).map_err(call("keyctl"))
}
