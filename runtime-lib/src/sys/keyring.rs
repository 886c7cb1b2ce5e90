//! keyctl(2), for the session keyring.

use std::ffi::CStr;

use nix::Result;

use super::checked;

/// A session keyring's serial number.
#[derive(Clone, Copy)]
pub struct Keyring(i32);

/// KEYCTL_JOIN_SESSION_KEYRING: a new session keyring of this name.
pub fn join_session(name: &CStr) -> Result<Keyring> {
    // SAFETY: `name` is NUL-terminated.
    let serial = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    Ok(Keyring(serial as i32))
}

/// KEYCTL_DESCRIBE: "type;uid;gid;permissions;description" into `buffer`; its full length.
pub fn describe(keyring: Keyring, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the pointer and the length are those of `buffer`.
    let length = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            keyring.0,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    Ok(length as usize)
}

/// KEYCTL_SETPERM
pub fn set_permissions(keyring: Keyring, permissions: u32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SETPERM,
            keyring.0,
            permissions,
        )
    })?;
    Ok(())
}
