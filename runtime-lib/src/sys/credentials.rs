//! Ids and capabilities of the calling thread, by the calls themselves: glibc's wrappers
//! would try to reach every thread of the process that this one was cloned from.

use nix::Result;

use super::checked;

/// setgroups(2)
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the pointer and the length are those of `groups`; gid_t is a u32.
    checked(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// setresgid(2): real, effective and saved.
pub fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// setresuid(2): real, effective and saved.
pub fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// prctl(2) PR_SET_KEEPCAPS
pub fn keep_capabilities() -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
    Ok(())
}

/// prctl(2) PR_CAPBSET_DROP
pub fn drop_bounding(capability: u32) -> Result<()> {
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }.into())?;
    Ok(())
}

/// prctl(2) PR_CAP_AMBIENT_CLEAR_ALL
pub fn clear_ambient() -> Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0, 0, 0) }.into())?;
    Ok(())
}

/// prctl(2) PR_CAP_AMBIENT_RAISE
pub fn raise_ambient(capability: u32) -> Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE;
    // SAFETY: the call takes no pointer.
    checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) }.into())?;
    Ok(())
}

/// capset(2) of the calling thread, one bit a capability (version 3 of the call).
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data records, which outlive the call.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}
