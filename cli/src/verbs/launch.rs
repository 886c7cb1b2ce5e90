//! The flags that create, run and explain share: how a bundle becomes a container.

use std::path::PathBuf;

use capsid_runtime::lxcfs::USUAL_PLACE;
use capsid_runtime::{Code, Console, CreateOptions, Error, Overlay, Result, not_preserved};
use clap::Args;

use crate::global::Global;
use crate::terminal;

/// Whether the command stays until the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    Foreground,
    Detached,
}

#[derive(Args)]
pub struct Launch {
    /// Read the configuration from FILE [default: config.json in the bundle]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Never change the bundle's root filesystem: what the container writes goes into a layer
    /// of its own above it, and goes away with the container
    #[arg(long)]
    overlay: bool,

    /// As --overlay, but keep what the container writes in DIR/upper, beside overlayfs' own DIR/work;
    /// DIR is made when it is missing, and may be of one container at a time
    #[arg(long, value_name = "DIR")]
    overlay_dir: Option<PathBuf>,

    /// As --overlay, but over DIR instead of the bundle's root filesystem; give it once for
    /// each layer, the lowest first
    #[arg(long, value_name = "DIR")]
    overlay_lower: Vec<PathBuf>,

    /// Show the files of the lxcfs mounted on DIR in the container's /proc and /sys, so that `free`,
    /// `top` and a JVM see its limits [default of DIR: /var/lib/lxcfs]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = USUAL_PLACE)]
    lxcfs: Option<PathBuf>,

    #[command(flatten)]
    pub process: ProcessFlags,

    /// Enter the root filesystem without pivot_root(2), for one that lies on a ramdisk; the
    /// container can then undo more than it should
    #[arg(long)]
    no_pivot: bool,

    /// Leave the caller's session keyring to the container instead of a new one
    #[arg(long)]
    no_new_keyring: bool,

    /// Refuse a configuration with a setting that will not act as written, where there is else
    /// a warning
    #[arg(long)]
    strict: bool,
}

impl Launch {
    /// `doing` is what an error says was being done.
    pub fn options(
        self,
        doing: String,
        bundle: PathBuf,
        stay: Stay,
        global: &Global,
    ) -> Result<CreateOptions> {
        let read = self.read(bundle, stay, global);
        read.map_err(|error| error.during(doing))
    }

    fn read(self, bundle: PathBuf, stay: Stay, global: &Global) -> Result<CreateOptions> {
        let activation = Activation::of_this_process();
        let wanted = self.overlay || self.overlay_dir.is_some() || !self.overlay_lower.is_empty();
        Ok(CreateOptions {
            bundle,
            config: self.config,
            overlay: wanted.then_some(Overlay {
                keep: self.overlay_dir,
                lower: self.overlay_lower,
            }),
            lxcfs: self.lxcfs,
            console: console(self.process.console_socket, stay)?,
            console_size: match stay {
                Stay::Foreground => Some(terminal::size),
                Stay::Detached => None,
            },
            pid_file: self.process.pid_file,
            pidfd_socket: self.process.pidfd_socket,
            seccomp_receiver: seccomp_receiver(),
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: preserved(activation.count + self.process.preserve_fds)?,
            env: activation.env,
            notify: crate::notify::wanted(),
            cgroups: global.cgroup_driver(),
            rootless: global.rootless(),
            strict: self.strict,
        })
    }
}

/// The descriptors that a service manager passed on (sd_listen_fds(3)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Activation {
    /// They come first after standard error.
    count: u32,
    env: Vec<String>,
}

impl Activation {
    fn of_this_process() -> Activation {
        let variable = |name: &str| std::env::var(name).ok();
        Activation::of(variable, std::process::id)
    }

    /// They are ours when LISTEN_PID says so; the container's process is 1 where it looks.
    fn of(variable: impl Fn(&str) -> Option<String>, own: impl Fn() -> u32) -> Activation {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        match (number("LISTEN_PID"), number("LISTEN_FDS")) {
            (Some(pid), Some(count @ 1..=1024)) if pid == own() => {
                let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
                env.extend(
                    variable("LISTEN_FDNAMES").map(|names| format!("LISTEN_FDNAMES={names}")),
                );
                Activation { count, env }
            }
            _ => Activation::default(),
        }
    }
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
        (Some(_), Stay::Foreground) => Err(Error::new(
            Code::InvalidArgument,
            "cannot use console socket if runc will not detach or allocate tty",
        )
        .hint("in the foreground, the terminal is the caller's own: add --detach, or leave --console-socket out")),
    }
}

/// O_CLOEXEC as fdinfo shows it (proc_pid_fdinfo(5)).
const CLOSE_ON_EXEC: u32 = 0o2_000_000;

/// Refuses descriptors that the caller did not pass on: the container must get neither holes
/// nor capsid's own, which are all close-on-exec.
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
    fn descriptors_of_a_service_manager_are_passed_on_when_they_are_ours() {
        let variables = |pid: &'static str| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some("2".to_owned()),
                "LISTEN_FDNAMES" => Some("web:log".to_owned()),
                _ => None,
            }
        };
        let ours = Activation::of(variables("77"), || 77);
        assert_eq!(ours.count, 2);
        assert_eq!(
            ours.env,
            ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=web:log"]
        );
        assert_eq!(
            Activation::of(variables("78"), || 77),
            Activation::default()
        );
        assert_eq!(Activation::of(|_| None, || 77), Activation::default());
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
