//! The flags of every verb that starts a process (create, run and exec), and what they mean: what
//! becomes of its terminal, its pid and its descriptors.

use std::path::PathBuf;

use capsid_runtime::{Console, Result, not_preserved};
use clap::Args;

/// Whether the command stays until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    Foreground,
    Detached,
}

// The flags that exec has too: what becomes of the process that is started. (A doc comment
// here would become the help of the verb.)
#[derive(Args)]
pub struct ProcessFlags {
    /// Send the master of the process's terminal over the Unix stream socket at SOCKET; needed
    /// when the process has a terminal and capsid does not stay
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Write the process's pid to FILE once everything else has succeeded
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Send a pidfd of the process over the Unix stream socket at SOCKET
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,

    /// Let the process keep the N descriptors that follow standard error: 3 to 2+N
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub preserve_fds: u32,
}

/// Who listens to seccomp filters, for every container whose configuration doesn't say: crun's variable.
pub fn seccomp_receiver() -> Option<PathBuf> {
    let named = std::env::var_os("RUN_OCI_SECCOMP_RECEIVER")?;
    (!named.is_empty()).then(|| named.into())
}

/// Who takes the terminal that the process may ask for.
pub fn console(socket: Option<PathBuf>, stay: Stay) -> Result<Console> {
    match (socket, stay) {
        (Some(socket), Stay::Detached) => Ok(Console::Socket(socket)),
        (None, Stay::Detached) => Ok(Console::Nobody),
        (None, Stay::Foreground) => Ok(Console::Caller),
        (Some(_), Stay::Foreground) => Err(Console::useless_socket(
            "in the foreground, the terminal is the caller's own: add --detach, or leave --console-socket out",
        )),
    }
}

/// O_CLOEXEC as fdinfo shows it (proc_pid_fdinfo(5)).
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// Refuses descriptors that the caller did not pass on: the container must get neither holes
/// nor capsid's own, which are all close-on-exec. (The library refuses only holes: what is
/// close-on-exec in an embedder is its own to give.)
pub fn preserved(count: u32) -> Result<u32> {
    for fd in (3..).take(count as usize) {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
        let flags = info.ok().as_deref().and_then(flags_of);
        if flags.is_none_or(|flags| flags & CLOSE_ON_EXEC != 0) {
            return Err(not_preserved(fd, count));
        }
    }
    Ok(count)
}

fn flags_of(info: &str) -> Option<u32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_console_socket_and_the_foreground_exclude_each_other() {
        let socket = || Some(PathBuf::from("/s"));
        assert_eq!(
            console(socket(), Stay::Foreground).unwrap_err().tail(),
            "cannot use console socket if runc will not detach or allocate tty"
        );
        assert_eq!(
            console(socket(), Stay::Detached),
            Ok(Console::Socket("/s".into()))
        );
        assert_eq!(console(None, Stay::Detached), Ok(Console::Nobody));
        assert_eq!(console(None, Stay::Foreground), Ok(Console::Caller));
    }

    #[test]
    fn a_descriptor_of_our_own_is_not_preserved() {
        // Every descriptor that Rust opens is close-on-exec, so one that lies in the range is
        // refused, and so is a hole.
        let own = File::open("/dev/null").unwrap();
        let count = own.as_raw_fd() as u32 - 2;
        let error = preserved(count).unwrap_err().to_string();
        assert!(error.contains("unable to stat preserved-fd"), "{error}");
        assert_eq!(preserved(0), Ok(0));
    }

    #[test]
    fn flags_are_read_as_octal() {
        assert_eq!(
            flags_of("pos:\t0\nflags:\t02100000\nmnt_id:\t9\n"),
            Some(0o2_100_000)
        );
        assert_eq!(flags_of("pos:\t0\n"), None);
    }
}
